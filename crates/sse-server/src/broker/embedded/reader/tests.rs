//! Tests of pages that are read from a log with damaged events.

use std::{num::NonZeroUsize, time::Duration};

use redb::{ReadableTable as _, WriteTransaction};
use sse_proto::Event;

use super::{
    super::{
        commit::CommitBatch, committed_channels::Channels, committed_state::CommittedState,
        open::Location, store::Store,
    },
    *,
};
use crate::broker::{
    BrokerError, Publisher, Retention,
    client_shares::ClientShares,
    clock::Clock,
    idempotency::{AppendItem, KeyLimits},
    lifecycle::{Classes, Write},
};

const LIMITS: PageLimits = PageLimits {
    events_max: 100,
    bytes_max: 1 << 20,
};

/// A log of the events 1-0 to 1-9 in one channel, whose file `change` then damages.
fn log(change: impl FnOnce(&WriteTransaction)) -> Store {
    let retention = Retention {
        events_max: NonZeroUsize::MAX,
        age_max: Duration::MAX,
        bytes_max: u64::MAX,
        channels_max: 10,
        keys: KeyLimits {
            window: Duration::MAX,
            keys_max: 0,
            bytes_max: u64::MAX,
        },
    };
    let state = CommittedState {
        channels: Channels::default(),
        clock: Clock::new(EventId::ZERO, 0),
        numbers: 1..u32::MAX,
        origin: EventId::ZERO,
        bytes: 0,
        lost_ranges: [].into(),
    };
    let shares = ClientShares::new(&retention);
    let store = Store::open(Location::Memory).unwrap();
    let event = Event {
        kind: "click".parse().unwrap(),
        data: "x".into(),
    };
    let append = |transaction: &WriteTransaction| {
        let classes = Classes::default();
        let limits = (&retention, &classes);
        let mut batch = CommitBatch::open(transaction, &state, limits, &shares, 1, 0)?;
        let item = AppendItem {
            events: vec![event; 10],
            idempotency: None,
        };
        batch
            .write(
                Publisher::default(),
                &Channel::default_channel(),
                &Write::of_items(vec![item]),
                &Ok(()),
            )
            .unwrap();
        batch.finish()
    };
    drop(store.write(append).unwrap());
    store
        .write(|transaction| {
            change(transaction);
            Ok(())
        })
        .unwrap();
    store
}

fn read(store: &Store, from: ReadFrom) -> Result<Page, BrokerError> {
    store.read(|transaction| read_page(transaction, &Channel::default_channel(), from, LIMITS))
}

fn read_back(
    store: &Store,
    before: Option<EventId>,
    limits: PageLimits,
) -> Result<BackPage, BrokerError> {
    store.read(|transaction| {
        read_back_page(transaction, &Channel::default_channel(), before, limits)
    })
}

#[test]
fn a_whole_log_is_read_whole_backwards() {
    let store = log(|_| {});
    let two = PageLimits {
        events_max: 2,
        ..LIMITS
    };
    let (mut before, mut seqs) = (None, Vec::new());
    loop {
        let page = read_back(&store, before, two).unwrap();
        seqs.extend(page.events.iter().map(|event| event.id.seq));
        before = page.events.last().map(|event| event.id);
        if !page.more {
            break;
        }
    }
    assert_eq!(seqs, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(read_back(&store, before, two).unwrap().events, []);
}

#[test]
fn a_damaged_event_is_skipped_backwards() {
    for missing in [0, 5, 9] {
        for store in [without(missing), changed(missing)] {
            let seqs: Vec<u64> = read_back(&store, None, LIMITS)
                .unwrap()
                .events
                .iter()
                .map(|event| event.id.seq)
                .collect();
            assert_eq!(
                seqs,
                (0..10)
                    .rev()
                    .filter(|seq| *seq != missing)
                    .collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn a_whole_log_is_read_whole() {
    let store = log(|_| {});
    assert_eq!(read(&store, ReadFrom::Oldest).unwrap().events.len(), 10);
    let after = read(
        &store,
        ReadFrom::Position(Position::After(EventId::new(1, 4))),
    )
    .unwrap();
    assert_eq!(
        (after.start, after.events.len()),
        (Continuity::Contiguous, 5)
    );
}

fn without(seq: u64) -> Store {
    log(|transaction| {
        transaction
            .open_table(EVENTS)
            .unwrap()
            .remove((1, 1, seq))
            .unwrap()
            .expect("it was there");
    })
}

fn changed(seq: u64) -> Store {
    log(|transaction| {
        let mut events = transaction.open_table(EVENTS).unwrap();
        let mut record = events.get((1, 1, seq)).unwrap().unwrap().value().to_vec();
        record[20] ^= 1;
        events.insert((1, 1, seq), record.as_slice()).unwrap();
    })
}

const fn id(seq: u64) -> EventId {
    EventId::new(1, seq)
}

/// Reads to the end from `from`. Returns how the first page starts, the events that follow reported
/// damage, and the sequence numbers of all events.
fn read_on(store: &Store, mut from: ReadFrom) -> (Continuity, Vec<Option<u64>>, Vec<u64>) {
    let (mut start, mut gaps, mut seqs) = (None, Vec::new(), Vec::new());
    loop {
        let page = read(store, from).unwrap();
        start.get_or_insert(page.start);
        if let Continuity::Gap {
            reason: GapReason::Damaged,
            oldest,
            lost: None,
        } = page.start
        {
            assert_eq!(oldest, page.events.first().map(|event| event.id));
            gaps.push(oldest.map(|oldest| oldest.seq));
        }
        seqs.extend(page.events.iter().map(|event| event.id.seq));
        if !page.more {
            return (start.unwrap(), gaps, seqs);
        }
        from = ReadFrom::Position(page.end(from));
    }
}

#[test]
fn a_damaged_event_is_a_gap_and_the_rest_is_read() {
    for damaged in 0..10 {
        for store in [without(damaged), changed(damaged)] {
            let next = (damaged < 9).then_some(damaged + 1);
            for from in [
                ReadFrom::Oldest,
                ReadFrom::Time(0),
                ReadFrom::Position(Position::After(EventId::ZERO)),
            ] {
                let (_, gaps, seqs) = read_on(&store, from);
                assert_eq!(
                    (gaps, seqs),
                    (vec![next], (0..10).filter(|seq| *seq != damaged).collect()),
                    "{from:?}"
                );
            }
            for seq in 0..10 {
                for (position, first) in [
                    (Position::After(id(seq)), seq + 1),
                    (Position::At(id(seq)), seq),
                ] {
                    let (_, gaps, seqs) = read_on(&store, ReadFrom::Position(position));
                    // The event before the damage proves every position up to it, and the row
                    // proves the last id.
                    let is_reported = first <= damaged && position != Position::After(id(9));
                    assert_eq!(
                        gaps,
                        if is_reported { vec![next] } else { vec![] },
                        "{position} {damaged}"
                    );
                    assert_eq!(
                        seqs,
                        (first..10)
                            .filter(|seq| *seq != damaged)
                            .collect::<Vec<_>>()
                    );
                }
            }
        }
    }
}

#[test]
fn each_damaged_range_is_a_gap() {
    let store = log(|transaction| {
        let mut events = transaction.open_table(EVENTS).unwrap();
        for seq in [0, 1, 4, 5, 6, 9] {
            events.insert((1, 1, seq), &b"not a record"[..]).unwrap();
        }
    });
    assert_eq!(
        read_on(&store, ReadFrom::Oldest).1,
        [Some(2), Some(7), None]
    );
    assert_eq!(
        read_on(&store, ReadFrom::Position(Position::After(id(5)))).1,
        [Some(7), None]
    );
    // Event seven names six, so a subscriber that has six misses nothing.
    assert_eq!(
        read_on(&store, ReadFrom::Position(Position::After(id(6)))),
        (Continuity::Contiguous, vec![None], vec![7, 8])
    );
}

#[test]
fn damage_proves_no_id_of_another_log() {
    let foreign = ReadFrom::Position(Position::After(EventId::new(0, 7)));
    for store in [without(5), changed(5)] {
        let (start, gaps, seqs) = read_on(&store, foreign);
        let unknown = Continuity::Gap {
            reason: GapReason::Unknown,
            oldest: Some(id(0)),
            lost: None,
        };
        assert_eq!(
            (start, gaps, seqs),
            (unknown, vec![Some(6)], vec![0, 1, 2, 3, 4, 6, 7, 8, 9])
        );
    }
    let (start, gaps, _) = read_on(&changed(0), foreign);
    assert!(start != Continuity::Contiguous && gaps == [Some(1)]);
    let beyond = ReadFrom::Position(Position::After(id(17)));
    assert_ne!(read_on(&without(9), beyond).0, Continuity::Contiguous);
}

#[test]
fn a_row_that_is_older_than_its_events_is_an_error() {
    let store = log(|transaction| {
        let mut channels = transaction.open_table(CHANNELS).unwrap();
        let row = ChannelRow::decode("sse", channels.get("sse").unwrap().unwrap().value()).unwrap();
        channels
            .insert(
                "sse",
                ChannelRow { last: id(7), ..row }.encode("sse").as_slice(),
            )
            .unwrap();
    });
    assert!(matches!(
        read(&store, ReadFrom::Oldest),
        Err(BrokerError::Damaged(_))
    ));
}

#[test]
fn a_changed_channel_row_is_an_error() {
    let store = log(|transaction| {
        let mut channels = transaction.open_table(CHANNELS).unwrap();
        let mut row = channels.get("sse").unwrap().unwrap().value().to_vec();
        row[30] ^= 1;
        channels.insert("sse", row.as_slice()).unwrap();
    });
    assert!(matches!(
        read(&store, ReadFrom::Oldest),
        Err(BrokerError::Damaged(_))
    ));
}
