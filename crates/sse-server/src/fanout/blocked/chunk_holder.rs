//! The chunk that a multiplexed stream cannot send.
//!
//! A stream over HTTP/2 keeps its chunk until the client has room for it, and shares it with the
//! streams that hold an equal one.

use std::{fmt, sync::Arc, task::Context};

use bytes::Bytes;

use super::{BlockedBytes, BlockedShare, Closer, buffer::CloseRequest};
use crate::{budget::ClientNet, fanout::page_slot::PageSlot};

/// Counts the chunk of one stream while it cannot be sent.
pub(in crate::fanout) struct BlockedChunk {
    blocked: BlockedBytes,
    client: Option<ClientNet>,
    /// `None` while the client accepts data.
    share: Option<BlockedShare>,
    close_request: Arc<CloseRequest>,
    /// A page for the same stream, which is dropped while the stream is blocked.
    page: PageSlot,
}

impl fmt::Debug for BlockedChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockedChunk")
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

impl BlockedChunk {
    pub(in crate::fanout) fn new(
        blocked: BlockedBytes,
        client: Option<ClientNet>,
        page: PageSlot,
    ) -> Self {
        Self {
            blocked,
            client,
            share: None,
            close_request: Arc::default(),
            page,
        }
    }

    /// Counts `chunk` until it is released, and puts an equal chunk of another stream in its place,
    /// if there is one. Returns `false` if the stream must be closed.
    pub(in crate::fanout) fn hold(&mut self, cx: &Context<'_>, chunk: &mut Bytes) -> bool {
        self.close_request.register(cx.waker());
        if self.share.is_none() {
            self.page.clear();
            let closer = Closer::Attached(self.close_request.clone());
            // A chunk can be a small part of a large allocation.
            let own = |chunk: &Bytes| Bytes::copy_from_slice(chunk);
            let (held, share) = self.blocked.hold_chunk(chunk, 0, own, self.client, closer);
            (*chunk, self.share) = (held, Some(share));
        }
        !self.close_request.is_sent()
    }

    /// Records that the chunk is sent.
    pub(in crate::fanout) fn release(&mut self) {
        // A request to close the stream may have come too late. What it asked for is done: the
        // stream holds nothing.
        if self.share.take().is_some() && self.close_request.is_sent() {
            self.close_request = Arc::default();
        }
    }
}
