//! A number that increases whenever rules or keys change.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The number, which is read for every request, and those who await its change.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    number: AtomicU64,
    changed: watch::Sender<u64>,
}

impl Generation {
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Marks everything that was verified as outdated. Call it after the change is visible.
    pub(crate) fn increase(&self) {
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        self.changed
            .send_modify(|latest| *latest = number.max(*latest));
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
