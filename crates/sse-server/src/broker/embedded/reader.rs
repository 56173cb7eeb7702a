//! Reads a page out of a snapshot of the log, and proves that nothing is missing in it.

use redb::{ReadTransaction, ReadableTable};
use sse_proto::{Channel, EventId, Position};

use super::{
    record::{Key, Row, decode_event, id_of, key},
    store::{CHANNELS, EVENTS, FORGOTTEN, META, StoreError},
};
use crate::broker::{
    BackPage, From, Page, PageLimits, Start, Stored,
    continuity::{judge, judge_time},
};

/// Where a channel begins that has no row: after its last id, if it was forgotten and that is known.
fn origin_of(transaction: &ReadTransaction, channel: &Channel) -> Result<EventId, StoreError> {
    let forgotten = transaction.open_table(FORGOTTEN)?.get(channel.as_str())?.map(|last| last.value());
    forgotten.map_or_else(|| origin(transaction), |(ms, seq)| Ok(EventId::new(ms, seq)))
}

/// Where all other channels begin that have no row: after everything that was ever forgotten for good.
pub(super) fn origin(transaction: &ReadTransaction) -> Result<EventId, StoreError> {
    let meta = transaction.open_table(META)?;
    let number = |name| meta.get(name).map(|number| number.map_or(0, |number| number.value()));
    Ok(EventId::new(number("origin_ms")?, number("origin_seq")?))
}

fn damaged(channel: &Channel, what: &str) -> StoreError {
    StoreError::Damaged(format!("channel {channel}: {what}"))
}

fn row_of(transaction: &ReadTransaction, channel: &Channel) -> Result<Row, StoreError> {
    match transaction.open_table(CHANNELS)?.get(channel.as_str())? {
        Some(bytes) => Row::decode(bytes.value()).ok_or_else(|| damaged(channel, "its row has a wrong checksum")),
        None => Ok(Row::new(0, origin_of(transaction, channel)?)), // numbers start at 1: no event has this one
    }
}

/// A page of `channel` backwards, from its newest event or the one before `before`.
///
/// The first record is the channel's last, or the one that the record at `before` names; every record must be the one
/// that the newer one names; and the oldest must name the trim mark: then no event is missing between. When the event
/// at `before` was trimmed meanwhile, so was everything before it.
pub(super) fn back_page(
    transaction: &ReadTransaction,
    channel: &Channel,
    before: Option<EventId>,
    limits: PageLimits,
) -> Result<BackPage, StoreError> {
    let damaged = |what: &str| damaged(channel, what);
    let row = row_of(transaction, channel)?;
    let mut page = BackPage { events: Vec::new(), more: false, last: row.last };
    if row.count == 0 || before.is_some_and(|before| before <= row.oldest) {
        return Ok(page);
    }
    let events = transaction.open_table(EVENTS)?;
    let mut expected = before.unwrap_or(row.last);
    let mut bytes = 0;
    for entry in events.range(key(row.number, row.oldest)..=key(row.number, expected))?.rev() {
        let (entry_key, record) = entry?;
        let entry_key = entry_key.value();
        let (event, previous) = decode_event(entry_key, record.value())
            .ok_or_else(|| damaged(&format!("event {} has a wrong checksum", id_of(entry_key))))?;
        if event.id != expected {
            return Err(damaged(&format!("events are missing after {}", event.id)));
        }
        expected = previous;
        if before == Some(event.id) {
            continue;
        }
        let full = page.events.len() >= limits.events_max || bytes + event.size() > limits.bytes_max;
        if full && !page.events.is_empty() {
            page.more = true;
            return Ok(page);
        }
        bytes += event.size();
        page.events.push(event);
    }
    if expected != row.trimmed {
        return Err(damaged(&format!("events are missing before {}", row.oldest)));
    }
    Ok(page)
}

/// A page of `channel`.
///
/// Every record must name the one before it, from the position (or the trim mark) to the page's end, and the last
/// one must be the channel's last: then no event is missing between.
pub(super) fn page(
    transaction: &ReadTransaction,
    channel: &Channel,
    from: From,
    limits: PageLimits,
) -> Result<Page, StoreError> {
    let damaged = |what: &str| damaged(channel, what);
    let row = row_of(transaction, channel)?;
    let events = transaction.open_table(EVENTS)?;

    // Where to read from, and the id that must come before the first event there, if it is known.
    let (start, first, mut previous) = match from {
        From::Oldest => (Start::Contiguous, row.oldest, Some(row.trimmed)),
        From::Time(ms) => {
            let id = EventId::new(ms, 0);
            let from_oldest = id <= row.oldest;
            (judge_time(ms, &row.extent()), row.oldest.max(id), from_oldest.then_some(row.trimmed))
        }
        From::Position(position) => {
            let (Position::After(id) | Position::At(id)) = position;
            let present = row.count > 0 && events.get(key(row.number, id))?.is_some();
            // What follows the last id is proved by the row alone.
            let is_within = row.count > 0 && row.oldest <= id && id <= row.last;
            let is_to_be_found = is_within && position != Position::After(row.last);
            if !present && is_to_be_found && !is_absent(&events, &row, id)? {
                return Err(damaged(&format!("event {id} is missing")));
            }
            match judge(position, present, &row.extent()) {
                // The event at the position is read along with the rest: it proves the link to the next one.
                Start::Contiguous if present => (Start::Contiguous, id, None),
                start => (start, row.oldest, Some(row.trimmed)),
            }
        }
    };
    let (first, skip_through) = match (start, from) {
        (Start::Contiguous, From::Position(position)) => (first, Some(position.floor())),
        (Start::Contiguous, _) => (first, None),
        (Start::Gap { .. }, _) => {
            previous = Some(row.trimmed);
            (row.oldest, None)
        }
    };

    let mut found: Vec<Stored> = Vec::new();
    let mut bytes = 0;
    let mut more = false;
    let mut reached_end = row.count == 0 || first > row.last;
    for entry in events.range(key(row.number, first)..=key(row.number, EventId::new(u64::MAX, u64::MAX)))? {
        let (entry_key, record) = entry?;
        let entry_key = entry_key.value();
        let (event, before) = decode_event(entry_key, record.value())
            .ok_or_else(|| damaged(&format!("event {} has a wrong checksum", id_of(entry_key))))?;
        if previous.is_some_and(|previous| previous != before) {
            return Err(damaged(&format!("events are missing before {}", event.id)));
        }
        previous = Some(event.id);
        reached_end = event.id == row.last;
        if skip_through.is_some_and(|floor| event.id <= floor) {
            continue;
        }
        let full = found.len() >= limits.events_max || bytes + event.size() > limits.bytes_max;
        if full && !found.is_empty() {
            more = true;
            break;
        }
        bytes += event.size();
        found.push(event);
    }
    if !more && !reached_end {
        return Err(damaged(&format!("events are missing before {}, its last one", row.last)));
    }
    Ok(Page { start, events: found, more, last: row.last })
}

/// Whether the event that follows `id` proves that there never was an event with that id.
///
/// In a damaged file an event may not be found that is there all the same. To tell a gap for it, and to begin anew from
/// the oldest event, would never come to an end.
fn is_absent(events: &impl ReadableTable<Key, &'static [u8]>, row: &Row, id: EventId) -> Result<bool, StoreError> {
    let Some(following) = events.range(key(row.number, id)..=key(row.number, row.last))?.next() else {
        return Ok(false);
    };
    let (entry_key, record) = following?;
    Ok(decode_event(entry_key.value(), record.value()).is_some_and(|(event, before)| before < id && id < event.id))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, num::NonZeroUsize, time::Duration};

    use redb::WriteTransaction;
    use sse_proto::Event;

    use super::*;
    use crate::broker::{
        BrokerError, Retention,
        clock::Clock,
        embedded::{
            group::{Group, State},
            store::{Place, Store},
        },
        once::{KeyLimits, Part},
    };

    const LIMITS: PageLimits = PageLimits { events_max: 100, bytes_max: 1 << 20 };

    /// A log of events 1-0 to 1-9 in one channel, changed behind its back.
    fn log(change: impl FnOnce(&WriteTransaction)) -> Store {
        let retention = Retention {
            events_max: NonZeroUsize::MAX,
            age_max: Duration::MAX,
            bytes_max: u64::MAX,
            channels_max: 10,
            keys: KeyLimits { window: Duration::MAX, keys_max: 0 },
        };
        let state = State {
            rows: HashMap::new(),
            tallies: HashMap::new(),
            clock: Clock::new(EventId::ZERO, 0),
            next_number: 1,
            forgotten: HashMap::new(),
            origin: EventId::ZERO,
            bytes: 0,
        };
        let store = Store::open(Place::Memory).unwrap();
        let event = Event { kind: "click".parse().unwrap(), data: "x".into() };
        let append = |transaction: &WriteTransaction| {
            let mut group = Group::open(transaction, &state, &retention, 1, 0)?;
            let part = Part { events: vec![event; 10], once: None };
            group.append(&Channel::default_channel(), &[part], &Ok(()))?.unwrap();
            group.finish()
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

    fn read(store: &Store, from: From) -> Result<Page, BrokerError> {
        store.read(|transaction| page(transaction, &Channel::default_channel(), from, LIMITS))
    }

    fn read_back(store: &Store, before: Option<EventId>, limits: PageLimits) -> Result<BackPage, BrokerError> {
        store.read(|transaction| back_page(transaction, &Channel::default_channel(), before, limits))
    }

    #[test]
    fn a_whole_log_is_read_whole_backwards() {
        let store = log(|_| {});
        let two = PageLimits { events_max: 2, ..LIMITS };
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
    fn a_missing_event_is_an_error_backwards_too() {
        for missing in [0, 5, 9] {
            let store = log(|transaction| {
                transaction.open_table(EVENTS).unwrap().remove((1, 1, missing)).unwrap().expect("it was there");
            });
            let error = read_back(&store, None, LIMITS).unwrap_err();
            assert!(matches!(&error, BrokerError::Damaged(what) if what.contains("missing")), "{missing}: {error}");
        }
    }

    #[test]
    fn a_whole_log_is_read_whole() {
        let store = log(|_| {});
        assert_eq!(read(&store, From::Oldest).unwrap().events.len(), 10);
        let after = read(&store, From::Position(Position::After(EventId::new(1, 4)))).unwrap();
        assert_eq!((after.start, after.events.len()), (Start::Contiguous, 5));
    }

    #[test]
    fn a_missing_event_is_an_error_and_never_a_shorter_page() {
        for missing in [0, 5, 9] {
            let store = log(|transaction| {
                transaction.open_table(EVENTS).unwrap().remove((1, 1, missing)).unwrap().expect("it was there");
            });
            for from in [From::Oldest, From::Time(0), From::Position(Position::After(EventId::ZERO))] {
                let error = read(&store, from).unwrap_err();
                assert!(matches!(&error, BrokerError::Damaged(what) if what.contains("missing")), "{missing}: {error}");
            }
        }
    }

    #[test]
    fn an_event_that_the_others_name_is_no_strangers_id() {
        let store = log(|transaction| {
            transaction.open_table(EVENTS).unwrap().remove((1, 1, 5)).unwrap().expect("it was there");
        });
        // A page that ends before the hole: nothing else would tell of it.
        let short = PageLimits { events_max: 2, ..LIMITS };
        for position in [Position::After(EventId::new(1, 5)), Position::At(EventId::new(1, 5))] {
            let from = From::Position(position);
            let read = store.read(|transaction| page(transaction, &Channel::default_channel(), from, short));
            assert!(matches!(&read, Err(BrokerError::Damaged(what)) if what.contains("1-5 is missing")), "{read:?}");
        }
        let store = log(|transaction| {
            transaction.open_table(EVENTS).unwrap().remove((1, 1, 9)).unwrap().expect("it was there");
        });
        let last = From::Position(Position::At(EventId::new(1, 9)));
        assert!(matches!(read(&store, last), Err(BrokerError::Damaged(_))));
    }

    #[test]
    fn a_changed_event_is_an_error() {
        let store = log(|transaction| {
            let mut events = transaction.open_table(EVENTS).unwrap();
            let mut record = events.get((1, 1, 5)).unwrap().unwrap().value().to_vec();
            record[20] ^= 1;
            events.insert((1, 1, 5), record.as_slice()).unwrap();
        });
        let error = read(&store, From::Oldest).unwrap_err();
        assert!(matches!(&error, BrokerError::Damaged(what) if what.contains("checksum")), "{error}");
    }

    #[test]
    fn a_changed_channel_row_is_an_error() {
        let store = log(|transaction| {
            let mut channels = transaction.open_table(CHANNELS).unwrap();
            let mut row = channels.get("sse").unwrap().unwrap().value().to_vec();
            row[30] ^= 1;
            channels.insert("sse", row.as_slice()).unwrap();
        });
        assert!(matches!(read(&store, From::Oldest), Err(BrokerError::Damaged(_))));
    }
}
