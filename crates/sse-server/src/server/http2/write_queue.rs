//! The frames of all responses that the connection has not accepted.
//!
//! If the client reads nothing, the frames of up to 256 responses would wait in `h2`, where nothing
//! counts them. So a connection has a limit for all of them. Beyond it a chunk waits with its
//! response, where `--blocked-bytes` counts it and where its timer runs.
//!
//! The head of a frame and its data are two buffers in `h2`. [`QueuedIo`] writes them as one, because
//! TLS would make a record of each.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::fanout::socket::AcceptedSocket;

/// Bytes of one write: a frame and its head, and what is queued before it.
const WRITE_BYTES_MAX: usize = 32 << 10;

thread_local! {
    /// Joins the parts of one write.
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes after which no response adds another frame.
const BYTES_MAX: usize = 64 << 10;

/// The frames that wait in `h2`; clones share the count.
#[derive(Clone, Default)]
pub(super) struct WriteQueue(Rc<Inner>);

#[derive(Default)]
struct Inner {
    /// Bytes that were added since `h2` last had nothing to write.
    bytes: Cell<usize>,
    /// The last write was blocked.
    is_blocked: Cell<bool>,
    /// The keys of the connection must not encrypt much more.
    is_worn_out: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl WriteQueue {
    /// Waits until another frame may be added.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.0.bytes.get() < BYTES_MAX {
            return Poll::Ready(());
        }
        let mut waiting = self.0.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Records that a frame of this length was added.
    pub(super) fn add(&self, bytes: usize) {
        self.0.bytes.set(self.0.bytes.get() + bytes);
    }

    /// Whether the keys of the connection must not encrypt much more.
    pub(super) fn is_worn_out(&self) -> bool {
        self.0.is_worn_out.get()
    }

    /// Records that `h2` has written as much as the connection accepts.
    pub(super) fn record_written(&self) {
        if self.0.is_blocked.get() {
            return;
        }
        self.0.bytes.set(0);
        for waker in self.0.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}

/// A connection whose keys may wear out.
pub(in crate::server) trait KeyUse {
    /// Whether the keys must not encrypt much more.
    fn is_worn_out(&self) -> bool;
}

impl KeyUse for AcceptedSocket {
    fn is_worn_out(&self) -> bool {
        self.is_worn_out()
    }
}

/// A connection that reports blocked writes to the queue.
pub(super) struct QueuedIo<I> {
    io: I,
    queue: WriteQueue,
}

impl<I> QueuedIo<I> {
    pub(super) const fn new(io: I, queue: WriteQueue) -> Self {
        Self { io, queue }
    }

    fn record<T>(&self, written: Poll<T>) -> Poll<T> {
        self.queue.0.is_blocked.set(written.is_pending());
        written
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for QueuedIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + KeyUse + Unpin> AsyncWrite for QueuedIo<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.queue.0.is_worn_out.set(self.io.is_worn_out());
        self.record(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        JOINED.with_borrow_mut(|joined| {
            joined.clear();
            for part in parts {
                let room = WRITE_BYTES_MAX - joined.len();
                joined.extend_from_slice(&part[..part.len().min(room)]);
            }
            self.poll_write(cx, joined)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.record(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
