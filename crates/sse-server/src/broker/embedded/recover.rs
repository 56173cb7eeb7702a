//! Loads the state of the log from its tables, and verifies it, when the log is opened.
//!
//! | table | loaded | verified |
//! |---|---|---|
//! | header | highest id, origin, next number | checksum |
//! | channels | every row | checksum; a lookup finds the row; their number |
//! | forgotten, lives, tombstones | every one | checksum; a lookup finds the row; their number |
//! | restores | every range | checksum |
//! | deleted | every number | nothing: a lost one costs space |
//! | key counts | every count | checksum |
//! | keys | nothing | checksum; a lookup finds the row; their number equals the counts |
//!
//! The lookups matter because damage in the tree can hide a row that a scan still reaches. A hidden
//! channel would be taken for one that never existed, and the events of a hidden key would be
//! stored again. Events are not verified here: a log can hold gigabytes, so each read verifies its
//! own page.

use redb::{
    ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
    TableHandle as _,
};
use sse_proto::{Channel, EventId};

use super::{
    committed_channels::Channels,
    committed_state::CommittedState,
    error::StoreError,
    key_record::{KeyCount, decode_key},
    life_record::{decode_life, decode_tombstone},
    numbers::free_numbers,
    record::{ChannelRow, decode_forgotten},
    restores::read_ranges,
    store::Store,
    tables::{
        CHANNELS, DELETED, EVENTS, FORGOTTEN, KEY_COUNTS, KEY_EXPIRIES, KEYS, LIVES, TOMBSTONES,
        read_header,
    },
};
use crate::broker::clock::Clock;

/// Loads and verifies the state of the log.
///
/// Its clock continues above `assigned` and above every id in the log.
pub(super) fn load_state(store: &Store, assigned: EventId) -> Result<CommittedState, StoreError> {
    store.try_read(|transaction| {
        let header = read_header(transaction)?;
        let lost_ranges = read_ranges(transaction)?;
        // After a restore every sequence number begins with that of the gap records, so that no id
        // equals one of the lost part, even if the clock of that server was ahead.
        let first_seq = lost_ranges.last().map_or(0, |lost| lost.before.seq);
        let mut channels = Channels::default();
        load_key_counts(transaction, &mut channels)?;
        verify_keys(transaction, channels.keys().total())?;
        let (mut last, mut bytes) = (EventId::ZERO, 0);
        load_rows(transaction, CHANNELS, ChannelRow::decode, |channel, row| {
            (last, bytes) = (last.max(row.last), bytes + row.bytes);
            channels.load_row(channel, row);
        })?;
        load_rows(transaction, FORGOTTEN, decode_forgotten, |channel, last| {
            channels.load_forgotten(channel, last);
        })?;
        load_rows(transaction, LIVES, decode_life, |channel, life| {
            channels.set_life(channel, Some(life.into()));
        })?;
        load_rows(
            transaction,
            TOMBSTONES,
            decode_tombstone,
            |channel, tombstone| {
                channels.load_tombstone(channel, tombstone);
            },
        )?;
        for entry in transaction.open_table(DELETED)?.iter()? {
            channels.set_deleted(entry?.0.value(), true);
        }
        let events = transaction.open_table(EVENTS)?;
        let numbers = free_numbers(&events, channels.used_numbers(), header.next_number)?;
        Ok(CommittedState {
            bytes,
            channels,
            clock: Clock::new(assigned.max(header.highest).max(last), first_seq),
            numbers,
            origin: header.origin,
            lost_ranges: lost_ranges.into(),
        })
    })
}

/// Loads and verifies a table that has one row for some channels.
fn load_rows<V>(
    transaction: &ReadTransaction,
    table: TableDefinition<'static, &'static str, &'static [u8]>,
    decode: impl Fn(&str, &[u8]) -> Option<V>,
    mut load: impl FnMut(&Channel, V),
) -> Result<(), StoreError> {
    let rows = transaction.open_table(table)?;
    let mut count = 0;
    for entry in rows.iter()? {
        let (name, row) = entry?;
        let (name, row) = (name.value(), row.value());
        let damaged =
            || StoreError::Damaged(format!("the row of {name:?} in the table {}", table.name()));
        let is_found = rows.get(name)?.is_some_and(|found| found.value() == row);
        let decoded = decode(name, row).filter(|_| is_found).ok_or_else(damaged)?;
        load(&name.parse().map_err(|_| damaged())?, decoded);
        count += 1;
    }
    verify_count(count, rows.len()?, table.name())
}

fn load_key_counts(
    transaction: &ReadTransaction,
    channels: &mut Channels,
) -> Result<(), StoreError> {
    for entry in transaction.open_table(KEY_COUNTS)?.iter()? {
        let (number, row) = entry?;
        let number = number.value();
        let damaged = || StoreError::Damaged(format!("the count of the keys of channel {number}"));
        let key_count = KeyCount::decode(number, row.value()).ok_or_else(damaged)?;
        channels.load_key_count(number, key_count);
    }
    Ok(())
}

/// Verifies every key, and that there are `expected` keys.
fn verify_keys(transaction: &ReadTransaction, expected: u64) -> Result<(), StoreError> {
    let keys = transaction.open_table(KEYS)?;
    let mut count = 0;
    for entry in keys.iter()? {
        let (key, row) = entry?;
        let (channel, fingerprint) = key.value();
        let is_found = keys
            .get((channel, fingerprint))?
            .is_some_and(|found| found.value() == row.value());
        if !is_found || decode_key(channel, fingerprint.into(), row.value()).is_none() {
            return Err(StoreError::Damaged(
                "the key of a publish is not what was written".to_owned(),
            ));
        }
        count += 1;
    }
    let expiries = transaction.open_table(KEY_EXPIRIES)?;
    for found in [count, keys.len()?, expiries.len()?] {
        verify_count(found, expected, "keys of publishes")?;
    }
    Ok(())
}

fn verify_count(found: u64, expected: u64, what: &str) -> Result<(), StoreError> {
    if found == expected {
        return Ok(());
    }
    Err(StoreError::Damaged(format!(
        "{found} of {expected} {what} are there"
    )))
}
