//! Streams that share their connection with other requests, as over HTTP/2.
//!
//! The socket of such a stream cannot leave the HTTP library, so the body of the response serves the
//! stream to its end. Two parts of the server know the stream at the same time, and meet here:
//!
//! ```text
//!  http/api/stream ─► may the stream open? ──┐
//!  stream_body ─────► why has it ended? ─────┼── MultiplexedStream ──► MultiplexedConnection
//!  server/http2 ────► it is blocked, stalled ┘    (one request)          (its phase and its count)
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `connection` | the connection, and how many requests and streams it carries |
//!
//! Both types belong to one worker thread.

mod connection;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::pending,
    rc::Rc,
    task::Context,
};

use bytes::Bytes;

pub use self::connection::MultiplexedConnection;
use super::{
    blocked::{BlockedBytes, BlockedChunk},
    blocked_end::BlockedEnd,
    page_slot::PageSlot,
    stream_guard::{CloseReason, StreamGuard},
};
use crate::budget::ClientNet;

/// A request of a multiplexed connection, and the stream that is its response; clones share it.
///
/// The request counts until the last clone is dropped.
#[derive(Clone)]
pub struct MultiplexedStream(Rc<Inner>);

struct Inner {
    connection: MultiplexedConnection,
    client: Option<ClientNet>,
    /// The request has one of the places for streams.
    has_place: Cell<bool>,
    /// The request gets no response.
    is_refused: Cell<bool>,
    /// Counts the stream that was rejected on this request.
    rejected: Cell<Option<StreamGuard>>,
    /// Why the server ends the stream; `None` if the body knows it, or the client has ended it.
    close_reason: Cell<Option<CloseReason>>,
    /// Counts what the stream holds while it is blocked; `None` for other responses.
    blocked: RefCell<Option<BlockedChunk>>,
    /// What can end the stream while it is blocked; `None` if nothing can.
    end: RefCell<Option<Rc<BlockedEnd>>>,
}

impl fmt::Debug for MultiplexedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiplexedStream")
            .field("is_stream", &self.is_stream())
            .finish_non_exhaustive()
    }
}

impl MultiplexedStream {
    fn new(connection: MultiplexedConnection, client: Option<ClientNet>) -> Self {
        Self(Rc::new(Inner {
            connection,
            client,
            has_place: Cell::default(),
            is_refused: Cell::default(),
            rejected: Cell::default(),
            close_reason: Cell::default(),
            blocked: RefCell::default(),
            end: RefCell::default(),
        }))
    }

    /// Takes one of the places that the connection has for streams. Returns whether the request has
    /// one.
    #[must_use]
    pub fn claim_place(&self) -> bool {
        if !self.0.has_place.get() {
            self.0.has_place.set(self.0.connection.claim_place());
        }
        self.0.has_place.get()
    }

    /// Counts a rejected stream until its response has ended.
    pub fn keep_rejected(&self, guard: StreamGuard) {
        self.0.rejected.set(Some(guard));
    }

    /// Lets the request end without a response.
    pub fn refuse(&self) {
        self.0.is_refused.set(true);
    }

    /// Whether the request must end without a response.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.0.is_refused.get()
    }

    /// Counts what the stream holds while it is blocked, and empties `page` then.
    pub(super) fn count_blocked(&self, memory: BlockedBytes, page: PageSlot) {
        let blocked = BlockedChunk::new(memory, self.0.client, page);
        self.0.blocked.replace(Some(blocked));
    }

    /// Whether the response is a stream, which may be as slow as the stall timeout allows.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.0.blocked.borrow().is_some()
    }

    /// Records that `chunk` cannot be sent now. Returns `false` if the stream must end, because
    /// blocked streams hold too much; the task is woken if that changes.
    ///
    /// The caller must keep the chunk that is put in place of its own.
    #[must_use]
    pub fn hold_blocked(&self, cx: &Context<'_>, chunk: &mut Bytes) -> bool {
        let mut blocked = self.0.blocked.borrow_mut();
        let may_stay = blocked
            .as_mut()
            .is_none_or(|blocked| blocked.hold(cx, chunk));
        if !may_stay {
            self.0.close_reason.set(Some(CloseReason::BlockedBytes));
        }
        may_stay
    }

    /// Records that the chunk is sent.
    pub fn release_blocked(&self) {
        if let Some(blocked) = self.0.blocked.borrow_mut().as_mut() {
            blocked.release();
        }
    }

    /// Records that the client has accepted no data for too long.
    pub fn set_stalled(&self) {
        self.0.close_reason.set(Some(CloseReason::Stalled));
    }

    /// Sets what can end the stream while it is blocked.
    pub(super) fn set_end(&self, end: Option<BlockedEnd>) {
        self.0.end.replace(end.map(Rc::new));
    }

    /// Waits until the server must end the stream although it is blocked. The reason is recorded.
    pub async fn wait_until_ended(&self) {
        let end = self.0.end.borrow().clone();
        match end {
            Some(end) => self.0.close_reason.set(Some(end.wait().await)),
            None => pending().await,
        }
    }

    /// Whether the keys of the connection must not encrypt much more.
    pub(super) fn is_worn_out(&self) -> bool {
        self.0.connection.is_worn_out()
    }

    /// Returns why the server ends the stream, if it is not the body that ends it.
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        self.0.close_reason.get()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connection.end_request(self.has_place.get());
    }
}
