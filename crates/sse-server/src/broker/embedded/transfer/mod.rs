//! What `sse-server copy` reads from the log; see [`transfer`](crate::broker::transfer).
//!
//! | file | contents |
//! |---|---|
//! | `list` | the channels in the order of their names |
//! | `page` | the records and keys of one channel |

mod list;
mod page;
#[cfg(test)]
mod tests;

use std::path::Path;

use sse_proto::{Channel, EventId};

use self::{list::read_list, page::read_source_page};
use super::{
    Embedded,
    data_files::DataMode,
    error::{OpenError, StoreError},
    open::{FILE, Location},
    revocations::read_table,
    store::Store,
};
use crate::broker::{
    BrokerError,
    clock::now_ms,
    revocations::StoredRevocation,
    transfer::{SourceList, SourcePage},
};

/// The log of a server that is stopped. The file is locked, so no server starts meanwhile.
#[derive(Debug)]
pub(crate) struct StoppedLog {
    store: Store,
}

impl StoppedLog {
    /// Returns whether the directory has a log.
    pub(crate) fn exists_in(directory: &Path) -> bool {
        directory.join(FILE).is_file()
    }

    /// Opens the log, and creates none.
    pub(crate) fn open(directory: &Path) -> Result<Self, OpenError> {
        let location = Location::Directory(directory.to_owned(), DataMode::PRIVATE);
        let store = Store::open(location)?;
        Ok(Self { store })
    }

    /// Reads the channels after `after`, or all; with `since`, only those that have changed after
    /// that id.
    pub(crate) fn list(
        &self,
        after: Option<&Channel>,
        since: Option<EventId>,
    ) -> Result<SourceList, BrokerError> {
        self.read(|snapshot| read_list(snapshot, after, since))
    }

    /// Reads the records of `channel` after `after`, and their keys.
    pub(crate) fn page(
        &self,
        channel: &Channel,
        after: EventId,
    ) -> Result<SourcePage, BrokerError> {
        self.read(|snapshot| read_source_page(snapshot, channel, after, now_ms()))
    }

    /// Reads the revoked credentials.
    pub(crate) fn revocations(&self) -> Result<Vec<StoredRevocation>, BrokerError> {
        self.read(read_table)
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, BrokerError> {
        self.store.read(work)
    }
}

/// The same reads while the server runs.
impl Embedded {
    pub(crate) async fn source_list(
        &self,
        after: Option<Channel>,
        since: Option<EventId>,
    ) -> Result<SourceList, BrokerError> {
        self.run_blocking(move |shared| {
            let list = |snapshot: &_| read_list(snapshot, after.as_ref(), since);
            shared.store.read(list)
        })
        .await
    }

    pub(crate) async fn source_page(
        &self,
        channel: Channel,
        after: EventId,
    ) -> Result<SourcePage, BrokerError> {
        self.run_blocking(move |shared| {
            let page = |snapshot: &_| read_source_page(snapshot, &channel, after, now_ms());
            shared.store.read(page)
        })
        .await
    }

    pub(crate) async fn source_revocations(&self) -> Result<Vec<StoredRevocation>, BrokerError> {
        let read = self.run_blocking(|shared| shared.store.read(read_table));
        read.await
    }
}
