//! What HTTP reports about the requests of a connection.
//!
//! No request follows the one whose response ends the connection. actix parses what the client sent
//! behind it nevertheless, and calls the service once the response before is in its buffer; so the
//! service asks [`DetachableSocket::is_ending`], and then only closes the connection.

use std::{future::poll_fn, task::Poll};

use super::{DetachableSocket, OpenConnection, Phase};

/// A request in progress, until actix has its whole response.
#[derive(Debug)]
pub struct RequestGuard(DetachableSocket);

impl RequestGuard {
    /// Records that the head of the response exists. Returns whether the connection must end with
    /// this response.
    #[must_use]
    pub fn start_response(&self) -> bool {
        let progress = &self.0.0.progress;
        progress.start_response();
        let is_reserved = progress.with(OpenConnection::is_reserved);
        is_reserved.unwrap_or(false) || self.0.is_worn_out()
    }

    /// Records that the connection ends with the response to this request.
    pub fn set_last(&self) {
        self.0.0.is_ending.set(true);
    }

    /// Whether the connection ends with the response to this request.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.0.is_ending()
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.0.progress.end_response();
    }
}

impl DetachableSocket {
    /// Records that a request is complete up to its body.
    #[must_use]
    pub fn start_request(&self, has_body: bool) -> RequestGuard {
        self.0.progress.start_request(has_body);
        RequestGuard(self.clone())
    }

    /// Whether no further request may be handled.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.0.is_ending.get()
    }

    /// Closes the connection once everything that actix has to write is written.
    pub async fn close_when_written(&self) {
        let flushes = self.0.flushes.get();
        poll_fn(|cx| {
            if self.0.flushes.get() != flushes {
                return Poll::Ready(());
            }
            self.0.flush_waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        self.close();
    }

    /// Records that actix has written its whole buffer.
    pub(super) fn record_flush(&self) {
        self.0.flushes.set(self.0.flushes.get().wrapping_add(1));
        if let Some(waker) = self.0.flush_waker.take() {
            waker.wake();
        }
    }

    /// Whether a stream may use the connection: not if it is reserved for other requests.
    #[must_use]
    pub fn may_stream(&self) -> bool {
        let may_stream = self.0.progress.with(OpenConnection::may_stream);
        may_stream.unwrap_or(true)
    }

    /// Records that the connection carries a stream.
    pub fn start_stream(&self) {
        self.0.progress.set_phase(Phase::Stream);
    }
}
