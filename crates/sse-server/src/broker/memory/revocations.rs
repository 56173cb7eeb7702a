//! The stored revocations of the broker in memory.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Memory;
use crate::broker::{
    BrokerError,
    revocations::{RevocationChange, RevocationSet, StoredRevocation, TEXTS_MAX, set_is_full},
};

/// The set of revocations, which ends with the process.
#[derive(Debug, Default)]
pub(super) struct Revocations(Mutex<Set>);

#[derive(Debug, Default)]
struct Set {
    version: u64,
    until_ms: HashMap<String, u64>,
}

impl Revocations {
    fn change(&self, change: RevocationChange) -> Result<(), BrokerError> {
        let mut set = self.lock();
        for text in &change.remove {
            set.until_ms.remove(text);
        }
        if set.until_ms.len().saturating_add(change.add.len()) > TEXTS_MAX {
            return Err(set_is_full());
        }
        let added = change.add.into_iter();
        set.until_ms
            .extend(added.map(|entry| (entry.text, entry.until_ms)));
        set.version += 1;
        Ok(())
    }

    fn read(&self, known: Option<&str>) -> Option<RevocationSet> {
        let set = self.lock();
        let version = set.version.to_string();
        if known == Some(&version) {
            return None;
        }
        let entries = set
            .until_ms
            .iter()
            .map(|(text, until_ms)| StoredRevocation {
                text: text.clone(),
                until_ms: *until_ms,
            });
        Some(RevocationSet {
            version,
            entries: entries.collect(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    pub(in crate::broker) fn change_revocations(
        &self,
        change: RevocationChange,
    ) -> Result<(), BrokerError> {
        self.0.revocations.change(change)
    }

    pub(in crate::broker) fn read_revocations(&self, known: Option<&str>) -> Option<RevocationSet> {
        self.0.revocations.read(known)
    }
}
