//! The page read in flight of a stream that actix serves.
//!
//! A page holds memory that all streams share. While the socket is full, actix does not poll the
//! body of the stream, which could therefore keep a page for minutes. So the connection empties the
//! slot when a write is blocked, and the stream reads the page again when the socket has room.

use std::{
    cell::RefCell,
    fmt,
    rc::Rc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;

use super::page_cache::SharedPage;
use crate::broker::BrokerError;

/// Result of a page read. An error comes only after a pause.
pub(super) type PageResult = Result<SharedPage, BrokerError>;

/// Slot for one page read; clones share it.
#[derive(Clone, Default)]
pub(super) struct PageSlot(Rc<RefCell<Option<BoxFuture<'static, PageResult>>>>);

impl PageSlot {
    pub(super) fn set(&self, read: BoxFuture<'static, PageResult>) {
        self.0.replace(Some(read));
    }

    /// Drops the read, and the page if it has arrived.
    pub(super) fn clear(&self) {
        self.0.take();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// Polls the read, which must be cleared when it is ready. Returns `None` if there is none.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Option<Poll<PageResult>> {
        let mut read = self.0.borrow_mut();
        read.as_mut().map(|read| read.as_mut().poll(cx))
    }
}

impl fmt::Debug for PageSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageSlot")
            .field("is_empty", &self.is_empty())
            .finish()
    }
}
