//! How the socket of a stream leaves actix once the head of its response is written.
//!
//! actix keeps two buffers and a task per connection, some 12 KB for a stream that needs only its
//! socket. So actix gets a [`DetachableSocket`], and the response's body takes the socket out:
//!
//! ```text
//!              request                                     after detach()
//!  actix ──── DetachableSocket ──── socket      actix ──── DetachableSocket   (empty)
//!               ▲                                            ▲
//!  body  ───────┘ (clone)                       body  ───────┘     socket ──► fan-out thread
//! ```
//!
//! # Contract with actix
//!
//! [`DetachableSocket::detach`] relies on two properties of actix's HTTP/1 dispatcher. The unit
//! tests check both against the real dispatcher:
//!
//! 1. When a body is pending, the dispatcher writes its whole buffer to the connection before it
//!    polls the body again. The second poll of `detach` therefore finds everything written, unless
//!    the last write was blocked. In that case `detach` waits for a write that is not blocked.
//! 2. When a write fails, the dispatcher drops the connection and the body, and does not handle the
//!    requests that the client sent behind this one. An empty `DetachableSocket` rejects every
//!    write. The body therefore returns one more chunk after the detach, and actix lets go.

mod blocked_write;
mod progress;
mod read_write;
mod request;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::io::AsyncWrite as _;
use tokio_util::sync::CancellationToken;

pub use self::request::RequestGuard;
use self::{blocked_write::Stall, progress::Progress};
use super::{
    attached_sockets::{AttachedSocket, AttachedSockets},
    blocked::{BlockedBuffer, BlockedBytes},
    blocked_end::BlockedEnd,
    page_slot::PageSlot,
    socket::{AcceptedSocket, StreamSocket},
    stall::BytesAccepted,
    stream_guard::{CloseReason as StreamCloseReason, StreamGuard},
};
use crate::{
    budget::ClientNet,
    connections::{CloseReason, ConnectionPermit, OpenConnection, Phase},
    tls::TlsSession,
};

/// Response to a request whose head does not arrive, in place of actix's own.
const HEAD_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A socket that has left actix.
#[derive(Debug)]
pub struct DetachedSocket {
    /// The socket, which does not block.
    pub socket: StreamSocket,
    /// The session of TLS, which has nothing to send; `None` without TLS.
    pub(crate) tls: Option<Box<TlsSession>>,
    /// Counts the connection as open.
    pub permit: ConnectionPermit,
    /// Bytes that the client has accepted so far.
    pub accepted: BytesAccepted,
}

/// Connection that actix serves, and whose socket can be taken out; clones share it.
///
/// Without its socket the connection reads as closed and refuses writes.
#[derive(Clone)]
pub struct DetachableSocket(Rc<Inner>);

struct Inner {
    socket: RefCell<Option<AcceptedSocket>>,
    progress: Progress,
    /// Counts the stream that was rejected on this connection.
    rejected: Cell<Option<StreamGuard>>,
    /// The last write was blocked, so actix still has bytes to write.
    is_blocked: Cell<bool>,
    /// Waits in `detach` for the end of the blocked write.
    detach_waker: RefCell<Option<Waker>>,
    /// The client's last request on this connection has begun.
    is_ending: Cell<bool>,
    /// How often actix had written all it had.
    flushes: Cell<u64>,
    /// Waits for the next of them.
    flush_waker: RefCell<Option<Waker>>,
    write_timeout: Duration,
    accepted: Cell<BytesAccepted>,
    /// `None` while the client accepts data.
    stall: RefCell<Option<Stall>>,
    /// Cancelled when the client is found unreachable; `None` if the sweep does not know the
    /// socket.
    unreachable: RefCell<Option<CancellationToken>>,
    /// Counts the bytes of a stream that actix has not written; `None` for other responses.
    buffer: RefCell<Option<BlockedBuffer>>,
    /// What can end a stream while it is blocked; `None` if nothing can.
    end: RefCell<Option<BlockedEnd>>,
    /// Why a blocked stream was ended.
    end_reason: Cell<Option<StreamCloseReason>>,
}

impl fmt::Debug for DetachableSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachableSocket")
            .field("socket", &self.0.socket)
            .finish_non_exhaustive()
    }
}

impl DetachableSocket {
    /// Wraps the socket of an accepted connection, which counts as open until it is closed.
    ///
    /// While actix has the connection, a write fails if the client accepts no data for too long.
    /// `write_timeout` is the shortest such time; see [`stall`](super::stall).
    #[must_use]
    pub fn new(
        socket: impl Into<AcceptedSocket>,
        connection: OpenConnection,
        write_timeout: Duration,
    ) -> Self {
        Self(Rc::new(Inner {
            socket: RefCell::new(Some(socket.into())),
            progress: Progress::new(connection),
            rejected: Cell::default(),
            is_blocked: Cell::new(false),
            detach_waker: RefCell::default(),
            is_ending: Cell::default(),
            flushes: Cell::default(),
            flush_waker: RefCell::default(),
            write_timeout,
            accepted: Cell::default(),
            stall: RefCell::default(),
            unreachable: RefCell::default(),
            buffer: RefCell::default(),
            end: RefCell::default(),
            end_reason: Cell::default(),
        }))
    }

    /// Counts a rejected stream until the connection is closed.
    pub fn keep_rejected(&self, guard: StreamGuard) {
        self.0.rejected.set(Some(guard));
    }

    /// Closes the connection at once. Bytes that actix has not written are lost.
    pub fn close(&self) {
        let mut socket = self.0.socket.take();
        if let Some(socket) = &mut socket {
            socket.close_now();
        }
        drop((socket, self.0.progress.take_permit()));
    }

    /// Closes the connection at once with a reset, because the client is unreachable.
    pub(super) fn abort(&self) {
        if let Some(socket) = self.0.socket.borrow().as_ref() {
            socket.reset_on_close();
        }
        self.close();
    }

    /// Lets the sweep report that the client is unreachable. From then on a blocked write fails.
    ///
    /// Returns `None` if the socket is closed, or has no cookie on this system.
    pub(super) fn watch(&self, sockets: &AttachedSockets) -> Option<AttachedSocket> {
        let cookie = self.0.socket.borrow().as_ref()?.cookie()?;
        let watched = sockets.add(cookie);
        self.0
            .unreachable
            .replace(Some(watched.unreachable().clone()));
        Some(watched)
    }

    /// Returns the network of the peer; `None` if it has no address.
    pub(crate) fn peer_net(&self) -> Option<ClientNet> {
        self.0.progress.with(OpenConnection::client_net).flatten()
    }

    /// Counts what actix buffers for `client` while the socket is full, and empties `page` then.
    pub(super) fn count_blocked(
        &self,
        memory: BlockedBytes,
        client: Option<ClientNet>,
        page: PageSlot,
    ) {
        let buffer = Some(BlockedBuffer::new(memory, client, page));
        self.0.buffer.replace(buffer);
    }

    /// Returns whether the stream is closed because blocked streams hold too much.
    pub(super) fn is_evicted(&self) -> bool {
        let buffer = self.0.buffer.borrow();
        buffer.as_ref().is_some_and(BlockedBuffer::is_evicted)
    }

    /// Whether the connection uses TLS.
    #[must_use]
    pub fn uses_tls(&self) -> bool {
        let socket = self.0.socket.borrow();
        socket.as_ref().is_some_and(AcceptedSocket::uses_tls)
    }

    /// Whether the connection must end at the next opportunity, because of the keys of TLS.
    pub(super) fn is_worn_out(&self) -> bool {
        let socket = self.0.socket.borrow();
        socket.as_ref().is_some_and(AcceptedSocket::is_worn_out)
    }

    /// Sets what can end the stream while it is blocked.
    pub(super) fn set_end(&self, end: Option<BlockedEnd>) {
        self.0.end.replace(end);
    }

    /// Returns why the stream was ended while it was blocked; `None` if it was not.
    pub(super) fn end_reason(&self) -> Option<StreamCloseReason> {
        self.0.end_reason.get()
    }

    fn is_unreachable(&self) -> bool {
        let unreachable = self.0.unreachable.borrow();
        unreachable
            .as_ref()
            .is_some_and(CancellationToken::is_cancelled)
    }

    /// Takes the socket out, from within the body of the response.
    ///
    /// The future waits until everything before the body's next chunk is written, by the contract
    /// in the module's documentation. Requests that the client sent behind this one are lost if
    /// actix has read them. Returns `None` if the socket was taken or closed before.
    ///
    /// # Errors
    ///
    /// The runtime cannot deregister the socket, or the socket fails.
    pub async fn detach(&self) -> io::Result<Option<DetachedSocket>> {
        let mut is_second_poll = false;
        poll_fn(|cx| {
            let is_first_poll = !std::mem::replace(&mut is_second_poll, true);
            if self.0.is_blocked.get() {
                self.0.detach_waker.replace(Some(cx.waker().clone()));
                return Poll::Pending;
            }
            if is_first_poll {
                // Let actix write its buffer, and poll again.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.poll_session_flush(cx)
        })
        .await?;
        let (Some(socket), Some(permit)) = (self.0.socket.take(), self.0.progress.take_permit())
        else {
            return Ok(None);
        };
        let (socket, tls) = socket.detach()?;
        Ok(Some(DetachedSocket {
            socket,
            tls,
            permit,
            accepted: self.0.accepted.get(),
        }))
    }

    /// Sends what TLS has to send by itself, such as an alert.
    fn poll_session_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.socket.borrow_mut().as_mut() {
            Some(socket) => Pin::new(socket).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Returns why the connection must be closed, after a read.
    fn poll_close(&self, cx: &Context<'_>, read: &Poll<io::Result<()>>) -> Option<CloseReason> {
        let reason = self.0.progress.with(|connection| match read {
            Poll::Pending => connection.poll_close(cx),
            Poll::Ready(_) => connection.close_reason(),
        });
        reason.flatten()
    }

    /// Closes a connection that the table wants closed.
    ///
    /// Clients open connections before they need them. A 408 there would be taken for the response to
    /// a request that is sent at the same moment, so such a connection is only closed.
    fn close_overdue(&self, reason: CloseReason) {
        if reason == CloseReason::HeadTimeout
            && self.0.progress.has_read()
            && let Some(socket) = self.0.socket.borrow_mut().as_mut()
        {
            // Nothing else waits to be written. A client that does not read gets nothing.
            let _ = socket.write_now(HEAD_TIMEOUT);
        }
        self.0
            .progress
            .with(|connection| connection.record_close(reason));
        self.close();
    }
}
