//! The rate of a copy, and when the copy is given up.
//!
//! While a snapshot is read, the log cannot reuse the space of what is trimmed, so its file grows by
//! what is published. A copy that takes too long for that is given up, and so is one that would fill
//! a disk.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::BackupFailure;
use crate::broker::{backup::BackupSettings, embedded::disk::available_bytes};

/// A small log may grow by this much: redb enlarges a small file by doubling it.
const GROWTH_MIN: u64 = 64 << 20;
/// The longest sleep, after which the copy notices that the server stops.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// Delays a copy to its rate.
#[derive(Debug)]
pub(super) struct Pace {
    rate: u64,
    reserve: u64,
    log_file: PathBuf,
    log_bytes: u64,
    directory: PathBuf,
    started: Instant,
    copied: Arc<AtomicU64>,
    is_stopping: Arc<AtomicBool>,
}

impl Pace {
    /// Counts the copied bytes in `copied`, and ends when `is_stopping` is set.
    pub(super) fn new(
        settings: &BackupSettings,
        log_file: PathBuf,
        directory: PathBuf,
        copied: Arc<AtomicU64>,
        is_stopping: Arc<AtomicBool>,
    ) -> Self {
        Self {
            rate: settings.rate.max(1),
            reserve: settings.disk_reserve,
            log_bytes: file_bytes(&log_file),
            log_file,
            directory,
            started: Instant::now(),
            copied,
            is_stopping,
        }
    }

    /// Records copied bytes, and waits until the rate allows more.
    pub(super) fn record(&self, bytes: u64) -> Result<(), BackupFailure> {
        let copied = self.copied.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.check()?;
        let due = self.started + due_after(copied, self.rate);
        loop {
            if self.is_stopping.load(Ordering::Relaxed) {
                return Err(BackupFailure::Stopping);
            }
            let wait = due.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            thread::sleep(wait.min(SLEEP_MAX));
        }
    }

    /// Checks that the log has not grown too much, and that the disks have room.
    pub(super) fn check(&self) -> Result<(), BackupFailure> {
        let grown = file_bytes(&self.log_file).saturating_sub(self.log_bytes);
        if grown > (self.log_bytes / 10).max(GROWTH_MIN) {
            return Err(BackupFailure::LogGrew { grown });
        }
        let free = available_bytes(&self.log_file).min(available_bytes(&self.directory));
        if free < self.reserve.saturating_add(self.reserve / 2) {
            let reserve = self.reserve;
            return Err(BackupFailure::DiskNearlyFull { free, reserve });
        }
        Ok(())
    }
}

fn file_bytes(file: &PathBuf) -> u64 {
    fs::metadata(file).map_or(0, |found| found.len())
}

/// The time that `bytes` take at `rate` bytes per second.
fn due_after(bytes: u64, rate: u64) -> Duration {
    let ms = u128::from(bytes) * 1000 / u128::from(rate);
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(log_file: PathBuf, disk_reserve: u64) -> Pace {
        let directory = log_file.parent().unwrap().to_owned();
        let settings = BackupSettings {
            directory: Some(directory.clone()),
            rate: u64::MAX,
            disk_reserve,
            mode: crate::broker::embedded::DataMode::PRIVATE,
        };
        Pace::new(
            &settings,
            log_file,
            directory,
            Arc::default(),
            Arc::default(),
        )
    }

    #[test]
    fn a_copy_is_given_up_when_the_log_has_grown_by_a_tenth() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let file = fs::File::create(&path).unwrap();
        for (before, allowed, too_much) in [
            (0, GROWTH_MIN, GROWTH_MIN + 1),
            (100 * GROWTH_MIN, 110 * GROWTH_MIN, 110 * GROWTH_MIN + 1),
        ] {
            // The file is sparse.
            file.set_len(before).unwrap();
            let pace = pace(path.clone(), 0);
            file.set_len(allowed).unwrap();
            assert!(pace.record(1).is_ok());
            file.set_len(too_much).unwrap();
            assert!(matches!(pace.record(1), Err(BackupFailure::LogGrew { .. })));
        }
    }

    #[test]
    fn a_copy_is_given_up_near_the_reserve_of_the_disk_and_when_the_server_stops() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "").unwrap();
        let full = pace(path.clone(), u64::MAX);
        assert!(matches!(
            full.check(),
            Err(BackupFailure::DiskNearlyFull { .. })
        ));
        let stopping = pace(path, 0);
        stopping.is_stopping.store(true, Ordering::Relaxed);
        assert!(matches!(stopping.record(1), Err(BackupFailure::Stopping)));
    }

    #[test]
    fn the_rate_is_in_bytes_per_second() {
        assert_eq!(due_after(3000, 1000), Duration::from_secs(3));
        assert_eq!(due_after(1, 1000), Duration::from_millis(1));
    }
}
