//! The tables of the redb file and the format that they have.

use std::collections::HashSet;

use super::{
    error::StoreError,
    record::{FORMAT, FORMAT_BEFORE, Key, LogHeader},
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
/// The [`ChannelLife`](crate::broker::lifecycle::ChannelLife) of channels that have one; see
/// [`life_record`](super::life_record).
pub(super) const LIVES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("lives");
/// The [`Tombstone`](crate::broker::lifecycle::Tombstone) of deleted channels. Their number is
/// limited.
pub(super) const TOMBSTONES: TableDefinition<'static, &str, &[u8]> =
    TableDefinition::new("tombstones");
/// The numbers of deleted channels whose events are still in the file.
pub(super) const DELETED: TableDefinition<'static, u32, ()> = TableDefinition::new("deleted");
/// The [`LogHeader`], in one row.
pub(super) const HEADER: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("numbers");
/// The ranges of ids that restores from copies have lost, by the id of their gap records; see
/// [`restores`](super::restores).
pub(super) const RESTORES: TableDefinition<'static, (u64, u64), &[u8]> =
    TableDefinition::new("restores");
/// The format. This table is the same in every version.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// Added to the format of a log that was restored from a copy. Versions that know no restores do not
/// open such a log.
pub(super) const RESTORED: u64 = 1 << 8;
/// Added to the format of a copy. No version opens a copy as a log.
pub(super) const COPY: u64 = 1 << 9;

/// Creates the tables that are missing, and returns the format of the file.
///
/// A file of the format before is converted, in the same commit: the new format adds tables, and
/// every row of the old ones stays as it is. A file of another format is left unchanged.
pub(super) fn prepare_tables(database: &Database) -> Result<u64, StoreError> {
    let number = read_format(database)?;
    let restored = number.map_or(0, |number| number & RESTORED);
    let found = number.map(|number| number & !RESTORED);
    if let Some(found) = found
        && found != FORMAT
        && found != FORMAT_BEFORE
    {
        return Ok(found);
    }
    let transaction = database.begin_write()?;
    match found {
        None => start_log(&transaction)?,
        Some(FORMAT_BEFORE) => write_format_number(&transaction, FORMAT | restored)?,
        Some(_) => {}
    }
    transaction.open_table(EVENTS)?;
    transaction.open_table(CHANNELS)?;
    transaction.open_table(FORGOTTEN)?;
    transaction.open_table(KEYS)?;
    transaction.open_table(KEY_EXPIRIES)?;
    transaction.open_table(KEY_COUNTS)?;
    transaction.open_table(REVOCATIONS)?;
    transaction.open_table(LIVES)?;
    transaction.open_table(TOMBSTONES)?;
    transaction.open_table(DELETED)?;
    transaction.open_table(RESTORES)?;
    transaction.commit()?;
    Ok(FORMAT)
}

/// Writes the format and the header of a new log.
fn start_log(transaction: &WriteTransaction) -> Result<(), StoreError> {
    write_format_number(transaction, FORMAT)?;
    write_header(transaction, &LogHeader::NEW)
}

/// Writes the format, to which [`RESTORED`] and [`COPY`] may be added.
pub(super) fn write_format_number(
    transaction: &WriteTransaction,
    number: u64,
) -> Result<(), StoreError> {
    transaction.open_table(META)?.insert("format", number)?;
    Ok(())
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
    let number = read_format_number(&transaction)?;
    let format = number & !RESTORED;
    if format == FORMAT || format == FORMAT_BEFORE {
        require_tables(
            &tables,
            &[
                EVENTS.name(),
                CHANNELS.name(),
                FORGOTTEN.name(),
                HEADER.name(),
            ],
        )?;
    }
    if format == FORMAT {
        require_tables(&tables, &[LIVES.name(), TOMBSTONES.name()])?;
    }
    if number & RESTORED != 0 {
        require_table(&tables, RESTORES.name())?;
    }
    Ok(Some(number))
}

fn table_names(transaction: &ReadTransaction) -> Result<HashSet<String>, StoreError> {
    let tables = transaction.list_tables()?;
    Ok(tables.map(|table| table.name().to_owned()).collect())
}

/// Reads the format from its table, with what is added to it.
pub(super) fn read_format_number(transaction: &ReadTransaction) -> Result<u64, StoreError> {
    transaction
        .open_table(META)?
        .get("format")?
        .map(|format| format.value())
        .ok_or_else(|| StoreError::Damaged("its format is missing".to_owned()))
}

/// Checks that the tables exist that every log of the format has.
///
/// Opening a table for writing creates it. A table whose name is damaged would therefore begin
/// again, empty, without an error.
fn require_tables(tables: &HashSet<String>, names: &[&str]) -> Result<(), StoreError> {
    names
        .iter()
        .try_for_each(|name| require_table(tables, name))
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
