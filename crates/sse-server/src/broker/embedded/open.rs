//! Opens the redb file of a log, and creates it if there is none.

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, StorageError, backends::FileBackend};

use super::{
    catch_panic::catch_panic,
    data_files::{DataMode, create_directory, open_data_file},
    error::{OpenError, StoreError},
    record::FORMAT,
    tables::{COPY, prepare_tables},
};

/// The file of a log, and of a copy.
pub(super) const FILE: &str = "events.redb";

/// Size of redb's cache.
///
/// redb's default is a gigabyte. The page cache of the kernel serves as well.
pub(super) const CACHE_BYTES: usize = 32 << 20;

/// The location of the log.
#[derive(Debug, Clone)]
pub enum Location {
    /// A directory that holds only this log, and the permissions of what is created.
    Directory(PathBuf, DataMode),
    /// Memory: a disk that is fast enough for tests of the layers above.
    #[cfg(test)]
    Memory,
}

impl Location {
    pub(super) fn directory(&self) -> &Path {
        match self {
            Self::Directory(directory, _) => directory,
            #[cfg(test)]
            Self::Memory => Path::new("memory"),
        }
    }

    /// Returns the path of the file.
    pub(super) fn file(&self) -> PathBuf {
        self.directory().join(FILE)
    }

    /// Opens the database, and creates it if there is none.
    fn open_or_create(&self) -> Result<Database, DatabaseError> {
        match self {
            Self::Directory(directory, mode) => open_or_create_in(directory, *mode),
            #[cfg(test)]
            Self::Memory => {
                builder(CACHE_BYTES).create_with_backend(redb::backends::InMemoryBackend::new())
            }
        }
    }
}

/// Opens the database and creates the tables that are missing.
pub(super) fn open_database(location: &Location) -> Result<Database, OpenError> {
    let database = open_file(location)?;
    match prepare_file(location, &database)? {
        FORMAT => Ok(database),
        found => Err(wrong_format(location, found)),
    }
}

fn open_file(location: &Location) -> Result<Database, OpenError> {
    catch_panic(|| location.open_or_create())
        .map_err(|why| unreadable(location, &why))?
        .map_err(|error| open_error(location, error))
}

/// Creates the tables that are missing, and returns the format of the file.
fn prepare_file(location: &Location, database: &Database) -> Result<u64, OpenError> {
    catch_panic(|| prepare_tables(database))
        .map_err(StoreError::Damaged)
        .flatten()
        .map_err(|error| unreadable(location, &error))
}

fn wrong_format(location: &Location, found: u64) -> OpenError {
    let path = location.directory().to_owned();
    if found & COPY != 0 {
        OpenError::IsCopy(path)
    } else if found < FORMAT {
        OpenError::TooOld { path, found }
    } else {
        OpenError::TooNew { path, found }
    }
}

fn open_error(location: &Location, error: DatabaseError) -> OpenError {
    let path = location.directory().to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path),
        DatabaseError::Storage(StorageError::Io(error)) if is_missing_permission(&error) => {
            OpenError::NotWritable {
                path,
                why: error,
                user: rustix::process::geteuid().as_raw(),
            }
        }
        DatabaseError::Storage(StorageError::Io(error)) if !is_caused_by_damage(&error) => {
            OpenError::Io(path, error)
        }
        error => unreadable(location, &error),
    }
}

fn unreadable(location: &Location, why: &dyn fmt::Display) -> OpenError {
    OpenError::Unreadable {
        path: location.directory().to_owned(),
        why: why.to_string(),
    }
}

fn is_missing_permission(error: &io::Error) -> bool {
    use ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// Returns true if redb followed a damaged pointer to an offset outside the file.
fn is_caused_by_damage(error: &io::Error) -> bool {
    use ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    builder
}

fn open_or_create_in(directory: &Path, mode: DataMode) -> Result<Database, DatabaseError> {
    create_directory(directory, mode)?;
    let database = open_or_create_file(&directory.join(FILE), mode, CACHE_BYTES)?;
    // The entry in the directory must survive a power loss too.
    sync_directory(directory)?;
    Ok(database)
}

/// Opens a redb file, and creates it if there is none.
pub(super) fn open_or_create_file(
    path: &Path,
    mode: DataMode,
    cache_bytes: usize,
) -> Result<Database, DatabaseError> {
    let file = open_data_file(path, mode)?;
    builder(cache_bytes).create_with_backend(FileBackend::new(file)?)
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_written_states_what_to_do() {
        let location = Location::Directory(PathBuf::from("/var/lib/events"), DataMode::PRIVATE);
        for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
            let error = DatabaseError::Storage(StorageError::Io(kind.into()));
            let error = open_error(&location, error);
            assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
            let message = error.to_string();
            for hint in ["/var/lib/events", "chown", "--data-dir", "--memory"] {
                assert!(message.contains(hint), "no {hint} in {message}");
            }
        }
        let full = DatabaseError::Storage(StorageError::Io(ErrorKind::StorageFull.into()));
        assert!(matches!(open_error(&location, full), OpenError::Io(..)));
    }
}
