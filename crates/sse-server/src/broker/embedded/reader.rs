//! Reads a page out of a snapshot of the log, and proves that nothing is missing in it, or says what is.

use std::ops::Bound;

use redb::ReadTransaction;
use sse_proto::{Channel, EventId, Position, api::GapReason};

use super::{
    record::{ChannelRow, Key, LogHeader, decode_event, decode_forgotten, key},
    store::{CHANNELS, EVENTS, FORGOTTEN, NUMBERS, StoreError},
};
use crate::broker::{
    BackPage, Continuity, Page, PageLimits, ReadFrom, Stored,
    continuity::{judge, judge_time},
};

/// Where a channel begins that has no row: after its last id, if it was forgotten and that is known; or else where all
/// such channels begin.
fn origin_of(transaction: &ReadTransaction, channel: &Channel) -> Result<EventId, StoreError> {
    match transaction.open_table(FORGOTTEN)?.get(channel.as_str())? {
        Some(last) => decode_forgotten(channel.as_str(), last.value())
            .ok_or_else(|| damaged(channel, "its last id has a wrong checksum")),
        None => numbers(transaction).map(|numbers| numbers.origin),
    }
}

/// What belongs to the whole log.
pub(super) fn numbers(transaction: &ReadTransaction) -> Result<LogHeader, StoreError> {
    let row = transaction.open_table(NUMBERS)?.get(LogHeader::KEY)?;
    let numbers = row.and_then(|row| LogHeader::decode(row.value()));
    numbers.ok_or_else(|| {
        StoreError::Damaged(
            "the row of the log's numbers is missing or has a wrong checksum".to_owned(),
        )
    })
}

fn damaged(channel: &Channel, what: &str) -> StoreError {
    StoreError::Damaged(format!("channel {channel}: {what}"))
}

fn row_of(transaction: &ReadTransaction, channel: &Channel) -> Result<ChannelRow, StoreError> {
    match transaction.open_table(CHANNELS)?.get(channel.as_str())? {
        Some(bytes) => ChannelRow::decode(channel.as_str(), bytes.value())
            .ok_or_else(|| damaged(channel, "its row has a wrong checksum")),
        None => Ok(ChannelRow::new(0, origin_of(transaction, channel)?)), // numbers start at 1: no event has this one
    }
}

/// A page of `channel` backwards, from its newest event or the one before `before`.
///
/// Events that are damaged or missing are passed over: whoever finds a place to begin so reads forwards from there, and is
/// told then.
pub(super) fn back_page(
    transaction: &ReadTransaction,
    channel: &Channel,
    before: Option<EventId>,
    limits: PageLimits,
) -> Result<BackPage, StoreError> {
    let row = row_of(transaction, channel)?;
    let mut page = BackPage {
        events: Vec::new(),
        more: false,
        last: row.last,
    };
    let end = match before {
        Some(before) if before <= row.oldest => return Ok(page),
        Some(before) => before.before(),
        None => row.last,
    };
    if row.count == 0 {
        return Ok(page);
    }
    let events = transaction.open_table(EVENTS)?;
    let mut bytes = 0;
    for entry in events
        .range(key(row.number, row.oldest)..=key(row.number, end))?
        .rev()
    {
        let (entry_key, record) = entry?;
        let Some((event, _)) = decode_event(entry_key.value(), record.value()) else {
            continue;
        };
        if page.events.last().is_some_and(|newer| event.id >= newer.id) {
            continue; // a damaged tree can lead to an event twice
        }
        let full =
            page.events.len() >= limits.events_max || bytes + event.size() > limits.bytes_max;
        if full && !page.events.is_empty() {
            page.more = true;
            break;
        }
        bytes += event.size();
        page.events.push(event);
    }
    Ok(page)
}

/// A page of `channel`.
///
/// Every record names the one before it, so the events of a page are a run without a hole, and the first of them proves
/// whether it follows the position. Where damaged or missing events break the chain, the page ends; the next one, from
/// there, begins with the gap and goes on behind it.
pub(super) fn page(
    transaction: &ReadTransaction,
    channel: &Channel,
    from: ReadFrom,
    limits: PageLimits,
) -> Result<Page, StoreError> {
    let row = row_of(transaction, channel)?;
    let events = transaction.open_table(EVENTS)?;
    let (mut start, floor) = stand(&events, &row, from)?;
    let run = run(channel, &events, &row, floor, limits)?;
    if !run.follows {
        let oldest = run.events.first().map(|event| event.id);
        start = Continuity::Gap {
            reason: GapReason::Damaged,
            oldest,
            lost: None,
        };
    }
    Ok(Page {
        start,
        events: run.events,
        more: run.more,
        last: row.last,
    })
}

type Events = redb::ReadOnlyTable<Key, &'static [u8]>;

/// Whether a position is one of this channel's, and the id after which to read.
fn stand(
    events: &Events,
    row: &ChannelRow,
    from: ReadFrom,
) -> Result<(Continuity, EventId), StoreError> {
    let (start, floor) = match from {
        ReadFrom::Oldest => (Continuity::Contiguous, row.trimmed),
        ReadFrom::Time(ms) => (
            judge_time(ms, &row.extent()),
            EventId::new(ms, 0).before().max(row.trimmed),
        ),
        ReadFrom::Position(position) => {
            let (Position::After(id) | Position::At(id)) = position;
            // What follows the last id is proved by the row alone.
            let is_kept = row.count > 0
                && row.oldest <= id
                && id <= row.last
                && position != Position::After(row.last);
            if is_kept && !is_absent(events, row, id)? {
                (Continuity::Contiguous, position.floor())
            } else {
                (
                    judge(position, false, &row.extent()),
                    position.floor().max(row.trimmed),
                )
            }
        }
    };
    // After a gap it goes on from the oldest.
    Ok((
        start,
        if start == Continuity::Contiguous {
            floor
        } else {
            row.trimmed
        },
    ))
}

/// Whether it is proved that there never was an event with this id.
///
/// In a damaged file an event may not be found, or not be readable, that was there all the same. To tell a gap for it, and
/// to begin anew from the oldest event, would never come to an end. The event that follows knows.
fn is_absent(events: &Events, row: &ChannelRow, id: EventId) -> Result<bool, StoreError> {
    for entry in events.range(key(row.number, id)..=key(row.number, row.last))? {
        let (entry_key, record) = entry?;
        if let Some((event, before)) =
            decode_event(entry_key.value(), record.value()).filter(|(event, _)| event.id >= id)
        {
            return Ok(event.id > id && before < id);
        }
    }
    Ok(false)
}

/// Consecutive events.
struct Run {
    /// Nothing lies between the place that was asked for and the first event, or the end of the log.
    follows: bool,
    events: Vec<Stored>,
    /// Something follows: events, or what is damaged.
    more: bool,
}

/// The run of readable events after `floor`.
fn run(
    channel: &Channel,
    events: &Events,
    row: &ChannelRow,
    floor: EventId,
    limits: PageLimits,
) -> Result<Run, StoreError> {
    let mut run = Run {
        follows: true,
        events: Vec::new(),
        more: false,
    };
    let (mut bytes, mut end) = (0, floor);
    let after = (
        Bound::Excluded(key(row.number, floor)),
        Bound::Included(key(row.number, EventId::new(u64::MAX, u64::MAX))),
    );
    for entry in events.range::<Key>(after)? {
        let (entry_key, record) = match entry {
            Ok(entry) => entry,
            // What was read so far is proved; what cannot be read is found again by the next page.
            Err(_) if !run.events.is_empty() => break,
            Err(error) => return Err(error.into()),
        };
        let Some((event, before)) = decode_event(entry_key.value(), record.value()) else {
            continue;
        };
        if event.id <= end {
            continue; // a damaged tree can lead to an event twice
        }
        if event.id > row.last {
            let what = format!(
                "its row says that {} is its last event, and {} follows",
                row.last, event.id
            );
            return Err(damaged(channel, &what));
        }
        let full = run.events.len() >= limits.events_max || bytes + event.size() > limits.bytes_max;
        if before > end || full {
            if !run.events.is_empty() {
                break;
            }
            run.follows = before <= end;
        }
        end = event.id;
        bytes += event.size();
        run.events.push(event);
    }
    run.more = row.count > 0 && end < row.last;
    if run.more && run.events.is_empty() {
        // Nothing that is left can be read.
        (run.follows, run.more) = (false, false);
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, num::NonZeroUsize, time::Duration};

    use redb::{ReadableTable as _, WriteTransaction};
    use sse_proto::Event;

    use super::*;
    use crate::broker::{
        BrokerError, Retention,
        clock::Clock,
        embedded::{
            commit::{CommitBatch, CommittedState},
            store::{Place, Store},
        },
        idempotency::{AppendItem, KeyLimits},
    };

    const LIMITS: PageLimits = PageLimits {
        events_max: 100,
        bytes_max: 1 << 20,
    };

    /// A log of events 1-0 to 1-9 in one channel, changed behind its back.
    fn log(change: impl FnOnce(&WriteTransaction)) -> Store {
        let retention = Retention {
            events_max: NonZeroUsize::MAX,
            age_max: Duration::MAX,
            bytes_max: u64::MAX,
            channels_max: 10,
            keys: KeyLimits {
                window: Duration::MAX,
                keys_max: 0,
            },
        };
        let state = CommittedState {
            rows: HashMap::new(),
            key_counts: HashMap::new(),
            clock: Clock::new(EventId::ZERO, 0),
            next_number: 1,
            forgotten: HashMap::new(),
            origin: EventId::ZERO,
            bytes: 0,
        };
        let store = Store::open(Place::Memory).unwrap();
        let event = Event {
            kind: "click".parse().unwrap(),
            data: "x".into(),
        };
        let append = |transaction: &WriteTransaction| {
            let mut batch = CommitBatch::open(transaction, &state, &retention, 1, 0)?;
            let part = AppendItem {
                events: vec![event; 10],
                idempotency: None,
            };
            batch
                .append(&Channel::default_channel(), &[part], &Ok(()))?
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
        store.read(|transaction| page(transaction, &Channel::default_channel(), from, LIMITS))
    }

    fn read_back(
        store: &Store,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> Result<BackPage, BrokerError> {
        store
            .read(|transaction| back_page(transaction, &Channel::default_channel(), before, limits))
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
    fn a_damaged_event_is_passed_over_backwards() {
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

    /// How a reader from there starts, whether it was told of damage at once or later, and before what; and what it gets.
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
                        // The event before the one that is damaged is the last proof; and what was the last one is known.
                        let is_told = first <= damaged && position != Position::After(id(9));
                        assert_eq!(
                            gaps,
                            if is_told { vec![next] } else { vec![] },
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
    fn several_stretches_are_several_gaps() {
        let store = log(|transaction| {
            let mut events = transaction.open_table(EVENTS).unwrap();
            for seq in [0, 1, 4, 5, 6, 9] {
                events
                    .insert((1, 1, seq), &b"nothing that was written"[..])
                    .unwrap();
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
        // Six is named by seven, so whoever has it lacks nothing.
        assert_eq!(
            read_on(&store, ReadFrom::Position(Position::After(id(6)))),
            (Continuity::Contiguous, vec![None], vec![7, 8])
        );
    }

    #[test]
    fn damage_proves_no_strangers_id() {
        let stranger = ReadFrom::Position(Position::After(EventId::new(0, 7)));
        for store in [without(5), changed(5)] {
            let (start, gaps, seqs) = read_on(&store, stranger);
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
        let (start, gaps, _) = read_on(&changed(0), stranger);
        assert!(start != Continuity::Contiguous && gaps == [Some(1)]);
        let beyond = ReadFrom::Position(Position::After(id(17)));
        assert_ne!(read_on(&without(9), beyond).0, Continuity::Contiguous);
    }

    #[test]
    fn a_row_that_is_older_than_its_events_is_an_error() {
        let store = log(|transaction| {
            let mut channels = transaction.open_table(CHANNELS).unwrap();
            let row =
                ChannelRow::decode("sse", channels.get("sse").unwrap().unwrap().value()).unwrap();
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
}
