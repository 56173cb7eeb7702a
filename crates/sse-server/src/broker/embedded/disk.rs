//! Keeps a reserve of free disk space: a log that filled its disk could not even trim itself.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::broker::BrokerError;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks at the free space now and then.
#[derive(Debug)]
pub(super) struct FreeSpace {
    directory: PathBuf,
    reserve_bytes: u64,
    looked: Option<(Instant, u64)>,
}

impl FreeSpace {
    pub(super) const fn new(directory: PathBuf, reserve_bytes: u64) -> Self {
        Self {
            directory,
            reserve_bytes,
            looked: None,
        }
    }

    /// Whether events may be stored. What cannot be found out does not stop anybody.
    pub(super) fn check(&mut self) -> Result<(), BrokerError> {
        let free = match self.looked {
            Some((when, free)) if when.elapsed() < LOOK_EVERY => free,
            _ => {
                let free = rustix::fs::statvfs(&self.directory)
                    .map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
                self.looked = Some((Instant::now(), free));
                free
            }
        };
        if free >= self.reserve_bytes {
            return Ok(());
        }
        Err(BrokerError::Full(format!(
            "only {free} bytes are free on the disk of {}, and {} are kept in reserve (--disk-reserve): make room",
            self.directory.display(),
            self.reserve_bytes
        )))
    }
}
