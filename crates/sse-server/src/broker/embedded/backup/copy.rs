//! Copies the tables of a snapshot into a new file, in many small commits.

use redb::{
    Database, Key, ReadOnlyTable, ReadTransaction, ReadableTable as _, TableDefinition, Value,
};

use super::{
    BackupFailure,
    contents::{COPY_SUM, CopySum, SUM_KEY, TableVisitor, visit_tables},
    pace::Pace,
};
use crate::broker::embedded::{
    error::StoreError,
    tables::{COPY, read_format_number, write_format_number},
};

/// Bytes of keys and values per commit.
///
/// Each commit syncs the file of the copy. Small commits leave the disk to the log's own ones, and
/// neither file has much that is not on disk yet.
const CHUNK_BYTES: u64 = 1 << 20;

/// Copies all tables. The last commit marks the file as a whole copy.
pub(super) fn copy_tables(
    snapshot: &ReadTransaction,
    target: &Database,
    pace: &Pace,
) -> Result<(), BackupFailure> {
    let format = read_format_number(snapshot)?;
    let mut copying = Copying {
        snapshot,
        target,
        pace,
        sum: CopySum::default(),
    };
    visit_tables(&mut copying)?;
    let sum = copying.sum;
    mark_as_whole(target, format, sum).map_err(BackupFailure::from)
}

fn mark_as_whole(target: &Database, format: u64, sum: CopySum) -> Result<(), StoreError> {
    let transaction = target.begin_write()?;
    transaction
        .open_table(COPY_SUM)?
        .insert(SUM_KEY, sum.encode().as_slice())?;
    write_format_number(&transaction, format | COPY)?;
    Ok(transaction.commit()?)
}

struct Copying<'a> {
    snapshot: &'a ReadTransaction,
    target: &'a Database,
    pace: &'a Pace,
    sum: CopySum,
}

impl TableVisitor for Copying<'_> {
    type Error = BackupFailure;

    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), BackupFailure> {
        let source: ReadOnlyTable<K, V> =
            self.snapshot.open_table(table).map_err(StoreError::from)?;
        let mut rows = source.iter().map_err(StoreError::from)?;
        loop {
            let (bytes, is_end) = self.copy_chunk(table, &mut rows)?;
            self.pace.record(bytes)?;
            if is_end {
                return Ok(());
            }
        }
    }
}

impl Copying<'_> {
    /// Copies the next rows in one commit. Returns their bytes, and whether they are the last ones.
    fn copy_chunk<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        rows: &mut redb::Range<'_, K, V>,
    ) -> Result<(u64, bool), StoreError> {
        let transaction = self.target.begin_write()?;
        let mut bytes = 0;
        let mut is_end = false;
        {
            let mut copy = transaction.open_table(table)?;
            while bytes < CHUNK_BYTES && !is_end {
                let Some(row) = rows.next() else {
                    is_end = true;
                    continue;
                };
                let (key, value) = row?;
                let (key, value) = (key.value(), value.value());
                bytes += self
                    .sum
                    .add(K::as_bytes(&key).as_ref(), V::as_bytes(&value).as_ref());
                copy.insert(&key, &value)?;
            }
        }
        transaction.commit()?;
        Ok((bytes, is_end))
    }
}
