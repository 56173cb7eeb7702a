//! Keeps a reserve of free disk space. A log that filled its disk could not even trim itself.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::broker::BrokerError;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Measures the free space of the log's disk, at most once per [`CHECK_INTERVAL`].
#[derive(Debug)]
pub(super) struct FreeSpace {
    directory: PathBuf,
    reserve_bytes: u64,
    measured: Option<(Instant, u64)>,
}

impl FreeSpace {
    pub(super) const fn new(directory: PathBuf, reserve_bytes: u64) -> Self {
        Self {
            directory,
            reserve_bytes,
            measured: None,
        }
    }

    /// Checks that events may be stored. If the free space cannot be measured, they may.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Full`] if less than the reserve is free.
    pub(super) fn check(&mut self) -> Result<(), BrokerError> {
        let free = self.free_bytes();
        if free >= self.reserve_bytes {
            return Ok(());
        }
        Err(self.disk_full(free))
    }

    fn disk_full(&self, free: u64) -> BrokerError {
        BrokerError::Full(format!(
            "only {free} bytes are free on the disk of {}, and {} are kept in reserve \
             (--disk-reserve): make room",
            self.directory.display(),
            self.reserve_bytes
        ))
    }

    fn free_bytes(&mut self) -> u64 {
        match self.measured {
            Some((when, free)) if when.elapsed() < CHECK_INTERVAL => free,
            _ => self.measure(),
        }
    }

    fn measure(&mut self) -> u64 {
        let free = available_bytes(&self.directory);
        self.measured = Some((Instant::now(), free));
        free
    }
}

/// Returns the free bytes of a disk; the maximum if they cannot be measured.
pub(super) fn available_bytes(directory: &Path) -> u64 {
    rustix::fs::statvfs(directory).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize)
}
