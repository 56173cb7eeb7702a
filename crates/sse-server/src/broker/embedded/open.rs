//! Opens the redb file of a log, and creates it if there is none.

use std::{
    io,
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, StorageError};

use super::{
    catch_panic::catch_panic,
    error::{OpenError, StoreError},
    record::FORMAT,
    tables::prepare_tables,
};

const FILE: &str = "events.redb";

/// Size of redb's cache.
///
/// redb's default is a gigabyte. The page cache of the kernel serves as well.
const CACHE_BYTES: usize = 32 << 20;

/// The location of the log.
#[derive(Debug, Clone)]
pub enum Location {
    /// A directory that holds only this log.
    Directory(PathBuf),
    /// Memory: a disk that is fast enough for tests of the layers above.
    #[cfg(test)]
    Memory,
}

impl Location {
    pub(super) fn directory(&self) -> &Path {
        match self {
            Self::Directory(directory) => directory,
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
            Self::Directory(directory) => open_or_create_in(directory),
            #[cfg(test)]
            Self::Memory => builder().create_with_backend(redb::backends::InMemoryBackend::new()),
        }
    }
}

/// Opens the database and creates the tables that are missing.
pub(super) fn open_database(location: &Location) -> Result<Database, OpenError> {
    let database = catch_panic(|| location.open_or_create())
        .map_err(|why| unreadable(location, why))?
        .map_err(|error| open_error(location, error))?;
    let format = catch_panic(|| prepare_tables(&database))
        .unwrap_or_else(|why| Err(StoreError::Damaged(why)))
        .map_err(|error| unreadable(location, error.to_string()))?;
    let path = location.directory().to_owned();
    match format {
        FORMAT => Ok(database),
        found if found < FORMAT => Err(OpenError::TooOld { path, found }),
        found => Err(OpenError::TooNew { path, found }),
    }
}

fn open_error(location: &Location, error: DatabaseError) -> OpenError {
    let path = location.directory().to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(path),
        DatabaseError::Storage(StorageError::Io(error)) if !is_caused_by_damage(&error) => {
            OpenError::Io(path, error)
        }
        error => unreadable(location, error.to_string()),
    }
}

fn unreadable(location: &Location, why: String) -> OpenError {
    OpenError::Unreadable {
        path: location.directory().to_owned(),
        why,
    }
}

/// Returns true if redb followed a damaged pointer to an offset outside the file.
fn is_caused_by_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open_or_create_in(directory: &Path) -> Result<Database, DatabaseError> {
    if directory.exists() && !directory.is_dir() {
        return Err(StorageError::Io(io::Error::new(
            io::ErrorKind::NotADirectory,
            "it is not a directory",
        ))
        .into());
    }
    std::fs::create_dir_all(directory)?;
    let database = builder().create(directory.join(FILE))?;
    // The entry in the directory must survive a power loss too.
    std::fs::File::open(directory)?.sync_all()?;
    Ok(database)
}
