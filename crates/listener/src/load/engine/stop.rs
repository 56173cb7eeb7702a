//! Requests to stop from another thread.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use mio::Waker;

/// Stops a run from another thread.
#[derive(Debug, Clone)]
pub(crate) struct StopHandle {
    requests: Arc<AtomicU32>,
    waker: Arc<Waker>,
}

impl StopHandle {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            requests: Arc::default(),
            waker: Arc::new(waker),
        }
    }

    /// Requests the end of the run. The second request skips the grace period.
    pub(crate) fn request_stop(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        // Fails only if the loop has ended.
        let _ = self.waker.wake();
    }

    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}
