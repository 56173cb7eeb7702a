//! Reads a page out of a snapshot of the log, and proves that nothing is missing in it.

use redb::ReadTransaction;
use sse_proto::{Channel, EventId, Position};

use super::{
    record::{Row, decode_event, id_of, key},
    store::{CHANNELS, EVENTS, META, StoreError},
};
use crate::broker::{
    From, Page, PageLimits, Start, Stored,
    continuity::{judge, judge_time},
};

/// Where channels begin that have no row: after everything that was ever forgotten.
pub(super) fn origin(transaction: &ReadTransaction) -> Result<EventId, StoreError> {
    let meta = transaction.open_table(META)?;
    let number = |name| meta.get(name).map(|number| number.map_or(0, |number| number.value()));
    Ok(EventId::new(number("origin_ms")?, number("origin_seq")?))
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
    let damaged = |what: &str| StoreError::Damaged(format!("channel {channel}: {what}"));
    let channels = transaction.open_table(CHANNELS)?;
    let row = match channels.get(channel.as_str())? {
        Some(bytes) => Row::decode(bytes.value()).ok_or_else(|| damaged("its row has a wrong checksum"))?,
        None => Row::new(0, origin(transaction)?), // numbers start at 1: no event has this one
    };
    let events = transaction.open_table(EVENTS)?;

    // Where to read from, and the id that must come before the first event there, if it is known.
    let (start, first, mut previous) = match from {
        From::Oldest => (Start::Contiguous, row.oldest, Some(row.trimmed)),
        From::Time(ms) => (judge_time(ms, &row.extent()), row.oldest.max(EventId::new(ms, 0)), None),
        From::Position(position) => {
            let (Position::After(id) | Position::At(id)) = position;
            let present = row.count > 0 && events.get(key(row.number, id))?.is_some();
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
