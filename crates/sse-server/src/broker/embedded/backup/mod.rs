//! Copies of the log, made while it is written.
//!
//! A thread of its own reads one snapshot and writes it to a new file, so neither the writer nor the
//! threads that read history wait for it. A copy is a directory with one file:
//!
//! ```text
//! DIRECTORY/.partial/events.redb    while the copy is made, and after a crash
//! DIRECTORY/NAME/events.redb        once the file is synced
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `contents` | the tables that a copy has, and the sum over their rows |
//! | `copy` | copies the tables of a snapshot |
//! | `pace` | the rate, and when a copy gives up |
//! | `target` | the directory of a copy, from its partial name to its own |

pub(super) mod contents;
mod copy;
mod pace;
mod target;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{Builder, JoinHandle},
};

use redb::ReadTransaction;

use self::{copy::copy_tables, pace::Pace, target::Target};
use super::{Embedded, catch_panic::catch_panic, error::StoreError, lock, shared::Shared};
use crate::broker::backup::{BackupError, BackupName, BackupSettings, BackupState, BackupStatus};

const NO_DIRECTORY: &str = "it has no --backup-dir";

/// Why a copy was given up. The sentences name no path, because callers of other machines get them.
#[derive(Debug, thiserror::Error)]
enum BackupFailure {
    #[error("the server stops")]
    Stopping,
    #[error(
        "the log has grown by {grown} bytes, more than a tenth, because it cannot reuse space while \
         it is copied: try again when less is published, or raise --backup-rate"
    )]
    LogGrew { grown: u64 },
    #[error(
        "only {free} bytes are free on the disk of the log or on that of the copies, which is near \
         the reserve of {reserve} bytes (--disk-reserve): make room"
    )]
    DiskNearlyFull { free: u64, reserve: u64 },
    #[error("the log cannot be copied: {0}")]
    Store(#[from] StoreError),
    #[error("the file of the copy cannot be written: {0}")]
    Io(#[from] std::io::Error),
}

/// The copies of one log.
#[derive(Debug, Default)]
pub(super) struct Backups {
    /// Never locked while the disk is used: requests for the status must not wait for it.
    last: Mutex<Option<LastBackup>>,
    /// The copy whose directory is being created.
    starting: Mutex<Option<BackupName>>,
    is_stopping: Arc<AtomicBool>,
}

/// A copy that has begun.
#[derive(Debug)]
struct LastBackup {
    status: BackupStatus,
    copied: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<(), BackupFailure>>>,
}

impl Backups {
    /// Gives up the copy that is being made, and waits until its thread has ended.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        if let Some(backup) = self.lock().as_mut() {
            backup.finish();
        }
    }

    fn status(&self) -> Option<BackupStatus> {
        let mut last = self.lock();
        let backup = last.as_mut()?;
        backup.finish_if_ended();
        let copied_bytes = backup.copied.load(Ordering::Relaxed);
        Some(BackupStatus {
            copied_bytes,
            ..backup.status.clone()
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<LastBackup>> {
        lock(&self.last)
    }

    /// Claims the start of a copy, if no other one is started or made.
    fn claim_start(&self, name: &BackupName) -> Result<StartingBackup<'_>, BackupError> {
        let mut starting = lock(&self.starting);
        if let Some(other) = &*starting {
            return Err(BackupError::Running(other.to_string()));
        }
        if let Some(backup) = self.lock().as_mut() {
            backup.finish_if_ended();
            if backup.status.state == BackupState::Running {
                return Err(BackupError::Running(backup.status.name.clone()));
            }
        }
        *starting = Some(name.clone());
        Ok(StartingBackup(self))
    }
}

/// A copy that is being started, until this is dropped.
struct StartingBackup<'b>(&'b Backups);

impl StartingBackup<'_> {
    /// Starts the thread, unless the log is being closed.
    fn spawn(
        self,
        status: BackupStatus,
        copied: Arc<AtomicU64>,
        work: impl FnOnce() -> Result<(), BackupFailure> + Send + 'static,
    ) -> Result<BackupStatus, BackupFailure> {
        let mut last = self.0.lock();
        if self.0.is_stopping.load(Ordering::Relaxed) {
            return Err(BackupFailure::Stopping);
        }
        let thread = Builder::new().name("log-backup".to_owned()).spawn(work)?;
        *last = Some(LastBackup {
            status: status.clone(),
            copied,
            thread: Some(thread),
        });
        Ok(status)
    }
}

impl Drop for StartingBackup<'_> {
    fn drop(&mut self) {
        *lock(&self.0.starting) = None;
    }
}

impl LastBackup {
    fn finish_if_ended(&mut self) {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish();
        }
    }

    /// Waits for the thread, and records its result.
    fn finish(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let result = thread.join();
        let why = match result {
            Ok(Ok(())) => {
                self.status.state = BackupState::Done;
                return;
            }
            Ok(Err(failure)) => failure.to_string(),
            Err(_panicked) => "the thread that copies the log panicked".to_owned(),
        };
        self.status.state = BackupState::Failed;
        self.status.message = Some(why);
    }
}

impl Embedded {
    pub(in crate::broker) async fn start_backup(
        &self,
        name: &BackupName,
        settings: &BackupSettings,
    ) -> Result<BackupStatus, BackupError> {
        let (shared, name, settings) = (self.shared.clone(), name.clone(), settings.clone());
        // Creating a file waits for the disk.
        let start = move || start_backup(&shared, &name, &settings);
        let started = self.blocking.spawn_blocking(start).await;
        started.unwrap_or_else(|_| Err(failed(&BackupFailure::Stopping)))
    }

    pub(in crate::broker) fn backup_status(&self) -> Option<BackupStatus> {
        self.shared.backups.status()
    }
}

fn start_backup(
    shared: &Shared,
    name: &BackupName,
    settings: &BackupSettings,
) -> Result<BackupStatus, BackupError> {
    let directory = settings.directory.clone();
    let directory = directory.ok_or(BackupError::NotSupported(NO_DIRECTORY))?;
    let start = shared.backups.claim_start(name)?;
    let copied = Arc::new(AtomicU64::new(0));
    let target = Target::create(directory.clone(), name, settings.mode)?;
    let pace = Pace::new(
        settings,
        shared.store.file(),
        directory,
        copied.clone(),
        shared.backups.is_stopping.clone(),
    );
    pace.check().map_err(|failure| failed(&failure))?;
    let snapshot = shared.store.snapshot();
    let snapshot = snapshot.map_err(|error| failed(&error.into()))?;
    let status = BackupStatus {
        name: name.to_string(),
        state: BackupState::Running,
        copied_bytes: 0,
        total_bytes: shared.state().bytes,
        message: None,
    };
    let work = move || make_copy(&snapshot, target, &pace);
    let started = start.spawn(status, copied, work);
    started.map_err(|failure| failed(&failure))
}

fn failed(failure: &BackupFailure) -> BackupError {
    BackupError::Failed(failure.to_string())
}

/// Copies the snapshot, and logs the result.
fn make_copy(snapshot: &ReadTransaction, target: Target, pace: &Pace) -> Result<(), BackupFailure> {
    let path: PathBuf = target.place();
    let copied = catch_panic(|| {
        copy_tables(snapshot, target.database()?, pace)?;
        target.finish()
    });
    let result = copied.unwrap_or_else(|why| Err(StoreError::Damaged(why).into()));
    match &result {
        Ok(()) => tracing::info!(copy = %path.display(), "the log was copied"),
        Err(failure) => {
            tracing::warn!(copy = %path.display(), %failure, "the copy of the log was given up");
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_copy_is_started_at_a_time_and_the_status_does_not_wait_for_it() {
        let backups = Backups::default();
        let name: BackupName = "first".parse().unwrap();
        let other: BackupName = "second".parse().unwrap();
        let start = backups.claim_start(&name).unwrap();
        assert!(backups.status().is_none());
        assert!(matches!(
            backups.claim_start(&other),
            Err(BackupError::Running(running)) if running == "first"
        ));
        drop(start);
        assert!(backups.claim_start(&other).is_ok());
    }

    #[test]
    fn no_copy_begins_when_the_log_is_being_closed() {
        let backups = Backups::default();
        let start = backups.claim_start(&"name".parse().unwrap()).unwrap();
        backups.stop();
        let status = BackupStatus {
            name: "name".to_owned(),
            state: BackupState::Running,
            copied_bytes: 0,
            total_bytes: 0,
            message: None,
        };
        let started = start.spawn(status, Arc::default(), || Ok(()));
        assert!(matches!(started, Err(BackupFailure::Stopping)));
        assert!(backups.status().is_none());
    }
}
