//! Transactions on the redb file, and closing and reopening it.
//!
//! A damaged file can make redb return an error or panic. Both become a [`StoreError`].

use std::{
    path::PathBuf,
    sync::{PoisonError, RwLock, RwLockWriteGuard},
};

use redb::{Database, ReadTransaction, ReadableDatabase as _, WriteTransaction};

use super::{
    catch_panic::catch_panic,
    error::{OpenError, StoreError},
    open::{Location, open_database},
};
use crate::broker::BrokerError;

/// An open log file. Readers share the lock; only reopening and closing wait for them.
#[derive(Debug)]
pub(super) struct Store {
    location: Location,
    database: RwLock<Option<Database>>,
}

impl Store {
    /// Opens the log, and creates it if there is none.
    pub(super) fn open(location: Location) -> Result<Self, OpenError> {
        let database = open_database(&location)?;
        Ok(Self {
            location,
            database: RwLock::new(Some(database)),
        })
    }

    /// Closes the file and opens it again.
    ///
    /// redb repairs the file. Everything that was not committed is gone.
    pub(super) fn reopen(&self) -> Result<(), OpenError> {
        let mut database = self.lock();
        *database = None;
        *database = Some(open_database(&self.location)?);
        Ok(())
    }

    /// Closes the file once all readers are done, so that the next process has nothing to repair.
    pub(super) fn close(&self) {
        let database = self.lock().take();
        if let Err(why) = catch_panic(|| drop(database)) {
            tracing::error!(
                "closing {} failed ({why}); it is repaired when it is opened next",
                self.file_name()
            );
        }
    }

    /// Runs `work` on a snapshot of the log.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unavailable`] if the log is closed, and otherwise [`BrokerError::Damaged`]
    /// with the name of the file and what to do.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, BrokerError> {
        self.try_read(work).map_err(|error| self.read_error(&error))
    }

    fn read_error(&self, error: &StoreError) -> BrokerError {
        match error {
            StoreError::Closed => BrokerError::Unavailable(error.to_string()),
            error => BrokerError::Damaged(self.describe_damage(error)),
        }
    }

    /// Runs `work` on a snapshot of the log. The caller adds the name of the file to an error.
    pub(super) fn try_read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.run(|database| work(&database.begin_read()?))
    }

    /// Runs `work` and commits: once this returns, the changes are on disk.
    ///
    /// After an error, nothing is known about the file until [`reopen`](Self::reopen).
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.run(|database| {
            let transaction = database.begin_write()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// Returns a snapshot of the log that holds no lock. Its reads fail once the log is closed or
    /// opened again.
    pub(super) fn snapshot(&self) -> Result<ReadTransaction, StoreError> {
        self.run(|database| Ok(database.begin_read()?))
    }

    /// Returns the path of the file.
    pub(super) fn file(&self) -> PathBuf {
        self.location.file()
    }

    /// Returns the path of the file, for messages.
    pub(super) fn file_name(&self) -> String {
        self.location.file().display().to_string()
    }

    fn describe_damage(&self, error: &StoreError) -> String {
        format!(
            "{error}, in {}: stop the server, and restore the file from a backup, or move it away \
             and start with an empty one",
            self.file_name()
        )
    }

    fn run<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(StoreError::Closed)?;
        catch_panic(|| work(database))
            .map_err(|why| invalid_data(&why))
            .flatten()
    }

    /// Waits for all readers.
    fn lock(&self) -> RwLockWriteGuard<'_, Option<Database>> {
        self.database
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn invalid_data(why: &str) -> StoreError {
    StoreError::Damaged(format!("the file contains invalid data ({why})"))
}
