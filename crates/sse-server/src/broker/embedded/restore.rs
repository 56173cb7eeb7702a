//! Restores a log from a copy into an empty directory, while no server runs there.
//!
//! ```text
//! the copy ──► DIRECTORY/.restoring.redb ──► verified ──► gap records ──► DIRECTORY/events.redb
//! ```
//!
//! `record_loss` has the step of the gap records. The last step is a link, which fails if a server
//! has created a log meanwhile. Until then the directory has no log, so a restore that is cut off
//! leaves nothing that a server would open.

mod record_loss;

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Seek as _},
    path::{Path, PathBuf},
};

use redb::{Database, DatabaseError, ReadableDatabase as _};
use sse_proto::api::Lost;

use self::record_loss::record_loss;
use super::{
    backup::contents::verify_copy,
    catch_panic::catch_panic,
    data_files::{DataMode, create_directory, open_data_file},
    error::StoreError,
    open::{CACHE_BYTES, FILE, open_or_create_file, sync_directory},
    record::FORMAT,
    tables::{COPY, RESTORED, read_format_number, read_header},
};
use crate::broker::clock::now_ms;

/// The log while it is restored.
const PARTIAL: &str = ".restoring.redb";

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The channels that have a gap record.
    pub channels: u64,
    /// The range of the ids that can be lost. The gap records have the id at its end.
    pub lost: Lost,
}

/// Why a log was not restored. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A server, or another restore, uses the directory.
    #[error(
        "the data directory {} is in use: stop the server that uses it, or restore into another \
         directory",
        .0.display()
    )]
    InUse(PathBuf),
    /// The directory has a log.
    #[error(
        "there is a log in the data directory {}, and a restore replaces none: move its events.redb \
         away, or restore into another directory",
        .0.display()
    )]
    NotEmpty(PathBuf),
    /// The file is the file of a log.
    #[error(
        "{} is no copy but the file of a log: stop its server, and move the file into the data \
         directory itself",
        .0.display()
    )]
    NotACopy(PathBuf),
    /// A newer version made the copy.
    #[error(
        "the copy {} was made by a version with another format ({found}): restore it with that \
         version",
        path.display()
    )]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The file is cut off or damaged.
    #[error("{} is not a whole copy ({why}): use another copy", path.display())]
    NotWhole {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file cannot be read or written.
    #[error("cannot restore {} ({why})", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system answered.
        why: io::Error,
    },
}

/// Restores the copy, a directory or its file, into `directory`.
///
/// # Errors
///
/// Every [`RestoreError`].
pub fn restore(copy: &Path, directory: &Path, mode: DataMode) -> Result<Restored, RestoreError> {
    let source = if copy.is_dir() {
        copy.join(FILE)
    } else {
        copy.to_owned()
    };
    let at = |path: &Path| {
        let path = path.to_owned();
        move |why: io::Error| RestoreError::Io { path, why }
    };
    let mut reader = File::open(&source).map_err(at(&source))?;
    create_directory(directory, mode).map_err(at(directory))?;
    let place = directory.join(FILE);
    refuse_log(directory, &place)?;
    let partial = directory.join(PARTIAL);
    let file = open_data_file(&partial, mode).map_err(at(&partial))?;
    lock(directory, &file)?;
    let restored = fill(&mut reader, file)
        .map_err(at(&partial))
        .and_then(|()| open_copy(&source, &partial, mode))
        .and_then(|database| restore_in(&source, database));
    let linked = restored.and_then(|restored| {
        fs::hard_link(&partial, &place).map_err(|why| match why.kind() {
            ErrorKind::AlreadyExists => RestoreError::NotEmpty(directory.to_owned()),
            _ => at(&place)(why),
        })?;
        Ok(restored)
    });
    // Without the link this is the only name of the file, and with it the other one remains.
    let _ = fs::remove_file(&partial);
    sync_directory(directory).map_err(at(directory))?;
    linked
}

/// Rejects a directory that has a log, in use or not.
fn refuse_log(directory: &Path, place: &Path) -> Result<(), RestoreError> {
    match File::open(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(log) => {
            lock(directory, &log)?;
            Err(RestoreError::NotEmpty(directory.to_owned()))
        }
        Err(_) => Err(RestoreError::NotEmpty(directory.to_owned())),
    }
}

/// Locks a file as redb does.
fn lock(directory: &Path, file: &File) -> Result<(), RestoreError> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(RestoreError::InUse(directory.to_owned())),
        // A file system without locks cannot show that the directory is in use.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn fill(source: &mut File, mut file: File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    io::copy(source, &mut file)?;
    file.sync_all()
}

/// Opens the bytes of a copy, and verifies that they are whole. A damaged file can make redb panic.
fn open_copy(source: &Path, partial: &Path, mode: DataMode) -> Result<Database, RestoreError> {
    let not_whole = |why: String| RestoreError::NotWhole {
        path: source.to_owned(),
        why,
    };
    let opened = catch_panic(|| open_or_create_file(partial, mode, CACHE_BYTES));
    let database = match opened.map_err(not_whole)? {
        Ok(database) => database,
        Err(DatabaseError::DatabaseAlreadyOpen) => {
            let directory = partial.parent().unwrap_or(partial);
            return Err(RestoreError::InUse(directory.to_owned()));
        }
        Err(error) => return Err(not_whole(error.to_string())),
    };
    let read = catch_panic(|| read_format_number(&database.begin_read()?));
    let format = read
        .map_err(StoreError::Damaged)
        .flatten()
        .map_err(|error| not_whole(error.to_string()))?;
    if format & COPY == 0 {
        return Err(RestoreError::NotACopy(source.to_owned()));
    }
    let found = format & !(COPY | RESTORED);
    if found != FORMAT {
        let path = source.to_owned();
        return Err(RestoreError::OtherFormat { path, found });
    }
    catch_panic(|| verify_copy(&database.begin_read()?))
        .map_err(StoreError::Damaged)
        .flatten()
        .map_err(|error| not_whole(error.to_string()))?;
    Ok(database)
}

/// Turns the copy into a log that has lost its newest events.
fn restore_in(source: &Path, database: Database) -> Result<Restored, RestoreError> {
    let restored = catch_panic(|| {
        let header = read_header(&database.begin_read()?)?;
        let transaction = database.begin_write()?;
        let restored = record_loss(&transaction, header, now_ms(), rand::random())?;
        transaction.commit()?;
        Ok(restored)
    });
    let closed = restored
        .map_err(StoreError::Damaged)
        .flatten()
        .and_then(|restored| Ok(database.close().map(|()| restored)?));
    closed.map_err(|error| RestoreError::NotWhole {
        path: source.to_owned(),
        why: error.to_string(),
    })
}
