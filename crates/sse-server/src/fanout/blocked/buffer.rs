//! What actix buffers for a stream whose socket is full.
//!
//! actix copies the chunks of a body into the write buffer of the connection, so each attached
//! stream has its own copy. The buffer counts from the first write that is blocked until all of it
//! is written.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::task::AtomicWaker;

use super::{BlockedBytes, BlockedShare, Closer};
use crate::{budget::ClientNet, fanout::page_slot::PageSlot};

/// A request to close an attached stream.
#[derive(Debug, Default)]
pub(in crate::fanout) struct CloseRequest {
    is_sent: AtomicBool,
    /// Wakes the connection.
    waker: AtomicWaker,
}

impl CloseRequest {
    /// Returns whether the stream must be closed.
    pub(super) fn is_sent(&self) -> bool {
        self.is_sent.load(Ordering::SeqCst)
    }

    /// Wakes this task when the stream must be closed.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(super) fn send(&self) {
        self.is_sent.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

/// The write buffer of an attached stream.
#[derive(Debug)]
pub(in crate::fanout) struct BlockedBuffer {
    blocked: BlockedBytes,
    client: Option<ClientNet>,
    /// `None` while the socket accepts data.
    share: Option<(usize, BlockedShare)>,
    close_request: Arc<CloseRequest>,
    /// A page for the same stream, which is dropped while the socket is full.
    page: PageSlot,
}

impl BlockedBuffer {
    pub(in crate::fanout) fn new(
        blocked: BlockedBytes,
        client: Option<ClientNet>,
        page: PageSlot,
    ) -> Self {
        Self {
            blocked,
            client,
            page,
            share: None,
            close_request: Arc::default(),
        }
    }

    /// Returns whether the stream is closed because blocked streams hold too much.
    pub(in crate::fanout) fn is_evicted(&self) -> bool {
        self.close_request.is_sent()
    }

    /// Counts the buffer after a write of all its `length` bytes. Returns the outcome of the write:
    /// an error if the stream must be closed.
    pub(in crate::fanout) fn record_write(
        &mut self,
        cx: &Context<'_>,
        length: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) if count < length => written,
            Poll::Ready(_) => {
                self.share = None;
                // A request to close the stream may have come too late. What it asked for is done:
                // the stream holds nothing.
                if self.is_evicted() {
                    self.close_request = Arc::default();
                }
                written
            }
            Poll::Pending => {
                self.close_request.register(cx.waker());
                self.page.clear();
                self.hold(length);
                if self.is_evicted() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Pending
            }
        }
    }

    fn hold(&mut self, length: usize) {
        if self.share.as_ref().is_some_and(|(held, _)| *held >= length) {
            return;
        }
        self.share = None;
        let closer = Closer::Attached(self.close_request.clone());
        let share = self.blocked.hold_buffer(length, self.client, closer);
        self.share = Some((length, share));
    }
}
