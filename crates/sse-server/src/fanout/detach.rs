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

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    admission::StreamGuard,
    attached_sockets::{AttachedSocket, AttachedSockets},
    blocked::{BlockedBuffer, BlockedBytes},
    page_slot::PageSlot,
    socket::{AcceptedSocket, StreamSocket},
    stall::{BytesAccepted, retry_interval},
};

/// Number of connections that are open, with actix or detached.
#[derive(Debug, Clone, Default)]
pub struct OpenConnections(Arc<AtomicUsize>);

impl OpenConnections {
    /// Returns the number of open connections.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn permit(&self) -> ConnectionPermit {
        self.0.fetch_add(1, Ordering::Relaxed);
        ConnectionPermit(self.clone())
    }
}

/// Counts one connection as open until it is dropped.
#[derive(Debug)]
pub struct ConnectionPermit(OpenConnections);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket that has left actix.
#[derive(Debug)]
pub struct DetachedSocket {
    /// The socket, which does not block.
    pub socket: StreamSocket,
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
    permit: Cell<Option<ConnectionPermit>>,
    /// Counts the stream that was rejected on this connection.
    rejected: Cell<Option<StreamGuard>>,
    /// The last write was blocked, so actix still has bytes to write.
    is_blocked: Cell<bool>,
    /// Waits in `detach` for the end of the blocked write.
    detach_waker: RefCell<Option<Waker>>,
    write_timeout: Duration,
    accepted: Cell<BytesAccepted>,
    /// `None` while the client accepts data.
    stall: RefCell<Option<Stall>>,
    /// Cancelled when the client is found unreachable; `None` if the sweep does not know the
    /// socket.
    unreachable: RefCell<Option<CancellationToken>>,
    /// Counts the bytes of a stream that actix has not written; `None` for other responses.
    buffer: RefCell<Option<BlockedBuffer>>,
}

/// A time in which the client accepts no data.
struct Stall {
    since: Instant,
    /// Time of the next attempt to write.
    next_attempt: Pin<Box<Sleep>>,
}

impl fmt::Debug for DetachableSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachableSocket")
            .field("socket", &self.0.socket)
            .finish_non_exhaustive()
    }
}

impl DetachableSocket {
    /// Wraps an accepted socket, and counts it in `open` until it is closed.
    ///
    /// While actix has the connection, a write fails if the client accepts no data for too long.
    /// `write_timeout` is the shortest such time; see [`stall`](super::stall).
    #[must_use]
    pub fn new(
        socket: impl Into<AcceptedSocket>,
        open: &OpenConnections,
        write_timeout: Duration,
    ) -> Self {
        Self(Rc::new(Inner {
            socket: RefCell::new(Some(socket.into())),
            permit: Cell::new(Some(open.permit())),
            rejected: Cell::default(),
            is_blocked: Cell::new(false),
            detach_waker: RefCell::default(),
            write_timeout,
            accepted: Cell::default(),
            stall: RefCell::default(),
            unreachable: RefCell::default(),
            buffer: RefCell::default(),
        }))
    }

    /// Counts a rejected stream until the connection is closed.
    pub fn keep_rejected(&self, guard: StreamGuard) {
        self.0.rejected.set(Some(guard));
    }

    /// Closes the connection at once. Bytes that actix has not written are lost.
    pub fn close(&self) {
        drop((self.0.socket.take(), self.0.permit.take()));
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

    /// Counts what actix buffers while the socket is full, and empties `page` then.
    pub(super) fn count_blocked(&self, memory: BlockedBytes, page: PageSlot) {
        let socket = self.0.socket.borrow();
        let client = socket.as_ref().and_then(AcceptedSocket::client_net);
        let buffer = Some(BlockedBuffer::new(memory, client, page));
        self.0.buffer.replace(buffer);
    }

    /// Returns whether the stream is closed because blocked streams hold too much.
    pub(super) fn is_evicted(&self) -> bool {
        let buffer = self.0.buffer.borrow();
        buffer.as_ref().is_some_and(BlockedBuffer::is_evicted)
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
    /// The runtime cannot deregister the socket.
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
            Poll::Ready(())
        })
        .await;
        let (Some(socket), Some(permit)) = (self.0.socket.take(), self.0.permit.take()) else {
            return Ok(None);
        };
        Ok(Some(DetachedSocket {
            socket: socket.detach()?,
            permit,
            accepted: self.0.accepted.get(),
        }))
    }

    /// Tries to write to a client that accepts no data, once per retry interval.
    ///
    /// The attempts are necessary because a socket becomes writable only when it has much room.
    /// Ready when an attempt succeeds or fails, or when the client is stalled.
    fn poll_write_stalled(
        &self,
        cx: &mut Context<'_>,
        socket: &AcceptedSocket,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let interval = retry_interval(self.0.write_timeout);
        let mut stall = self.0.stall.borrow_mut();
        let stall = stall.get_or_insert_with(|| {
            let since = Instant::now();
            Stall {
                since,
                next_attempt: Box::pin(sleep_until(since + interval)),
            }
        });
        loop {
            ready!(stall.next_attempt.as_mut().poll(cx));
            match socket.write_now(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
            let is_unreachable = self.is_unreachable();
            if is_unreachable {
                socket.reset_on_close();
            }
            let accepted = self.0.accepted.get();
            let unsent_max = socket.unsent_bytes_max();
            let stall_timeout = accepted.stall_timeout(self.0.write_timeout, unsent_max);
            if is_unreachable || stall.since.elapsed() > stall_timeout {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            stall.next_attempt.as_mut().reset(Instant::now() + interval);
        }
    }

    /// Records the outcome of a write, and wakes `detach` if the write is not blocked.
    fn record_write(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = written {
            let mut accepted = self.0.accepted.get();
            accepted.add(*count);
            self.0.accepted.set(accepted);
            self.0.stall.take();
        }
        self.0.is_blocked.set(written.is_pending());
        if written.is_ready()
            && let Some(waker) = self.0.detach_waker.take()
        {
            waker.wake();
        }
    }
}

impl AsyncRead for DetachableSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.socket.borrow_mut().as_mut() {
            Some(socket) => Pin::new(socket).poll_read(cx, buffer),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for DetachableSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match self.0.socket.borrow_mut().as_mut() {
            Some(socket) => match Pin::new(&mut *socket).poll_write(cx, bytes) {
                Poll::Pending => self.poll_write_stalled(cx, socket, bytes),
                written @ Poll::Ready(_) => written,
            },
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        self.record_write(&written);
        match &mut *self.0.buffer.borrow_mut() {
            Some(buffer) => buffer.record_write(cx, bytes.len(), written),
            None => written,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.socket.borrow_mut().as_mut() {
            Some(socket) => Pin::new(socket).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.socket.borrow_mut().as_mut() {
            Some(socket) => Pin::new(socket).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests;
