//! What the table knows of one connection.
//!
//! Only the thread that serves the connection changes its phase. The sweep and new connections read
//! it, and ask for the end of the connection: the request wakes the owner, which closes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::Waker,
};

use futures::task::AtomicWaker;

use super::client::Client;

/// What a connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It waits for the head of its first request, or a head has begun to arrive.
    Head,
    /// A request is in progress, or its response is not written yet.
    Request,
    /// It waits for the next request.
    Idle,
    /// It carries a stream.
    Stream,
    /// It is not ready for HTTP: a TLS handshake comes first.
    Handshake,
    /// It waits for the header with which a proxy names its client, so it counts for no client.
    ProxyHeader,
}

impl Phase {
    pub(super) const ALL: [Self; 6] = [
        Self::Head,
        Self::Request,
        Self::Idle,
        Self::Stream,
        Self::Handshake,
        Self::ProxyHeader,
    ];

    /// Value of the label `state` in the metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Request => "request",
            Self::Idle => "idle",
            Self::Stream => "stream",
            Self::Handshake => "handshake",
            Self::ProxyHeader => "proxy_header",
        }
    }
}

/// Why the server closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// It was idle, and made room for another connection.
    IdleEvicted,
    /// Another client needed room. The client has many connections, and its head was not complete, or
    /// a proxy had not named the client yet.
    HeadEvicted,
    /// It was idle for too long.
    IdleTimeout,
    /// The head of a request took too long.
    HeadTimeout,
    /// A TLS handshake, or what precedes it, took too long.
    HandshakeTimeout,
    /// The client reads its response too slowly.
    TooSlow,
    /// There was no room for it.
    TooMany,
}

impl CloseReason {
    pub(super) const ALL: [Self; 7] = [
        Self::IdleEvicted,
        Self::HeadEvicted,
        Self::IdleTimeout,
        Self::HeadTimeout,
        Self::HandshakeTimeout,
        Self::TooSlow,
        Self::TooMany,
    ];

    /// Value of the label `reason` in the metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::IdleEvicted => "idle_evicted",
            Self::HeadEvicted => "head_evicted",
            Self::IdleTimeout => "idle_timeout",
            Self::HeadTimeout => "head_timeout",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::TooSlow => "too_slow",
            Self::TooMany => "too_many",
        }
    }

    /// Whether a connection in `phase` may be closed for this reason.
    ///
    /// The place of an idle connection is given away already, so the first bytes of another head do
    /// not save it. Otherwise a client could open connections without limit, by sending a byte on
    /// each idle one. The same is true for the end of a handshake.
    const fn applies_to(self, phase: Phase) -> bool {
        match self {
            Self::IdleEvicted => matches!(phase, Phase::Idle | Phase::Head),
            Self::IdleTimeout => matches!(phase, Phase::Idle),
            Self::HeadEvicted => {
                matches!(phase, Phase::Head | Phase::Handshake | Phase::ProxyHeader)
            }
            Self::HeadTimeout => matches!(phase, Phase::Head),
            Self::HandshakeTimeout => matches!(phase, Phase::Handshake | Phase::ProxyHeader),
            Self::TooSlow | Self::TooMany => matches!(phase, Phase::Request),
        }
    }
}

/// A phase and when it began, as one number: milliseconds × 8 + index of the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PhaseSince(u64);

impl PhaseSince {
    pub(super) const fn new(phase: Phase, since_ms: u64) -> Self {
        Self(since_ms << 3 | phase as u64)
    }

    pub(super) const fn phase(self) -> Phase {
        Phase::ALL[(self.0 & 7) as usize]
    }

    pub(super) const fn since_ms(self) -> u64 {
        self.0 >> 3
    }
}

/// One connection that HTTP serves.
#[derive(Debug)]
pub(super) struct Entry {
    client: Arc<Client>,
    is_reserved: AtomicBool,
    phase: AtomicU64,
    /// 0, or one more than the index of a reason.
    close: AtomicU8,
    owner: AtomicWaker,
}

impl Entry {
    /// Creates the entry of a connection that waits for its first request.
    pub(super) fn new(client: Arc<Client>, is_reserved: bool, now_ms: u64) -> Self {
        if is_reserved {
            client.add_reserved();
        }
        Self {
            client,
            is_reserved: AtomicBool::new(is_reserved),
            phase: AtomicU64::new(PhaseSince::new(Phase::Head, now_ms).0),
            close: AtomicU8::new(0),
            owner: AtomicWaker::new(),
        }
    }

    pub(super) const fn client(&self) -> &Arc<Client> {
        &self.client
    }

    pub(super) fn is_reserved(&self) -> bool {
        self.is_reserved.load(Ordering::Relaxed)
    }

    /// Makes the connection a general one.
    pub(super) fn leave_reserve(&self) {
        if self.is_reserved.swap(false, Ordering::Relaxed) {
            self.client.remove_reserved();
        }
    }

    pub(super) fn phase(&self) -> PhaseSince {
        PhaseSince(self.phase.load(Ordering::Relaxed))
    }

    pub(super) fn set_phase(&self, phase: PhaseSince) {
        self.phase.store(phase.0, Ordering::Relaxed);
    }

    /// Asks the owner to close; returns `false` if that was asked before.
    pub(super) fn request_close(&self, reason: CloseReason) -> bool {
        let is_first = self
            .close
            .compare_exchange(0, reason as u8 + 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if is_first {
            self.owner.wake();
        }
        is_first
    }

    /// Returns why the connection must be closed. The `owner` is woken if that changes.
    pub(super) fn poll_close(&self, owner: &Waker) -> Option<CloseReason> {
        self.owner.register(owner);
        self.close_reason()
    }

    /// Returns why the connection must be closed. A connection that has entered another phase since
    /// the request to close it stays open, unless the reason applies to that phase too.
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        let index = self.close.load(Ordering::Acquire).checked_sub(1)?;
        let reason = CloseReason::ALL.get(usize::from(index)).copied()?;
        if reason.applies_to(self.phase().phase()) {
            return Some(reason);
        }
        self.close.store(0, Ordering::Release);
        None
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.leave_reserve();
    }
}
