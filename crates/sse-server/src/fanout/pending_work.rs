//! What only a busy connection needs: a write that is blocked, and what the stream waits for.

use std::time::Instant;

use bytes::Bytes;
use tokio::task::AbortHandle;

use super::blocked::BlockedShare;
use crate::channel::multi::Fetch;

/// What a connection waits for.
#[derive(Debug, Default)]
pub(super) struct PendingWork {
    pub(super) blocked: Option<BlockedWrite>,
    /// Page read in flight, with its request id.
    pub(super) fetching: Option<(u64, Fetch)>,
    /// Task of that read; `None` if the page was cached.
    pub(super) reading: Option<AbortHandle>,
    /// Task that waits for the end of the stream, with its request id.
    pub(super) settling: Option<(u64, AbortHandle)>,
    /// The last chunk is written or blocked.
    pub(super) is_ending: bool,
}

/// A write that the socket accepted only in part.
#[derive(Debug)]
pub(super) struct BlockedWrite {
    /// Bytes of which the rest must be written before any other.
    pub(super) bytes: Bytes,
    pub(super) written: usize,
    /// When the socket last accepted bytes.
    pub(super) progressed: Instant,
    /// Share of the memory of all blocked streams; `None` until `Connection::count_blocked`.
    pub(super) share: Option<BlockedShare>,
}

impl BlockedWrite {
    /// Returns the bytes that the socket has not accepted.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }
}

impl PendingWork {
    /// Ends the tasks of a connection that is closed. A search that waits for its turn would keep
    /// others of its client waiting.
    pub(super) fn abort_tasks(&mut self) {
        let settling = self.settling.take().map(|(_, task)| task);
        for task in settling.into_iter().chain(self.reading.take()) {
            task.abort();
        }
    }

    /// Returns whether the connection waits for nothing.
    pub(super) const fn is_idle(&self) -> bool {
        self.blocked.is_none()
            && self.fetching.is_none()
            && self.settling.is_none()
            && !self.is_ending
    }
}
