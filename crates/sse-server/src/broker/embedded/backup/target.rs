//! The directory of a copy. It has a partial name until the copy is whole and synced.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    path::PathBuf,
};

use redb::{Database, DatabaseError};

use super::BackupFailure;
use crate::broker::{
    backup::{BackupError, BackupName},
    embedded::{
        DataMode,
        data_files::create_directory,
        open::{FILE, open_or_create_file, sync_directory},
    },
};

/// The name of a copy that is not whole. No [`BackupName`] begins with a dot.
const PARTIAL: &str = ".partial";
/// Size of redb's cache for the copy, which is only written.
const CACHE_BYTES: usize = 4 << 20;

/// A new copy.
#[derive(Debug)]
pub(super) struct Target {
    directory: PathBuf,
    name: BackupName,
    database: Option<Database>,
    /// The partial directory, which is locked: another server can use the same `--backup-dir`.
    _lock: File,
}

impl Target {
    /// Creates the file of a copy. What an earlier, unfinished copy left behind is deleted.
    pub(super) fn create(
        directory: PathBuf,
        name: &BackupName,
        mode: DataMode,
    ) -> Result<Self, BackupError> {
        if directory.join(name.as_str()).exists() {
            return Err(BackupError::Exists(name.to_string()));
        }
        let failed = |why: io::Error| {
            let place = directory.display();
            tracing::warn!(directory = %place, error = %why, "no copy of the log can be made");
            let why = match why.kind() {
                ErrorKind::WouldBlock => "another server uses its --backup-dir now".to_owned(),
                _ => format!("its --backup-dir cannot be written ({})", why.kind()),
            };
            BackupError::Failed(why)
        };
        let partial = directory.join(PARTIAL);
        let created = create_directory(&directory, mode)
            .and_then(|()| create_directory(&partial, mode))
            .and_then(|()| lock_directory(&partial))
            .and_then(|lock| {
                remove_if_exists(&partial.join(FILE))?;
                let database = open_or_create_file(&partial.join(FILE), mode, CACHE_BYTES);
                Ok((lock, database.map_err(into_io)?))
            });
        let (lock, database) = created.map_err(failed)?;
        Ok(Self {
            name: name.clone(),
            database: Some(database),
            _lock: lock,
            directory,
        })
    }

    pub(super) fn database(&self) -> Result<&Database, BackupFailure> {
        let missing = || io::Error::from(ErrorKind::NotFound);
        Ok(self.database.as_ref().ok_or_else(missing)?)
    }

    /// Returns where the copy is once it is whole.
    pub(super) fn place(&self) -> PathBuf {
        self.directory.join(self.name.as_str())
    }

    /// Gives the whole copy its name.
    pub(super) fn finish(mut self) -> Result<(), BackupFailure> {
        if let Some(database) = self.database.take() {
            database.close().map_err(into_io)?;
        }
        let partial = self.directory.join(PARTIAL);
        File::open(partial.join(FILE))?.sync_all()?;
        sync_directory(&partial)?;
        // It fails if another program has created a directory of this name that is not empty.
        fs::rename(&partial, self.place())?;
        sync_directory(&self.directory)?;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            drop(database);
            // After a failure the space is needed. The next copy deletes what remains.
            let _ = fs::remove_dir_all(self.directory.join(PARTIAL));
        }
    }
}

fn lock_directory(directory: &PathBuf) -> io::Result<File> {
    let lock = File::open(directory)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn remove_if_exists(file: &PathBuf) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn into_io(error: DatabaseError) -> io::Error {
    match error {
        DatabaseError::Storage(redb::StorageError::Io(error)) => error,
        error => io::Error::other(error.to_string()),
    }
}
