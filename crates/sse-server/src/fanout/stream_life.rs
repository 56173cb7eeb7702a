//! How long a stream may be open. A reload may change it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::RngExt as _;

/// The longest time that a stream is open; clones share it.
#[derive(Debug, Clone, Default)]
pub struct StreamLife {
    /// Milliseconds; 0 if there is no limit.
    milliseconds: Arc<AtomicU64>,
}

impl StreamLife {
    /// Sets the time for streams that are opened from now on; `None` is no limit.
    pub fn set(&self, life: Option<Duration>) {
        let milliseconds = life.map_or(0, |life| {
            u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1)
        });
        self.milliseconds.store(milliseconds, Ordering::Relaxed);
    }

    /// Returns 80 to 100 % of the time, so that streams that opened together do not end together;
    /// `None` if there is no limit.
    pub(crate) fn random_part(&self) -> Option<Duration> {
        match self.milliseconds.load(Ordering::Relaxed) {
            0 => None,
            life => {
                let part = rand::rng().random_range(0.8..=1.0);
                Some(Duration::from_millis(life).mul_f64(part))
            }
        }
    }
}
