//! Turns a copy into a log that has lost its newest events; see [`restores`](super::super::restores).

use redb::{ReadableTable as _, Table, WriteTransaction};
use sse_proto::{
    EventId,
    api::{Gap, GapReason, Lost},
};

use super::Restored;
use crate::broker::{
    GAP,
    embedded::{
        backup::contents::COPY_SUM,
        error::StoreError,
        life_record::{decode_life, decode_tombstone, encode_tombstone},
        record::{
            ChannelRow, FORMAT, LogHeader, encode_event, encode_forgotten, event_key, record_bytes,
        },
        restores::write_range,
        tables::{
            CHANNELS, EVENTS, FORGOTTEN, LIVES, RESTORED, TOMBSTONES, write_format_number,
            write_header,
        },
    },
    lifecycle::Tombstone,
};

/// Records the loss of everything that was published after the copy was made.
pub(super) fn record_loss(
    transaction: &WriteTransaction,
    header: LogHeader,
    now_ms: u64,
    random: u32,
) -> Result<Restored, StoreError> {
    let lost = Lost {
        after: header.highest,
        before: record_id(header.highest, now_ms, random),
    };
    let channels = append_records(transaction, lost)?;
    move_notes(transaction, lost.before)?;
    let header = LogHeader {
        highest: lost.before,
        origin: lost.before,
        ..header
    };
    write_header(transaction, &header)?;
    write_range(transaction, lost)?;
    transaction.delete_table(COPY_SUM)?;
    write_format_number(transaction, FORMAT | RESTORED)?;
    Ok(Restored { channels, lost })
}

/// Chooses the id of the gap records, which is above every id that the lost part can have had.
///
/// The lost server assigned its ids before now, by about this clock. If its clock was ahead, a lost
/// id can be above the record. Every later id continues with this sequence number, so none equals a
/// lost one: a sequence number of a log counts from zero, or from that of an earlier restore.
fn record_id(highest: EventId, now_ms: u64, random: u32) -> EventId {
    // At most 19 digits, like the ids of gap records over Redis.
    let seq = (now_ms % 10_000_000_000_000) * 1_000_000 + u64::from(random % 1_000_000);
    let id = EventId::new(now_ms.max(highest.ms), seq);
    if id > highest {
        id
    } else {
        EventId::new(highest.ms + 1, seq)
    }
}

/// Appends a gap record to every open channel. Returns their number.
///
/// A closed channel has no record: nothing can have followed its end.
fn append_records(transaction: &WriteTransaction, lost: Lost) -> Result<u64, StoreError> {
    let mut channels = transaction.open_table(CHANNELS)?;
    let lives = transaction.open_table(LIVES)?;
    let mut events = transaction.open_table(EVENTS)?;
    let mut changed = Vec::new();
    let mut record = Vec::new();
    for entry in channels.iter()? {
        let (name, row) = entry?;
        let name = name.value();
        let damaged = || StoreError::Damaged(format!("the row of channel {name:?}"));
        let mut row = ChannelRow::decode(name, row.value()).ok_or_else(damaged)?;
        let is_closed = match lives.get(name)? {
            Some(life) => decode_life(name, life.value())
                .ok_or_else(damaged)?
                .end
                .is_some(),
            None => false,
        };
        if is_closed {
            continue;
        }
        let gap = Gap {
            channel: name.parse().map_err(|_| damaged())?,
            after: row.last.to_string(),
            oldest: Some(lost.before),
            reason: GapReason::LostTail,
            lost: Some(lost),
        };
        // A gap has only texts and numbers, which JSON can express.
        let data = serde_json::to_string(&gap).unwrap_or_default();
        let key = event_key(row.number, lost.before);
        encode_event(&mut record, key, row.last, GAP, &data);
        events.insert(key, record.as_slice())?;
        row.add(lost.before, record_bytes(record.len()));
        changed.push((name.to_owned(), row));
    }
    for (name, row) in &changed {
        channels.insert(name.as_str(), row.encode(name).as_slice())?;
    }
    Ok(changed.len() as u64)
}

/// Lets channels that were forgotten or deleted begin at the gap records, if they are created again:
/// the lost part may have had such a channel.
fn move_notes(transaction: &WriteTransaction, to: EventId) -> Result<(), StoreError> {
    let mut forgotten = transaction.open_table(FORGOTTEN)?;
    for name in names(&forgotten)? {
        forgotten.insert(name.as_str(), encode_forgotten(&name, to).as_slice())?;
    }
    let mut tombstones = transaction.open_table(TOMBSTONES)?;
    for name in names(&tombstones)? {
        let row = tombstones.get(name.as_str())?;
        let tombstone = row.and_then(|row| decode_tombstone(&name, row.value()));
        let tombstone = tombstone
            .ok_or_else(|| StoreError::Damaged(format!("the tombstone of channel {name:?}")))?;
        let moved = Tombstone {
            at: to,
            ..tombstone
        };
        tombstones.insert(name.as_str(), encode_tombstone(&name, moved).as_slice())?;
    }
    Ok(())
}

fn names(table: &Table<'_, &'static str, &'static [u8]>) -> Result<Vec<String>, StoreError> {
    let names = table.iter()?.map(|row| Ok(row?.0.value().to_owned()));
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_the_gap_records_is_above_every_id_of_the_copy() {
        let now_ms = 1_795_521_999_000;
        let id = |highest| record_id(highest, now_ms, 271_828);
        let of_now = EventId::new(now_ms, 1_795_521_999_000_271_828);
        assert_eq!(id(EventId::ZERO), of_now);
        assert_eq!(id(EventId::new(now_ms, 7)), of_now);
        let ahead = EventId::new(now_ms + 5, u64::MAX);
        assert_eq!(id(ahead), EventId::new(now_ms + 6, of_now.seq));
        let restored_before = EventId::new(now_ms, of_now.seq + 3);
        assert!(id(restored_before) > restored_before);
    }
}
