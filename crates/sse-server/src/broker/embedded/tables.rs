//! The tables of the redb file and the format that they have.

use std::collections::HashSet;

use super::{
    error::StoreError,
    record::{FORMAT, Key, LogHeader},
};
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, TableDefinition, TableHandle as _,
    WriteTransaction,
};

/// Events of all channels, by channel and id.
pub(super) const EVENTS: TableDefinition<'static, Key, &[u8]> = TableDefinition::new("events");
/// One [`ChannelRow`](super::record::ChannelRow) per channel.
pub(super) const CHANNELS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("channels");
/// The last ids of channels that were forgotten to make room. Their number is limited.
pub(super) const FORGOTTEN: TableDefinition<'static, &str, &[u8]> =
    TableDefinition::new("forgotten");
/// Idempotency keys, by the number of the channel and the key's fingerprint; see
/// [`key_record`](super::key_record).
pub(super) const KEYS: TableDefinition<'static, (u32, u128), &[u8]> = TableDefinition::new("keys");
/// The same keys in the order of their expiry, in milliseconds.
pub(super) const KEY_EXPIRIES: TableDefinition<'static, (u32, u64, u128), ()> =
    TableDefinition::new("key_expiries");
/// One [`KeyCount`](super::key_record::KeyCount) per channel with keys, by the channel's number.
pub(super) const KEY_COUNTS: TableDefinition<'static, u32, &[u8]> =
    TableDefinition::new("key_tallies");
/// Revoked credentials: what is revoked, and until which time in milliseconds it is stored.
pub(super) const REVOCATIONS: TableDefinition<'static, &str, u64> =
    TableDefinition::new("revocations");
/// The [`LogHeader`], in one row.
pub(super) const HEADER: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("numbers");
/// The format. This table is the same in every version.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// Creates the tables that are missing, and returns the format of the file.
///
/// A file of another format is left unchanged.
pub(super) fn prepare_tables(database: &Database) -> Result<u64, StoreError> {
    let found = read_format(database)?;
    if let Some(found) = found
        && found != FORMAT
    {
        return Ok(found);
    }
    let transaction = database.begin_write()?;
    if found.is_none() {
        start_log(&transaction)?;
    }
    transaction.open_table(EVENTS)?;
    transaction.open_table(CHANNELS)?;
    transaction.open_table(FORGOTTEN)?;
    transaction.open_table(KEYS)?;
    transaction.open_table(KEY_EXPIRIES)?;
    transaction.open_table(KEY_COUNTS)?;
    transaction.open_table(REVOCATIONS)?;
    transaction.commit()?;
    Ok(FORMAT)
}

/// Writes the format and the header of a new log.
fn start_log(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(META)?.insert("format", FORMAT)?;
    write_header(transaction, &LogHeader::NEW)
}

/// Writes the header of the log.
pub(super) fn write_header(
    transaction: &WriteTransaction,
    header: &LogHeader,
) -> Result<(), StoreError> {
    transaction
        .open_table(HEADER)?
        .insert(LogHeader::KEY, header.encode().as_slice())?;
    Ok(())
}

/// Returns the format of the file, or `None` if the file is new.
fn read_format(database: &Database) -> Result<Option<u64>, StoreError> {
    let transaction = database.begin_read()?;
    let tables = table_names(&transaction)?;
    if tables.is_empty() {
        return Ok(None);
    }
    require_table(&tables, META.name())?;
    let format = read_meta(&transaction)?;
    if format == FORMAT {
        require_tables(&tables)?;
    }
    Ok(Some(format))
}

fn table_names(transaction: &ReadTransaction) -> Result<HashSet<String>, StoreError> {
    let tables = transaction.list_tables()?;
    Ok(tables.map(|table| table.name().to_owned()).collect())
}

/// Reads the format from its table.
fn read_meta(transaction: &ReadTransaction) -> Result<u64, StoreError> {
    transaction
        .open_table(META)?
        .get("format")?
        .map(|format| format.value())
        .ok_or_else(|| StoreError::Damaged("its format is missing".to_owned()))
}

/// Checks that the tables exist that every log has.
///
/// Opening a table for writing creates it. A table whose name is damaged would therefore begin
/// again, empty, without an error.
fn require_tables(tables: &HashSet<String>) -> Result<(), StoreError> {
    for name in [
        EVENTS.name(),
        CHANNELS.name(),
        FORGOTTEN.name(),
        HEADER.name(),
    ] {
        require_table(tables, name)?;
    }
    Ok(())
}

fn require_table(tables: &HashSet<String>, name: &str) -> Result<(), StoreError> {
    if tables.contains(name) {
        return Ok(());
    }
    Err(StoreError::Damaged(format!("the table {name} is missing")))
}

/// Reads the header of the log.
pub(super) fn read_header(transaction: &ReadTransaction) -> Result<LogHeader, StoreError> {
    let row = transaction.open_table(HEADER)?.get(LogHeader::KEY)?;
    row.and_then(|row| LogHeader::decode(row.value()))
        .ok_or_else(damaged_header)
}

fn damaged_header() -> StoreError {
    StoreError::Damaged(
        "the header of the log (table numbers) is missing or has a wrong checksum".to_owned(),
    )
}
