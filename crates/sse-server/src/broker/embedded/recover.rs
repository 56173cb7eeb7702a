//! Loads the state of the log from its tables, and verifies it, when the log is opened.
//!
//! | table | loaded | verified |
//! |---|---|---|
//! | header | highest id, origin, next number | checksum |
//! | channels | every row | checksum; a lookup finds the row; their number |
//! | forgotten | every last id | checksum; their number |
//! | lives, tombstones | every one | checksum; a lookup finds the row; their number |
//! | restores | every range | checksum |
//! | deleted | every number | nothing: a lost one costs space |
//! | key counts | every count | checksum |
//! | keys | nothing | checksum; a lookup finds the row; their number equals the counts |
//!
//! The lookups matter because damage in the tree can hide a row that a scan still reaches. A hidden
//! channel would be taken for one that never existed, and the events of a hidden key would be
//! stored again. Events are not verified here: a log can hold gigabytes, so each read verifies its
//! own page.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

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
    record::{ChannelRow, decode_forgotten},
    restores::read_ranges,
    staged_channels::{Changes, ChannelChanges},
    store::Store,
    tables::{
        CHANNELS, DELETED, FORGOTTEN, KEY_COUNTS, KEY_EXPIRIES, KEYS, LIVES, TOMBSTONES,
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
        let rows = load_channels(transaction)?;
        let forgotten = load_forgotten(transaction)?;
        let key_counts = load_key_counts(transaction)?;
        verify_keys(
            transaction,
            key_counts.values().map(|keys| keys.count).sum(),
        )?;
        let last = rows.values().map(|row| row.last).max().unwrap_or_default();
        let last_number = rows.values().map(|row| row.number).max().unwrap_or(0);
        let bytes = rows.values().map(|row| row.bytes).sum();
        let changes = ChannelChanges {
            rows: changes(rows),
            last_ids: changes(forgotten),
            lives: load_rows(transaction, LIVES, |name, row| {
                decode_life(name, row).map(Arc::new)
            })?,
            tombstones: load_rows(transaction, TOMBSTONES, decode_tombstone)?,
            deleted: load_deleted(transaction)?,
        };
        let mut channels = Channels::default();
        channels.apply(changes, key_counts);
        Ok(CommittedState {
            bytes,
            channels,
            clock: Clock::new(assigned.max(header.highest).max(last), first_seq),
            // Numbers start at 1, and none is assigned twice.
            next_number: header.next_number.max(last_number + 1),
            origin: header.origin,
            lost_ranges: lost_ranges.into(),
        })
    })
}

/// The changes that create these entries.
fn changes<V>(entries: HashMap<Channel, V>) -> Changes<V> {
    let entries = entries.into_iter();
    entries
        .map(|(channel, value)| (channel, Some(value)))
        .collect()
}

/// Loads and verifies a table that has one row for some channels.
fn load_rows<V>(
    transaction: &ReadTransaction,
    table: TableDefinition<'static, &'static str, &'static [u8]>,
    decode: impl Fn(&str, &[u8]) -> Option<V>,
) -> Result<Changes<V>, StoreError> {
    let rows = transaction.open_table(table)?;
    let mut loaded = HashMap::new();
    for entry in rows.iter()? {
        let (name, row) = entry?;
        let (name, row) = (name.value(), row.value());
        let damaged =
            || StoreError::Damaged(format!("the row of {name:?} in the table {}", table.name()));
        let is_found = rows.get(name)?.is_some_and(|found| found.value() == row);
        let decoded = decode(name, row).filter(|_| is_found).ok_or_else(damaged)?;
        loaded.insert(name.parse().map_err(|_| damaged())?, Some(decoded));
    }
    verify_count(loaded.len() as u64, rows.len()?, table.name())?;
    Ok(loaded)
}

fn load_deleted(transaction: &ReadTransaction) -> Result<BTreeMap<u32, bool>, StoreError> {
    let mut deleted = BTreeMap::new();
    for entry in transaction.open_table(DELETED)?.iter()? {
        deleted.insert(entry?.0.value(), true);
    }
    Ok(deleted)
}

fn load_channels(
    transaction: &ReadTransaction,
) -> Result<HashMap<Channel, ChannelRow>, StoreError> {
    let channels = transaction.open_table(CHANNELS)?;
    let mut rows = HashMap::new();
    for entry in channels.iter()? {
        let (name, row) = entry?;
        let (name, row) = (name.value(), row.value());
        let damaged = || StoreError::Damaged(format!("the row of channel {name:?}"));
        let is_found = channels
            .get(name)?
            .is_some_and(|found| found.value() == row);
        let decoded = ChannelRow::decode(name, row).filter(|_| is_found);
        let channel = name.parse().map_err(|_| damaged())?;
        rows.insert(channel, decoded.ok_or_else(damaged)?);
    }
    verify_count(rows.len() as u64, channels.len()?, "channels")?;
    Ok(rows)
}

fn load_forgotten(transaction: &ReadTransaction) -> Result<HashMap<Channel, EventId>, StoreError> {
    let rows = transaction.open_table(FORGOTTEN)?;
    let mut forgotten = HashMap::new();
    for entry in rows.iter()? {
        let (name, row) = entry?;
        let name = name.value();
        let damaged = || StoreError::Damaged(format!("the forgotten channel {name:?}"));
        let last = decode_forgotten(name, row.value()).ok_or_else(damaged)?;
        forgotten.insert(name.parse().map_err(|_| damaged())?, last);
    }
    verify_count(forgotten.len() as u64, rows.len()?, "forgotten channels")?;
    Ok(forgotten)
}

fn load_key_counts(transaction: &ReadTransaction) -> Result<HashMap<u32, KeyCount>, StoreError> {
    let mut key_counts = HashMap::new();
    for entry in transaction.open_table(KEY_COUNTS)?.iter()? {
        let (number, row) = entry?;
        let number = number.value();
        let damaged = || StoreError::Damaged(format!("the count of the keys of channel {number}"));
        let key_count = KeyCount::decode(number, row.value()).ok_or_else(damaged)?;
        key_counts.insert(number, key_count);
    }
    Ok(key_counts)
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
