//! Errors of the embedded log: why it cannot be opened, and why a transaction or an append fails.

use std::{io, path::PathBuf};

use sse_proto::Channel;

use super::record::FORMAT;
use crate::broker::BrokerError;

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has opened the log.
    #[error(
        "the data directory {} is in use by another sse-server: stop that one, or give this one \
         another --data-dir (or --memory)",
        .0.display()
    )]
    InUse(PathBuf),
    /// This process may not write the directory or the file.
    #[error(
        "the data directory {} cannot be written ({why}): give it to the user of this process (chown \
         {user}), mount it writable, or choose another one with --data-dir (--memory needs none)",
        path.display()
    )]
    NotWritable {
        /// The data directory.
        path: PathBuf,
        /// What the system answered.
        why: io::Error,
        /// The id of the user that this process runs as.
        user: u32,
    },
    /// The directory or file cannot be created, read or written.
    #[error("cannot open the log in {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// An older version wrote the log, before the first release.
    #[error(
        "the log in {} has format {found}, and this version reads only {FORMAT}: continue with the \
         version that wrote it, or use another --data-dir",
        path.display()
    )]
    TooOld {
        /// The data directory.
        path: PathBuf,
        /// The format of the log.
        found: u64,
    },
    /// A newer version wrote the log.
    #[error(
        "the log in {} has format {found}, and this version reads up to {FORMAT}: run the newer \
         version again, or use another --data-dir",
        path.display()
    )]
    TooNew {
        /// The data directory.
        path: PathBuf,
        /// The format of the log.
        found: u64,
    },
    /// The file is a copy that was not restored.
    #[error(
        "the file in {} is a copy of a log: run sse-server restore, which records what the copy \
         lacks, and start with the directory that it creates",
        .0.display()
    )]
    IsCopy(PathBuf),
    /// The file is not a log, or is damaged.
    #[error(
        "the log in {} cannot be read ({why}): restore it from a backup, or move the directory \
         away and start with an empty one",
        path.display()
    )]
    Unreadable {
        /// The data directory.
        path: PathBuf,
        /// The error of redb, or the checksum that is wrong.
        why: String,
    },
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

impl StoreError {
    /// Damage in the rows of one channel.
    pub(super) fn damaged_channel(channel: &Channel, what: &str) -> Self {
        Self::Damaged(format!("channel {channel}: {what}"))
    }
}

/// Why an append did not succeed.
///
/// The two cases differ in their reach: `Rejected` concerns one append, and the rest of the commit
/// batch can be committed. `Store` concerns the transaction, so the whole batch fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppendError {
    /// The append is rejected. The batch is unchanged, except that expired keys may be gone.
    #[error(transparent)]
    Rejected(#[from] BrokerError),
    /// The transaction failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AppendError {
    /// Returns why the append is rejected, or the failure of the transaction as an error.
    pub(super) fn into_rejection(self) -> Result<BrokerError, StoreError> {
        match self {
            Self::Rejected(error) => Ok(error),
            Self::Store(error) => Err(error),
        }
    }

    /// The lookup of an idempotency key in `channel` failed.
    ///
    /// A damaged row concerns this key only, so the append is rejected and the batch goes ahead.
    pub(super) fn from_key_lookup(channel: &Channel, error: StoreError) -> Self {
        match error {
            StoreError::Damaged(what) => {
                Self::Rejected(BrokerError::Damaged(format!("channel {channel}: {what}")))
            }
            error => Self::Store(error),
        }
    }
}
