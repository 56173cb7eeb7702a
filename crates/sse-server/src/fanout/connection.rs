//! One detached socket: what is written to it, and what the stream waits for.
//!
//! A server has very many idle connections, so [`Connection`] is small; a unit test limits its
//! size. What only a busy connection or a session of TLS needs is in [`PendingWork`], which is boxed,
//! and which is freed when a plain connection is idle again.
//!
//! | file | contents |
//! |---|---|
//! | `write` | writes to the socket, with TLS or without |
//! | `input` | what the client sends, which is discarded |

mod input;
mod write;

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mio::{Registry, Token};
use tokio::task::AbortHandle;

use super::{
    blocked::{BlockedBytes, BlockedShare, Closer},
    detach::DetachedSocket,
    heartbeat_wheel::Tick,
    pending_work::{BlockedWrite, PendingWork},
    shared_state::{SharedState, TransferCoding},
    socket::{SocketCookie, StreamSocket},
    stall::BytesAccepted,
    stream_guard::{CloseReason, StreamGuard},
};
use crate::{
    budget::ClientNet,
    channel::multi::Fetch,
    connections::ConnectionPermit,
    tls::{RECORD_BYTES, TlsSession},
};

/// Connection of one stream.
#[derive(Debug)]
pub(super) struct Connection {
    socket: StreamSocket,
    /// Key of the stream's view.
    pub(super) view: u32,
    /// Index among the members of the view.
    pub(super) member_index: u32,
    /// When a chunk was last sent.
    pub(super) last_write: Tick,
    /// Bucket of the heartbeat wheel that has the stream.
    pub(super) heartbeat_due: Tick,
    received: u16,
    accepted: BytesAccepted,
    pub(super) coding: TransferCoding,
    /// The stream has more to send and waits for its turn.
    pub(super) is_queued: bool,
    pub(super) state: Rc<SharedState>,
    pub(super) guard: StreamGuard,
    permit: ConnectionPermit,
    pending: Option<Box<PendingWork>>,
}

/// Outcome of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// The socket accepted all bytes.
    Complete,
    /// The connection keeps the rest until the socket has room.
    Blocked,
}

impl Connection {
    pub(super) fn new(
        detached: DetachedSocket,
        coding: TransferCoding,
        state: Rc<SharedState>,
        guard: StreamGuard,
        last_write: Tick,
    ) -> Self {
        let pending = detached.tls.map(|tls| {
            Box::new(PendingWork {
                tls: Some(tls),
                ..PendingWork::default()
            })
        });
        Self {
            socket: detached.socket,
            view: 0,
            member_index: 0,
            last_write,
            heartbeat_due: last_write,
            received: 0,
            accepted: detached.accepted,
            coding,
            is_queued: false,
            state,
            guard,
            permit: detached.permit,
            pending,
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_write().is_some()
    }

    /// Bytes of a blocked write that the socket has not accepted, with their framing.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.blocked_write()
            .map_or(0, |blocked| blocked.rest().len())
    }

    fn blocked_write(&self) -> Option<&BlockedWrite> {
        self.pending.as_ref()?.blocked.as_ref()
    }

    /// Counts what a blocked write holds, until the write is complete.
    ///
    /// The connection keeps an equal chunk of another stream in place of its own, if there is one.
    pub(super) fn count_blocked(&mut self, memory: &BlockedBytes, closer: Closer) {
        let client = self.client();
        // An unframed chunk can be a small part of a large allocation.
        let own = |chunk: &Bytes| match self.coding {
            TransferCoding::Chunked => chunk.clone(),
            TransferCoding::Identity => Bytes::copy_from_slice(chunk),
        };
        let Some(pending) = &mut self.pending else {
            return;
        };
        // The stream holds one record of its own.
        let tls_bytes = |chunk: &Bytes| chunk.len().min(RECORD_BYTES);
        let has_tls = pending.tls.is_some();
        if let Some(blocked) = &mut pending.blocked {
            let own_bytes = if has_tls {
                tls_bytes(&blocked.bytes)
            } else {
                0
            };
            let (bytes, share) = memory.hold_chunk(&blocked.bytes, own_bytes, own, client, closer);
            (blocked.bytes, blocked.share) = (bytes, Some(share));
        }
    }

    /// Returns the id of the share that the blocked write has.
    pub(super) fn blocked_id(&self) -> Option<u64> {
        let share = self.blocked_write()?.share.as_ref();
        share.map(BlockedShare::id)
    }

    /// Returns whether a blocked write has made no progress for too long.
    pub(super) fn is_stalled(&self, now: Instant, write_timeout: Duration) -> bool {
        self.blocked_write().is_some_and(|blocked| {
            let unsent_max = self.socket.unsent_bytes_max();
            let stall_timeout = self.accepted.stall_timeout(write_timeout, unsent_max);
            now.duration_since(blocked.progressed) > stall_timeout
        })
    }

    /// Polls the socket for what the connection waits for. `key` is the connection's key.
    pub(super) fn poll_for_room(&mut self, registry: &Registry, key: usize) {
        let is_blocked = self.is_blocked();
        self.socket.set_blocked(registry, Token(key), is_blocked);
    }

    /// Returns the network of the client.
    pub(super) fn client(&self) -> Option<ClientNet> {
        self.guard.client().or_else(|| self.permit.client_net())
    }

    /// Returns the kernel's name of the connection's socket.
    pub(super) fn cookie(&self) -> Option<SocketCookie> {
        self.socket.cookie()
    }

    /// Makes the drop of the connection a reset.
    pub(super) fn reset_on_close(&self) {
        self.socket.reset_on_close();
    }

    /// Returns the page read in flight, with its request id.
    pub(super) fn fetching(&self) -> Option<(u64, Fetch)> {
        self.pending.as_ref().and_then(|pending| pending.fetching)
    }

    pub(super) fn set_fetching(&mut self, request_id: u64, fetch: Fetch) {
        self.pending_mut().fetching = Some((request_id, fetch));
    }

    /// Records the task that reads the page.
    pub(super) fn set_reading(&mut self, task: AbortHandle) {
        self.pending_mut().reading = Some(task);
    }

    /// Ends the page read if it is the one in flight. Returns whether it was.
    pub(super) fn finish_fetching(&mut self, request_id: u64, fetch: Fetch) -> bool {
        let is_in_flight = self.fetching() == Some((request_id, fetch));
        if is_in_flight && let Some(pending) = &mut self.pending {
            (pending.fetching, pending.reading) = (None, None);
            self.free_pending_if_idle();
        }
        is_in_flight
    }

    /// Records the task that waits for the end of the stream. The task is aborted on drop.
    pub(super) fn set_settling(&mut self, request_id: u64, task: AbortHandle) {
        self.pending_mut().settling = Some((request_id, task));
    }

    /// Ends the wait for the end of the stream if it is the one in flight. Returns whether it was.
    pub(super) fn finish_settling(&mut self, request_id: u64) -> bool {
        let Some(pending) = &mut self.pending else {
            return false;
        };
        let settling = pending.settling.as_ref();
        let is_in_flight = settling.is_some_and(|(in_flight, _)| *in_flight == request_id);
        if is_in_flight {
            pending.settling = None;
            self.free_pending_if_idle();
        }
        is_in_flight
    }

    /// Marks the stream as ended: the connection closes when the last write is complete.
    pub(super) fn set_ending(&mut self, reason: CloseReason) {
        self.pending_mut().ending = Some(reason);
    }

    /// Returns why the stream ends; `None` if it does not.
    pub(super) fn ending(&self) -> Option<CloseReason> {
        self.pending.as_ref()?.ending
    }

    /// Whether the connection must not carry a further chunk, because of the keys of TLS.
    pub(super) fn is_worn_out(&self) -> bool {
        self.tls().is_some_and(TlsSession::is_worn_out)
    }

    fn tls(&self) -> Option<&TlsSession> {
        self.pending.as_ref()?.tls.as_deref()
    }

    fn pending_mut(&mut self) -> &mut PendingWork {
        self.pending.get_or_insert_default()
    }

    fn free_pending_if_idle(&mut self) {
        if self.pending.as_deref().is_some_and(PendingWork::is_empty) {
            self.pending = None;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.abort_tasks();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        // In development, mio's sockets have one more field, beside which the transport is one too.
        let bytes_max = 72 + if cfg!(debug_assertions) { 16 } else { 0 };
        let bytes = size_of::<Connection>();
        assert!(bytes <= bytes_max, "{bytes} bytes");
    }
}
