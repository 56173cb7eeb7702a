//! The frames of all responses that the connection has not accepted.
//!
//! If the client reads nothing, the frames of up to 256 responses would wait in `h2`, where nothing
//! counts them. So a connection has a limit for all of them. Beyond it a chunk waits with its
//! response, where `--blocked-bytes` counts it and where its timer runs.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

impl<I: AsyncWrite + Unpin> AsyncWrite for QueuedIo<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.record(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.record(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.record(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
