//! The stored revocations in the file of the log.
//!
//! The writer changes the table in the commit batch of the request, so a revocation is acknowledged
//! after the fsync like an event.

use std::sync::atomic::{AtomicU64, Ordering};

use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};

use super::{
    Embedded,
    error::{AppendError, StoreError},
    request::Request,
    tables::REVOCATIONS,
};
use crate::broker::{
    BrokerError,
    revocations::{RevocationChange, RevocationSet, StoredRevocation, TEXTS_MAX, set_is_full},
};

/// Counts the changes of the table since the start of the process.
#[derive(Debug, Default)]
pub(super) struct RevocationVersion(AtomicU64);

impl RevocationVersion {
    pub(super) fn advance(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    fn text(&self) -> String {
        self.0.load(Ordering::Acquire).to_string()
    }
}

/// Changes the table. Nothing is changed if the table would have too many texts.
pub(super) fn stage_change(
    transaction: &WriteTransaction,
    change: &RevocationChange,
) -> Result<(), AppendError> {
    let mut table = transaction
        .open_table(REVOCATIONS)
        .map_err(StoreError::from)?;
    let stored = table.len().map_err(StoreError::from)?;
    let stored = usize::try_from(stored).unwrap_or(usize::MAX);
    let most = stored.saturating_add(change.add.len());
    if most.saturating_sub(change.remove.len()) > TEXTS_MAX {
        return Err(set_is_full().into());
    }
    for text in &change.remove {
        table.remove(text.as_str()).map_err(StoreError::from)?;
    }
    for entry in &change.add {
        table
            .insert(entry.text.as_str(), entry.until_ms)
            .map_err(StoreError::from)?;
    }
    Ok(())
}

/// Reads all texts.
pub(super) fn read_table(snapshot: &ReadTransaction) -> Result<Vec<StoredRevocation>, StoreError> {
    let table = snapshot.open_table(REVOCATIONS)?;
    let rows = table.iter()?.map(|row| {
        let (text, until_ms) = row?;
        Ok(StoredRevocation {
            text: text.value().to_owned(),
            until_ms: until_ms.value(),
        })
    });
    rows.collect()
}

impl Embedded {
    pub(in crate::broker) async fn change_revocations(
        &self,
        change: RevocationChange,
    ) -> Result<(), BrokerError> {
        let change = |reply| Request::ChangeRevocations { change, reply };
        self.request(change, BrokerError::OutcomeUnknown).await
    }

    pub(in crate::broker) async fn read_revocations(
        &self,
        known: Option<&str>,
    ) -> Result<Option<RevocationSet>, BrokerError> {
        // Read the version first: a change in between is read once more the next time.
        let version = self.shared.revocation_version.text();
        if known == Some(&version) {
            return Ok(None);
        }
        let read = self.run_blocking(|shared| shared.store.read(read_table));
        let entries = read.await?;
        Ok(Some(RevocationSet { version, entries }))
    }
}
