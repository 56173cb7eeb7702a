//! What HTTP reports about the requests of a connection.

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
        is_reserved.unwrap_or(false)
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
