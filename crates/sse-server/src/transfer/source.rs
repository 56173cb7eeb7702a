//! The log that is copied.

use std::{path::Path, sync::Arc};

use sse_proto::{Channel, EventId};
use tokio::task::spawn_blocking;

use super::{CopyError, server::ServerSource};
use crate::broker::{
    BrokerError,
    embedded::{OpenError, transfer::StoppedLog},
    revocations::StoredRevocation,
    transfer::{SourceList, SourcePage},
};

/// A log that is copied.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The log of a server that is stopped.
    Stopped(Arc<StoppedLog>),
    /// The log of a running server.
    Server(Arc<ServerSource>),
}

impl Source {
    /// Opens the log in the data directory of a server that is stopped.
    pub(crate) fn open(directory: &Path) -> Result<Self, CopyError> {
        let shown = directory.display();
        if !StoppedLog::exists_in(directory) {
            let why =
                format!("there is no log in {shown}, which must be the --data-dir of a server");
            return Err(CopyError::Source(why));
        }
        match StoppedLog::open(directory) {
            Ok(log) => Ok(Self::Stopped(Arc::new(log))),
            Err(OpenError::InUse(_)) => Err(CopyError::InUse(shown.to_string())),
            Err(error) => Err(CopyError::Source(error.to_string())),
        }
    }

    /// Reads the log of a running server.
    pub(crate) fn of_server(server: ServerSource) -> Self {
        Self::Server(Arc::new(server))
    }

    /// Returns how many channels are copied at a time. Each has one page of records in memory.
    pub(super) const fn concurrent(&self) -> usize {
        match self {
            Self::Stopped(_) => 16,
            // Other requests of history have a place beside them.
            Self::Server(_) => 4,
        }
    }

    pub(super) async fn list(
        &self,
        after: Option<&Channel>,
        since: Option<EventId>,
    ) -> Result<SourceList, CopyError> {
        match self {
            Self::Server(server) => server.list(after, since).await,
            Self::Stopped(log) => {
                let after = after.cloned();
                read(log, move |log| log.list(after.as_ref(), since)).await
            }
        }
    }

    pub(super) async fn page(
        &self,
        channel: &Channel,
        after: EventId,
    ) -> Result<SourcePage, CopyError> {
        match self {
            Self::Server(server) => server.page(channel, after).await,
            Self::Stopped(log) => {
                let channel = channel.clone();
                read(log, move |log| log.page(&channel, after)).await
            }
        }
    }

    pub(super) async fn revocations(&self) -> Result<Vec<StoredRevocation>, CopyError> {
        match self {
            Self::Server(server) => server.revocations().await,
            Self::Stopped(log) => read(log, StoppedLog::revocations).await,
        }
    }
}

/// Reads on a blocking thread.
async fn read<T: Send + 'static>(
    log: &Arc<StoppedLog>,
    work: impl FnOnce(&StoppedLog) -> Result<T, BrokerError> + Send + 'static,
) -> Result<T, CopyError> {
    let log = log.clone();
    match spawn_blocking(move || work(&log)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(CopyError::Source(error.to_string())),
        Err(_) => Err(CopyError::Source(
            "the thread that reads it has ended".to_owned(),
        )),
    }
}
