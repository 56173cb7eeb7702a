//! What only some connections need: a session of TLS, a write that is blocked, and what the stream
//! waits for.

use std::time::Instant;

use bytes::Bytes;
use tokio::task::AbortHandle;

use super::{blocked::BlockedShare, stream_guard::CloseReason};
use crate::{channel::multi::Fetch, tls::TlsSession};

/// What a connection has beside its socket and its state.
#[derive(Debug, Default)]
pub(super) struct PendingWork {
    /// `None` without TLS.
    pub(super) tls: Option<Box<TlsSession>>,
    pub(super) blocked: Option<BlockedWrite>,
    /// Page read in flight, with its request id.
    pub(super) fetching: Option<(u64, Fetch)>,
    /// Task of that read; `None` if the page was cached.
    pub(super) reading: Option<AbortHandle>,
    /// Task that waits for the end of the stream, with its request id.
    pub(super) settling: Option<(u64, AbortHandle)>,
    /// Why the stream ends. The last chunk is written or blocked.
    pub(super) ending: Option<CloseReason>,
}

/// A write that the socket accepted only in part.
#[derive(Debug)]
pub(super) struct BlockedWrite {
    /// Bytes of which the rest must be written before any other.
    pub(super) bytes: Bytes,
    /// With TLS, the record that follows may be encrypted and accepted in part.
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

    /// Returns whether the connection needs nothing of this.
    pub(super) const fn is_empty(&self) -> bool {
        self.tls.is_none()
            && self.blocked.is_none()
            && self.fetching.is_none()
            && self.settling.is_none()
            && self.ending.is_none()
    }
}
