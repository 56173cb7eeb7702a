//! The records of a channel after an id, and the keys that belong to them.
//!
//! A page has the keys of the records that it leads to, also of those that were trimmed meanwhile.
//! If a page is stored in one step, a key is stored exactly if its events are.

use redb::ReadTransaction;
use sse_proto::{Channel, EventId};

use super::list::read_channel;
use crate::broker::{
    Stored,
    embedded::{
        error::StoreError,
        key_record::decode_key,
        reader::read_row,
        record::{ChannelRow, decode_event, event_key, id_of},
        tables::{CHANNELS, EVENTS, KEYS},
    },
    transfer::{
        Hex128, RECORD_BYTES_MAX, RECORDS_MAX, SourceEvent, SourceKey, SourcePage, SourceRecord,
        SourceState,
    },
};

/// Reads a page of `channel` after `after`. Keys that have expired at `now_ms` are left out.
pub(super) fn read_source_page(
    transaction: &ReadTransaction,
    channel: &Channel,
    after: EventId,
    now_ms: u64,
) -> Result<SourcePage, StoreError> {
    let mut page = SourcePage {
        channel: read_channel(transaction, channel)?,
        continues: true,
        records: Vec::new(),
        keys: Vec::new(),
        end: after,
        more: false,
        damaged_keys: 0,
    };
    let Some(state) = page.channel.state.clone() else {
        return Ok(page);
    };
    page.continues = continues(transaction, channel, &state, after)?;
    let has_row = transaction
        .open_table(CHANNELS)?
        .get(channel.as_str())?
        .is_some();
    page.end = state.last;
    if !page.continues || !has_row {
        return Ok(page);
    }
    let row = read_row(transaction, channel)?;
    (page.records, page.end) = read_records(transaction, &row, after)?;
    (page.keys, page.damaged_keys) = read_keys(transaction, &row, after, now_ms)?;
    if let Some(key) = page.keys.get(RECORDS_MAX)
        && key.last <= page.end
    {
        // Several keys can belong to one id, and stay together.
        page.end = key.last;
        let end = page.end;
        page.records.retain(|record| record.id <= end);
    }
    let end = page.end;
    page.keys.retain(|key| key.last <= end);
    page.more = page.end < row.last;
    Ok(page)
}

/// Whether `after` is a position of this incarnation, as far as the log knows that.
fn continues(
    transaction: &ReadTransaction,
    channel: &Channel,
    state: &SourceState,
    after: EventId,
) -> Result<bool, StoreError> {
    if after == state.start || after == state.last || Some(after) <= state.trimmed {
        return Ok(true);
    }
    if after > state.last {
        return Ok(false);
    }
    let row = read_row(transaction, channel)?;
    let events = transaction.open_table(EVENTS)?;
    if events.get(event_key(row.number, after))?.is_some() {
        return Ok(true);
    }
    // A damaged file can lack an event. The next one names it.
    for entry in events.range(row.keys(after, row.last))? {
        let (key, record) = entry?;
        if let Some((_, previous)) = decode_event(key.value(), record.value()) {
            return Ok(previous == after);
        }
    }
    Ok(false)
}

/// Reads records up to the limits of a page, with one record in place of each hole. Returns the id
/// up to which they are complete.
fn read_records(
    transaction: &ReadTransaction,
    row: &ChannelRow,
    after: EventId,
) -> Result<(Vec<SourceRecord>, EventId), StoreError> {
    let mut records = Vec::new();
    let mut end = after.max(row.trimmed);
    if row.count == 0 || end >= row.last {
        return Ok((records, row.last));
    }
    let mut bytes = 0;
    let events = transaction.open_table(EVENTS)?;
    for entry in events.range(row.keys(end, row.last))? {
        let (key, record) = entry?;
        if id_of(key.value()) <= end {
            continue;
        }
        let Some((event, previous)) = decode_event(key.value(), record.value()) else {
            continue;
        };
        if records.len() >= RECORDS_MAX || bytes >= RECORD_BYTES_MAX {
            return Ok((records, end));
        }
        if previous > end {
            records.push(hole(previous));
        }
        bytes += event.size();
        end = event.id;
        records.push(record_of(&event));
    }
    if end < row.last {
        records.push(hole(row.last));
    }
    Ok((records, row.last))
}

const fn hole(id: EventId) -> SourceRecord {
    SourceRecord { id, event: None }
}

fn record_of(event: &Stored) -> SourceRecord {
    SourceRecord {
        id: event.id,
        event: Some(SourceEvent {
            kind: event.kind.to_string(),
            data: event.data.to_string(),
            lost_after: event.lost().map(|lost| lost.after),
        }),
    }
}

/// Reads the keys of records after `after`, in the order of their ids, and counts those that cannot be
/// read.
fn read_keys(
    transaction: &ReadTransaction,
    row: &ChannelRow,
    after: EventId,
    now_ms: u64,
) -> Result<(Vec<SourceKey>, u64), StoreError> {
    let (mut keys, mut damaged) = (Vec::new(), 0);
    let table = transaction.open_table(KEYS)?;
    for entry in table.range((row.number, 0)..=(row.number, u128::MAX))? {
        let (place, value) = entry?;
        let (number, key) = place.value();
        let Some((expires_ms, known)) = decode_key(number, key.into(), value.value()) else {
            damaged += 1;
            continue;
        };
        if keys.len() >= 4 * RECORDS_MAX {
            // A page needs only the first ones.
            keys.sort_unstable_by_key(|key: &SourceKey| key.last);
            keys.truncate(2 * RECORDS_MAX);
        }
        if expires_ms > now_ms && known.ids.last > after {
            keys.push(SourceKey {
                key: Hex128(key),
                content: Hex128(known.content.number()),
                owner: known.owner.number(),
                first: known.ids.first,
                last: known.ids.last,
                expires_ms,
            });
        }
    }
    keys.sort_unstable_by_key(|key| key.last);
    Ok((keys, damaged))
}
