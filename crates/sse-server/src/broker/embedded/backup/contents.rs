//! The tables that a copy has, and the sum over their rows by which a restore proves that a copy is
//! whole.

use crc32c::crc32c_append;
use redb::{Key, ReadOnlyTable, ReadTransaction, ReadableTable as _, TableDefinition, Value};

use crate::broker::embedded::{
    checksum::{seal, unseal},
    error::StoreError,
    tables::{
        CHANNELS, DELETED, EVENTS, FORGOTTEN, HEADER, KEY_COUNTS, KEY_EXPIRIES, KEYS, LIVES,
        RESTORES, REVOCATIONS, TOMBSTONES,
    },
};

/// The [`CopySum`] of a copy, in one row.
pub(in crate::broker::embedded) const COPY_SUM: TableDefinition<'static, &str, &[u8]> =
    TableDefinition::new("copy");
pub(super) const SUM_KEY: &str = "sum";

/// Work that is the same for every table.
pub(super) trait TableVisitor {
    type Error;

    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), Self::Error>;
}

/// Visits every table of the log, except the one with its format.
pub(super) fn visit_tables<T: TableVisitor>(visitor: &mut T) -> Result<(), T::Error> {
    visitor.visit(HEADER)?;
    visitor.visit(CHANNELS)?;
    visitor.visit(FORGOTTEN)?;
    visitor.visit(LIVES)?;
    visitor.visit(TOMBSTONES)?;
    visitor.visit(DELETED)?;
    visitor.visit(REVOCATIONS)?;
    visitor.visit(RESTORES)?;
    visitor.visit(KEYS)?;
    visitor.visit(KEY_EXPIRIES)?;
    visitor.visit(KEY_COUNTS)?;
    visitor.visit(EVENTS)
}

/// The number of rows, their bytes and a checksum over keys and values in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CopySum {
    rows: u64,
    bytes: u64,
    checksum: u32,
}

impl CopySum {
    /// Adds a row. Returns its bytes.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> u64 {
        let bytes = (key.len() + value.len()) as u64;
        self.rows += 1;
        self.bytes += bytes;
        self.checksum = crc32c_append(crc32c_append(self.checksum, key), value);
        bytes
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(24);
        content.extend_from_slice(&self.rows.to_le_bytes());
        content.extend_from_slice(&self.bytes.to_le_bytes());
        content.extend_from_slice(&self.checksum.to_le_bytes());
        seal(SUM_KEY.as_bytes(), content)
    }

    fn decode(sealed: &[u8]) -> Option<Self> {
        let content = unseal(SUM_KEY.as_bytes(), sealed)?;
        let (rows, rest) = content.split_first_chunk::<8>()?;
        let (bytes, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            rows: u64::from_le_bytes(*rows),
            bytes: u64::from_le_bytes(*bytes),
            checksum: u32::from_le_bytes(rest.try_into().ok()?),
        })
    }
}

/// Verifies that a copy has exactly what was copied.
pub(in crate::broker::embedded) fn verify_copy(
    snapshot: &ReadTransaction,
) -> Result<(), StoreError> {
    let written = snapshot.open_table(COPY_SUM)?.get(SUM_KEY)?;
    let written = written.and_then(|sum| CopySum::decode(sum.value()));
    let mut found = Summing {
        snapshot,
        sum: CopySum::default(),
    };
    visit_tables(&mut found)?;
    if written == Some(found.sum) {
        return Ok(());
    }
    Err(StoreError::Damaged(
        "its rows are not those that were copied".to_owned(),
    ))
}

struct Summing<'a> {
    snapshot: &'a ReadTransaction,
    sum: CopySum,
}

impl TableVisitor for Summing<'_> {
    type Error = StoreError;

    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError> {
        let rows: ReadOnlyTable<K, V> = self.snapshot.open_table(table)?;
        for row in rows.iter()? {
            let (key, value) = row?;
            let (key, value) = (key.value(), value.value());
            self.sum
                .add(K::as_bytes(&key).as_ref(), V::as_bytes(&value).as_ref());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use redb::TableHandle as _;

    use super::*;
    use crate::broker::embedded::{open::Location, store::Store};

    struct Names(BTreeSet<String>);

    impl TableVisitor for Names {
        type Error = StoreError;

        fn visit<K: Key + 'static, V: Value + 'static>(
            &mut self,
            table: TableDefinition<'static, K, V>,
        ) -> Result<(), StoreError> {
            self.0.insert(table.name().to_owned());
            Ok(())
        }
    }

    #[test]
    fn a_copy_has_every_table_of_a_log_and_its_format_besides() {
        let store = Store::open(Location::Memory).unwrap();
        let in_file: BTreeSet<String> = store
            .try_read(|snapshot| {
                let tables = snapshot.list_tables()?;
                Ok(tables.map(|table| table.name().to_owned()).collect())
            })
            .unwrap();
        let mut copied = Names(BTreeSet::from(["meta".to_owned()]));
        visit_tables(&mut copied).unwrap();
        assert_eq!(copied.0, in_file);
    }

    #[test]
    fn a_sum_depends_on_every_row_and_reads_back() {
        let sum = |rows: &[(&str, &str)]| {
            let mut sum = CopySum::default();
            for (key, value) in rows {
                sum.add(key.as_bytes(), value.as_bytes());
            }
            sum
        };
        let whole = sum(&[("a", "1"), ("b", "2")]);
        assert_eq!(CopySum::decode(&whole.encode()), Some(whole));
        for other in [&[("a", "1")][..], &[("a", "1"), ("b", "3")], &[]] {
            assert_ne!(sum(other), whole);
        }
    }
}
