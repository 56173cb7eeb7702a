//! A connection that carries several requests at a time.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::MultiplexedStream;
use crate::{
    budget::ClientNet,
    connections::{CloseReason, OpenConnection, Phase},
};

/// Streams of one connection. The other requests of a connection find room beside them, so that a
/// page with many streams can publish.
const PLACES: usize = 192;

/// A connection and the requests that it carries; clones share it.
#[derive(Clone)]
pub struct MultiplexedConnection(Rc<Inner>);

struct Inner {
    connection: OpenConnection,
    phase: Cell<Phase>,
    requests: Cell<usize>,
    /// Requests that have a place for a stream.
    streams: Cell<usize>,
    /// The keys of TLS must not encrypt much more.
    is_worn_out: Cell<bool>,
    /// Waits until there is no request.
    idle_waker: RefCell<Option<Waker>>,
}

impl fmt::Debug for MultiplexedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiplexedConnection")
            .field("requests", &self.0.requests)
            .field("streams", &self.0.streams)
            .finish_non_exhaustive()
    }
}

impl MultiplexedConnection {
    /// Creates a connection that waits for its first request.
    #[must_use]
    pub fn new(connection: OpenConnection) -> Self {
        Self(Rc::new(Inner {
            connection,
            phase: Cell::new(Phase::Head),
            requests: Cell::default(),
            streams: Cell::default(),
            is_worn_out: Cell::default(),
            idle_waker: RefCell::default(),
        }))
    }

    /// Adds a request of `client`.
    #[must_use]
    pub(crate) fn start_request(&self, client: Option<ClientNet>) -> MultiplexedStream {
        self.0.requests.set(self.0.requests.get() + 1);
        self.update_phase();
        MultiplexedStream::new(self.clone(), client)
    }

    /// Returns the number of requests whose responses have not ended.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.0.requests.get()
    }

    /// Waits until the connection carries no request.
    pub fn poll_idle(&self, cx: &Context<'_>) -> Poll<()> {
        if self.0.requests.get() == 0 {
            return Poll::Ready(());
        }
        self.0.idle_waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Whether the connection is of the reserve, and so ends with its response.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.connection.is_reserved()
    }

    /// Returns why the connection must be closed; the task is woken if that changes.
    #[must_use]
    pub fn poll_close(&self, cx: &Context<'_>) -> Option<CloseReason> {
        self.0.connection.poll_close(cx)
    }

    /// Lets each stream end at the end of its next block, because the keys of TLS must not encrypt
    /// much more.
    pub fn set_worn_out(&self) {
        self.0.is_worn_out.set(true);
    }

    /// Whether the streams must end.
    pub(super) fn is_worn_out(&self) -> bool {
        self.0.is_worn_out.get()
    }

    /// Counts the end of the connection for `reason`.
    pub fn record_close(&self, reason: CloseReason) {
        self.0.connection.record_close(reason);
    }

    /// Takes a place for a stream; returns whether there was one.
    pub(super) fn claim_place(&self) -> bool {
        let connection = &self.0.connection;
        let may_stream =
            self.0.streams.get() < PLACES && connection.may_stream() && connection.claim_stream();
        if may_stream {
            self.0.streams.set(self.0.streams.get() + 1);
            self.update_phase();
        }
        may_stream
    }

    /// Removes a request, and its place for a stream if it has one.
    pub(super) fn end_request(&self, has_place: bool) {
        self.0.requests.set(self.0.requests.get() - 1);
        if has_place {
            self.0.streams.set(self.0.streams.get() - 1);
            self.0.connection.release_stream();
        }
        self.update_phase();
        if self.0.requests.get() == 0
            && let Some(waker) = self.0.idle_waker.take()
        {
            waker.wake();
        }
    }

    fn update_phase(&self) {
        let phase = match (self.0.requests.get(), self.0.streams.get()) {
            (0, _) => Phase::Idle,
            (_, 0) => Phase::Request,
            _ => Phase::Stream,
        };
        if self.0.phase.replace(phase) != phase {
            self.0.connection.set_phase(phase);
        }
    }
}
