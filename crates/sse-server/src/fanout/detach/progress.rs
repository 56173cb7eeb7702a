//! How far HTTP is with the requests of one connection.
//!
//! actix has one timer for the head of a connection's first request, and does not report when the
//! next head begins. [`Progress`] derives it from what the socket sees:
//!
//! ```text
//!         bytes read          request starts         last byte written
//! Idle ──────────────► Head ─────────────────► Request ──────────────► Idle
//! ```
//!
//! A client may send the next head early. Bytes that arrive after a request without a body are the
//! next head, so the connection is in `Head` after the response. A head that begins in the same
//! read as the end of the request before it is not seen: its connection is `Idle` until the next
//! byte, and is closed as such at the latest.

use std::cell::{Cell, RefCell};

use tokio::time::Instant;

use crate::connections::{ConnectionPermit, OpenConnection, Phase};

/// Bytes per second that the client must accept of a response.
const RATE_MIN: u128 = 1000;
/// Milliseconds until the rate counts.
const RATE_GRACE_MS: u128 = 2000;

/// The progress of a connection, and its entry in the table of connections.
#[derive(Debug)]
pub(super) struct Progress {
    /// `None` without a socket.
    connection: RefCell<Option<OpenConnection>>,
    phase: Cell<Phase>,
    /// Requests whose handler or body exists.
    requests: Cell<u32>,
    has_body: Cell<bool>,
    /// Bytes of the next head were read.
    next_head: Cell<bool>,
    /// The client has sent anything.
    has_read: Cell<bool>,
    response: Cell<ResponseProgress>,
}

/// How much of a response the client has accepted.
#[derive(Debug, Clone, Copy, Default)]
struct ResponseProgress {
    bytes: u64,
    /// When the client first accepted no more.
    blocked_since: Option<Instant>,
}

impl Progress {
    pub(super) const fn new(connection: OpenConnection) -> Self {
        Self {
            connection: RefCell::new(Some(connection)),
            phase: Cell::new(Phase::Head),
            requests: Cell::new(0),
            has_body: Cell::new(false),
            next_head: Cell::new(false),
            has_read: Cell::new(false),
            response: Cell::new(ResponseProgress {
                bytes: 0,
                blocked_since: None,
            }),
        }
    }

    /// Calls `use_connection` unless the connection has ended.
    pub(super) fn with<T>(&self, use_connection: impl FnOnce(&OpenConnection) -> T) -> Option<T> {
        self.connection.borrow().as_ref().map(use_connection)
    }

    /// Takes the count of the connection out.
    pub(super) fn take_permit(&self) -> Option<ConnectionPermit> {
        self.connection.take().map(OpenConnection::into_permit)
    }

    pub(super) const fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
        self.with(|connection| connection.set_phase(phase));
    }

    /// Whether the client has sent anything.
    pub(super) const fn has_read(&self) -> bool {
        self.has_read.get()
    }

    /// Records that bytes were read.
    pub(super) fn record_read(&self) {
        self.has_read.set(true);
        if self.phase.get() == Phase::Idle {
            self.set_phase(Phase::Head);
        } else if self.requests.get() == 0 || !self.has_body.get() {
            self.next_head.set(true);
        }
    }

    pub(super) fn start_request(&self, has_body: bool) {
        self.requests.set(self.requests.get() + 1);
        self.has_body.set(has_body);
        self.next_head.set(false);
        self.set_phase(Phase::Request);
    }

    pub(super) fn start_response(&self) {
        self.response.set(ResponseProgress::default());
    }

    /// Records that actix has the whole response.
    pub(super) fn end_response(&self) {
        self.requests.set(self.requests.get().saturating_sub(1));
    }

    /// Records that everything which actix had to write is written.
    pub(super) fn record_flushed(&self) {
        if self.phase.get() == Phase::Request && self.requests.get() == 0 {
            self.set_phase(if self.next_head.take() {
                Phase::Head
            } else {
                Phase::Idle
            });
        }
    }

    pub(super) fn record_written(&self, bytes: usize) {
        let mut response = self.response.get();
        response.bytes += bytes as u64;
        self.response.set(response);
    }

    /// Whether the client, which accepts nothing now, reads the response too slowly.
    ///
    /// Up to `unsent_max` bytes may not have reached it. A stream may be as slow as the stall
    /// timeout allows.
    pub(super) fn is_too_slow(&self, unsent_max: u32) -> bool {
        if self.phase.get() == Phase::Stream {
            return false;
        }
        let mut response = self.response.get();
        let since = *response.blocked_since.get_or_insert_with(Instant::now);
        self.response.set(response);
        let counted_ms = since.elapsed().as_millis().saturating_sub(RATE_GRACE_MS);
        let accepted = response.bytes.saturating_sub(unsent_max.into());
        u128::from(accepted) * 1000 < counted_ms * RATE_MIN
    }
}
