//! Reads a page from a snapshot of the log, and proves that it is complete or states what is
//! missing.
//!
//! The row of a channel and the chain of its records (see [`chain`](super::chain)) are the proofs.
//! Damaged records end a page early. The next page, which starts there, begins with a gap and
//! continues after the damage.

use std::ops::Bound;

use redb::{ReadOnlyTable, ReadTransaction};
use sse_proto::{
    Channel, EventId, Position,
    api::{GapReason, Lost},
};

use super::{
    chain::{BackChain, Chain, Run},
    error::StoreError,
    life_record::{decode_life, decode_tombstone},
    record::{ChannelRow, Key, decode_event, decode_forgotten, event_key},
    restores::{lost_range, range_before},
    tables::{CHANNELS, EVENTS, FORGOTTEN, LIVES, TOMBSTONES, read_header},
};
use crate::broker::{
    BackPage, Continuity, Page, PageLimits, ReadFrom, Stored,
    continuity::{judge, judge_time},
    lifecycle::{ChannelLife, Tombstone, TombstoneRead},
};

type Events = ReadOnlyTable<Key, &'static [u8]>;

/// Reads a page of `channel`.
pub(super) fn read_page(
    transaction: &ReadTransaction,
    channel: &Channel,
    from: ReadFrom,
    limits: PageLimits,
) -> Result<Page, StoreError> {
    if let Some(lost) = lost_range(transaction, from)? {
        return read_after_loss(transaction, channel, lost, limits);
    }
    let Some(tombstone) = read_tombstone(transaction, channel)? else {
        return read_existing(transaction, channel, from, limits);
    };
    let exists = transaction
        .open_table(CHANNELS)?
        .get(channel.as_str())?
        .is_some();
    match tombstone.resolve(from, exists) {
        TombstoneRead::Other(from) => read_existing(transaction, channel, from, limits),
        TombstoneRead::GapAndNext => {
            let page = read_existing(transaction, channel, ReadFrom::Oldest, limits)?;
            Ok(page.after_gap(GapReason::Deleted))
        }
        TombstoneRead::End(start) => Ok(tombstone.page(start, Some(tombstone.record(channel)))),
        TombstoneRead::Nothing => Ok(tombstone.page(Continuity::Contiguous, None)),
    }
}

/// Reads a page of `channel` for a position in the lost range of a restore: what follows the range,
/// whatever the channel was in the lost part.
fn read_after_loss(
    transaction: &ReadTransaction,
    channel: &Channel,
    lost: Lost,
    limits: PageLimits,
) -> Result<Page, StoreError> {
    let row = read_row(transaction, channel)?;
    let events = transaction.open_table(EVENTS)?;
    let floor = lost.after.max(row.trimmed);
    let run = read_run(channel, &events, &row, Chain::after(floor, limits))?;
    let is_trimmed = row.trimmed > lost.before;
    let mut page = Page {
        start: Continuity::Gap {
            reason: if is_trimmed {
                GapReason::Trimmed
            } else {
                GapReason::LostTail
            },
            oldest: run.events.first().map(|event| event.id),
            lost: (!is_trimmed).then_some(lost),
        },
        events: run.events,
        more: run.more,
        last: row.last,
    };
    if let Some(end) = read_life(transaction, channel)?.and_then(|life| life.end) {
        end.add_to(channel, &mut page);
    }
    Ok(page)
}

fn read_tombstone(
    transaction: &ReadTransaction,
    channel: &Channel,
) -> Result<Option<Tombstone>, StoreError> {
    let tombstones = transaction.open_table(TOMBSTONES)?;
    let Some(row) = tombstones.get(channel.as_str())? else {
        return Ok(None);
    };
    decode_tombstone(channel.as_str(), row.value())
        .map(Some)
        .ok_or_else(|| StoreError::damaged_channel(channel, "its tombstone has a wrong checksum"))
}

/// Reads a page of `channel` without a look at its tombstone.
fn read_existing(
    transaction: &ReadTransaction,
    channel: &Channel,
    from: ReadFrom,
    limits: PageLimits,
) -> Result<Page, StoreError> {
    let Some(end) = read_life(transaction, channel)?.and_then(|life| life.end) else {
        return read_events(transaction, channel, from, limits);
    };
    let Some(from) = end.resolve(from) else {
        return Ok(end.nothing());
    };
    let mut page = read_events(transaction, channel, from, limits)?;
    end.add_to(channel, &mut page);
    Ok(page)
}

/// Reads the life of `channel`; returns `None` if it has none.
pub(super) fn read_life(
    transaction: &ReadTransaction,
    channel: &Channel,
) -> Result<Option<ChannelLife>, StoreError> {
    let lives = transaction.open_table(LIVES)?;
    let Some(row) = lives.get(channel.as_str())? else {
        return Ok(None);
    };
    decode_life(channel.as_str(), row.value())
        .map(Some)
        .ok_or_else(|| StoreError::damaged_channel(channel, "its life has a wrong checksum"))
}

/// Reads a page of `channel` as if it were open.
fn read_events(
    transaction: &ReadTransaction,
    channel: &Channel,
    from: ReadFrom,
    limits: PageLimits,
) -> Result<Page, StoreError> {
    let row = read_row(transaction, channel)?;
    let events = transaction.open_table(EVENTS)?;
    let (mut start, floor) = resolve_from(&events, &row, from)?;
    // A channel that began at the gap records of a restore has none. Its events before were not
    // trimmed but lost.
    if let Continuity::Gap { reason, lost, .. } = &mut start
        && *reason == GapReason::Trimmed
        && row.trimmed == row.origin
        && let Some(range) = range_before(transaction, row.origin)?
    {
        (*reason, *lost) = (GapReason::LostTail, Some(range));
    }
    let run = read_run(channel, &events, &row, Chain::after(floor, limits))?;
    if !run.is_joined {
        start = Continuity::Gap {
            reason: GapReason::Damaged,
            oldest: run.events.first().map(|event| event.id),
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

/// Reads a page of `channel` backwards, from its newest event or from the event before `before`.
///
/// The page skips damaged and missing events. A subscriber that starts at its end reads forwards
/// from there, and that read reports them.
pub(super) fn read_back_page(
    transaction: &ReadTransaction,
    channel: &Channel,
    before: Option<EventId>,
    limits: PageLimits,
) -> Result<BackPage, StoreError> {
    let row = read_row(transaction, channel)?;
    let mut page = BackPage {
        events: Vec::new(),
        more: false,
        last: row.last,
    };
    let is_before_oldest = before.is_some_and(|before| before <= row.oldest);
    if row.count > 0 && !is_before_oldest {
        let end = before.map_or(row.last, EventId::before);
        let events = transaction.open_table(EVENTS)?;
        (page.events, page.more) = read_back_run(&events, &row, end, BackChain::new(limits))?;
    }
    Ok(page)
}

/// Reads the records from `end` backwards. Returns the events, and whether older events precede
/// them.
fn read_back_run(
    events: &Events,
    row: &ChannelRow,
    end: EventId,
    mut chain: BackChain,
) -> Result<(Vec<Stored>, bool), StoreError> {
    for entry in events.range(row.keys(row.oldest, end))?.rev() {
        let (key, record) = entry?;
        if let Some((event, _)) = decode_event(key.value(), record.value())
            && chain.push(event).is_break()
        {
            return Ok((chain.events, true));
        }
    }
    Ok((chain.events, false))
}

/// Reads the row of `channel`. A channel that does not exist has a row without events.
pub(super) fn read_row(
    transaction: &ReadTransaction,
    channel: &Channel,
) -> Result<ChannelRow, StoreError> {
    match transaction.open_table(CHANNELS)?.get(channel.as_str())? {
        Some(bytes) => decode_row(channel, bytes.value()),
        // Numbers start at 1, so no event has this number.
        None => Ok(ChannelRow::new(0, read_origin(transaction, channel)?)),
    }
}

/// Reads where a channel without a row begins: after its last id if it was forgotten, after its
/// deletion if it was deleted, and after the log's origin otherwise.
fn read_origin(transaction: &ReadTransaction, channel: &Channel) -> Result<EventId, StoreError> {
    if let Some(last) = transaction.open_table(FORGOTTEN)?.get(channel.as_str())? {
        return decode_last_id(channel, last.value());
    }
    match read_tombstone(transaction, channel)? {
        Some(tombstone) => Ok(tombstone.at),
        None => read_header(transaction).map(|header| header.origin),
    }
}

fn decode_row(channel: &Channel, row: &[u8]) -> Result<ChannelRow, StoreError> {
    ChannelRow::decode(channel.as_str(), row)
        .ok_or_else(|| StoreError::damaged_channel(channel, "its row has a wrong checksum"))
}

fn decode_last_id(channel: &Channel, row: &[u8]) -> Result<EventId, StoreError> {
    decode_forgotten(channel.as_str(), row)
        .ok_or_else(|| StoreError::damaged_channel(channel, "its last id has a wrong checksum"))
}

/// Returns whether the row proves that `from` can be continued, and the id after which to read.
fn resolve_from(
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
        ReadFrom::Position(position) => resolve_position(events, row, position)?,
    };
    match start {
        Continuity::Contiguous => Ok((start, floor)),
        // After a gap, the page starts at the oldest event.
        Continuity::Gap { .. } => Ok((start, row.trimmed)),
    }
}

fn resolve_position(
    events: &Events,
    row: &ChannelRow,
    position: Position,
) -> Result<(Continuity, EventId), StoreError> {
    let (Position::After(id) | Position::At(id)) = position;
    // The row alone proves the position after the last id.
    let is_last = position == Position::After(row.last);
    let is_kept = row.count > 0 && row.oldest <= id && id <= row.last && !is_last;
    if is_kept && !is_absent(events, row, id)? {
        return Ok((Continuity::Contiguous, position.floor()));
    }
    let start = judge(position, false, &row.extent());
    Ok((start, position.floor().max(row.trimmed)))
}

/// Returns true if the log proves that it never had an event with this id.
///
/// In a damaged file, an event that was there may be missing or unreadable. A gap that restarts at
/// the oldest event would repeat for ever, because the subscriber reaches the same position again.
/// The event that follows names its predecessor, and so decides whether `id` existed.
fn is_absent(events: &Events, row: &ChannelRow, id: EventId) -> Result<bool, StoreError> {
    for entry in events.range(row.keys(id, row.last))? {
        let (key, record) = entry?;
        if let Some((event, previous)) = decode_event(key.value(), record.value())
            && event.id >= id
        {
            return Ok(event.id > id && previous < id);
        }
    }
    Ok(false)
}

/// Reads the records after the end of `chain`, and returns its run.
fn read_run(
    channel: &Channel,
    events: &Events,
    row: &ChannelRow,
    mut chain: Chain,
) -> Result<Run, StoreError> {
    for entry in events.range::<Key>(keys_after(row.number, chain.end()))? {
        let (key, record) = match entry {
            Ok(entry) => entry,
            // The events so far are proved. The next page meets the same error as its first.
            Err(_) if !chain.is_empty() => break,
            Err(error) => return Err(error.into()),
        };
        let Some((event, previous)) = decode_event(key.value(), record.value()) else {
            continue;
        };
        if chain.has_passed(event.id) {
            continue;
        }
        if event.id > row.last {
            return Err(row_is_outdated(channel, row, event.id));
        }
        if chain.push(event, previous).is_break() {
            break;
        }
    }
    Ok(chain.finish((row.count > 0).then_some(row.last)))
}

/// Returns the keys of a channel after `id`.
const fn keys_after(number: u32, id: EventId) -> (Bound<Key>, Bound<Key>) {
    (
        Bound::Excluded(event_key(number, id)),
        Bound::Included((number, u64::MAX, u64::MAX)),
    )
}

fn row_is_outdated(channel: &Channel, row: &ChannelRow, id: EventId) -> StoreError {
    let last = row.last;
    let what = format!("its row says that {last} is its last event, and {id} follows");
    StoreError::damaged_channel(channel, &what)
}

#[cfg(test)]
mod tests;
