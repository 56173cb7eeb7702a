//! The redb file: opening it, its tables and its format, and transactions that survive what redb may do.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageError,
    TableDefinition, TableHandle as _, WriteTransaction,
};

use sse_proto::EventId;

use super::{
    catch_panic::catch_panic,
    record::{Key, LogHeader},
};
use crate::broker::BrokerError;

/// Events of all channels, by channel and id.
pub(super) const EVENTS: TableDefinition<'static, Key, &[u8]> = TableDefinition::new("events");
/// A [`ChannelRow`](super::record::Row) for each channel.
pub(super) const CHANNELS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("channels");
/// The last ids of channels that were forgotten to make room, as long as there are not too many.
pub(super) const FORGOTTEN: TableDefinition<'static, &str, &[u8]> =
    TableDefinition::new("forgotten");
/// What was stored under a key, by the number of its channel and its fingerprint; see [`keys`](super::keys).
pub(super) const KEYS: TableDefinition<'static, (u32, u128), &[u8]> = TableDefinition::new("keys");
/// The same keys in the order in which they expire, by milliseconds.
pub(super) const KEY_EXPIRIES: TableDefinition<'static, (u32, u64, u128), ()> =
    TableDefinition::new("key_expiries");
/// How many keys a channel has, and when the oldest expires, by the channel's number.
pub(super) const KEY_TALLIES: TableDefinition<'static, u32, &[u8]> =
    TableDefinition::new("key_tallies");
/// What belongs to the whole log: [`LogHeader`], in one row.
pub(super) const NUMBERS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("numbers");
/// Has the format, in the same place and form in every version.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// Changes when an older version could not read what this one writes.
const FORMAT: u64 = 2;
const FILE: &str = "events.redb";
const CACHE_BYTES: usize = 32 << 20;

/// Where the log lives.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a directory of its own.
    Directory(PathBuf),
    /// In memory: a disk that is fast enough for tests of what stands on it.
    #[cfg(test)]
    Memory,
}

impl Place {
    pub(super) fn directory(&self) -> &Path {
        match self {
            Self::Directory(directory) => directory,
            #[cfg(test)]
            Self::Memory => Path::new("memory"),
        }
    }

    /// Makes the log there, if there is none, and opens it.
    fn open(&self) -> Result<Database, DatabaseError> {
        match self {
            Self::Directory(directory) => create_in(directory),
            #[cfg(test)]
            Self::Memory => builder().create_with_backend(redb::backends::InMemoryBackend::new()),
        }
    }
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {} is in use by another sse-server: stop that one, or give this one another --data-dir \
         (or --memory)", .0.display()
    )]
    InUse(PathBuf),
    /// The directory or file cannot be made, read or written.
    #[error("cannot open the log in {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// Written by an older version, before there was a release.
    #[error(
        "the log in {} has format {found}, and this version reads only {FORMAT}: go on with the version that wrote it, or \
         give this one another --data-dir", path.display()
    )]
    TooOld {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// Written by a newer version.
    #[error(
        "the log in {} has format {found}, and this version reads up to {FORMAT}: run the newer version again, or \
         give this one another --data-dir", path.display()
    )]
    TooNew {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// What is there is not a log, or a damaged one.
    #[error(
        "the log in {} cannot be read ({why}): restore it from a backup, or move the directory away and start with an \
         empty one", path.display()
    )]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// What redb or a checksum said.
        why: String,
    },
}

/// An open log file. Readers share it; only reopening waits for them.
#[derive(Debug)]
pub(super) struct Store {
    place: Place,
    database: RwLock<Option<Database>>,
}

impl Store {
    /// Opens the log.
    pub(super) fn open(place: Place) -> Result<Self, OpenError> {
        let database = open_database(&place)?;
        Ok(Self {
            place,
            database: RwLock::new(Some(database)),
        })
    }

    /// Closes the file and opens it again: redb repairs it, and what was not committed is gone.
    pub(super) fn reopen(&self) -> Result<(), OpenError> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *database = None;
        *database = Some(open_database(&self.place)?);
        Ok(())
    }

    /// Closes the file for good, once all readers are done: then the next one who opens it has nothing to repair.
    pub(super) fn close(&self) {
        let database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Err(why) = catch_panic(|| drop(database)) {
            tracing::error!(
                "{} could not be closed properly ({why}); it is repaired when it is opened",
                self.name()
            );
        }
    }

    /// Runs `work` on a snapshot of the log.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, BrokerError> {
        self.try_read(work).map_err(|error| match error {
            StoreError::Closed => BrokerError::Unavailable(error.to_string()),
            error => BrokerError::Damaged(self.with_advice(&error)),
        })
    }

    /// The same, for those who say themselves which log it is.
    pub(super) fn try_read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.guarded(|database| work(&database.begin_read()?))
    }

    /// What is wrong, with which file, and the way out.
    fn with_advice(&self, error: &StoreError) -> String {
        format!(
            "{error}, in {}: stop the server, and restore the file from a backup, or move it away and start with an empty \
             one",
            self.name()
        )
    }

    /// The file, for people.
    pub(super) fn name(&self) -> String {
        self.place.directory().join(FILE).display().to_string()
    }

    /// Runs `work` and commits: when this returns, it is on disk. Otherwise nothing is known until [`Self::reopen`].
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.guarded(|database| {
            let transaction = database.begin_write()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// A damaged file can make redb panic; that is an error like any other.
    fn guarded<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.as_ref() else {
            return Err(StoreError::Closed);
        };
        catch_panic(|| work(database)).unwrap_or_else(|why| {
            Err(StoreError::Damaged(format!(
                "what is there makes no sense ({why})"
            )))
        })
    }
}

/// Why a transaction failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("the log is closed")]
    Closed,
    #[error("{0}")]
    Damaged(String),
    #[error(transparent)]
    Redb(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

fn open_database(place: &Place) -> Result<Database, OpenError> {
    let directory = place.directory();
    let io_error = |error| OpenError::Io(directory.to_owned(), error);
    let unreadable = |why| OpenError::Unreadable {
        path: directory.to_owned(),
        why,
    };
    let database = match catch_panic(|| place.open()) {
        Ok(Ok(database)) => database,
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
            return Err(OpenError::InUse(directory.to_owned()));
        }
        Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
            if !is_of_a_damaged_file(&error) =>
        {
            return Err(io_error(error));
        }
        Ok(Err(error)) => return Err(unreadable(error.to_string())),
        Err(why) => return Err(unreadable(why)),
    };
    match catch_panic(|| prepare(&database)).unwrap_or_else(|why| Err(StoreError::Damaged(why))) {
        Ok(FORMAT) => Ok(database),
        Ok(found) if found < FORMAT => Err(OpenError::TooOld {
            path: directory.to_owned(),
            found,
        }),
        Ok(found) => Err(OpenError::TooNew {
            path: directory.to_owned(),
            found,
        }),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// A damaged file leads redb to places that are not there.
fn is_of_a_damaged_file(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// redb would take a gigabyte for its cache; the system's own cache of the file serves as well.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn create_in(directory: &Path) -> Result<Database, DatabaseError> {
    if directory.exists() && !directory.is_dir() {
        return Err(StorageError::Io(io::Error::new(
            io::ErrorKind::NotADirectory,
            "it is not a directory",
        ))
        .into());
    }
    std::fs::create_dir_all(directory)?;
    let database = builder().create(directory.join(FILE))?;
    // The file's name must survive a power loss too.
    std::fs::File::open(directory)?.sync_all()?;
    Ok(database)
}

/// Makes the tables that are not there; returns the format of the file.
fn prepare(database: &Database) -> Result<u64, StoreError> {
    let found = format(database)?;
    if let Some(found) = found
        && found != FORMAT
    {
        return Ok(found);
    }
    let transaction = database.begin_write()?;
    if found.is_none() {
        transaction.open_table(META)?.insert("format", FORMAT)?;
        let numbers = LogHeader {
            highest: EventId::ZERO,
            origin: EventId::ZERO,
            next_number: 1,
        };
        transaction
            .open_table(NUMBERS)?
            .insert(LogHeader::KEY, numbers.encode().as_slice())?;
    }
    transaction.open_table(EVENTS)?;
    transaction.open_table(CHANNELS)?;
    transaction.open_table(FORGOTTEN)?;
    transaction.open_table(KEYS)?;
    transaction.open_table(KEY_EXPIRIES)?;
    transaction.open_table(KEY_TALLIES)?;
    transaction.commit()?;
    Ok(FORMAT)
}

/// The format of the file; none of a new one. A file of ours has all that every log has.
fn format(database: &Database) -> Result<Option<u64>, StoreError> {
    let transaction = database.begin_read()?;
    let tables: Vec<String> = transaction
        .list_tables()?
        .map(|table| table.name().to_owned())
        .collect();
    if tables.is_empty() {
        return Ok(None);
    }
    let is_missing = |name: &&str| !tables.iter().any(|table| table == name);
    let missing = |name: &str| StoreError::Damaged(format!("the table {name} is missing"));
    if is_missing(&META.name()) {
        return Err(missing(META.name()));
    }
    let found = transaction
        .open_table(META)?
        .get("format")?
        .map(|format| format.value());
    let found = found.ok_or_else(|| StoreError::Damaged("its format is missing".to_owned()))?;
    // Opening a table to write makes it: what a damaged name hides would quietly begin anew, empty.
    let of_this_one = [
        EVENTS.name(),
        CHANNELS.name(),
        FORGOTTEN.name(),
        NUMBERS.name(),
    ];
    match of_this_one.into_iter().find(is_missing) {
        Some(name) if found == FORMAT => Err(missing(name)),
        _ => Ok(Some(found)),
    }
}
