//! Whether the writer makes progress, for the watchdog of a service manager.

use sse_proto::EventId;
use tokio::sync::oneshot;

use super::{Embedded, request::Request};

/// How far the writer of a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriterProgress {
    /// The writer has taken this many batches of requests from its queue.
    Batches(u64),
    /// The writer opens the file again after a failed commit, which may read the whole file.
    Reopening,
}

impl Embedded {
    /// Gives the writer a batch to take, if its queue is empty.
    ///
    /// The clock is past the lowest id already, so the batch changes nothing.
    pub fn wake_writer(&self) {
        let (reply, _) = oneshot::channel();
        let bound = EventId::ZERO;
        // A queue that is full gives the writer enough to take.
        let _ = self.enqueue(Request::AdvanceClock { bound, reply });
    }

    /// Returns how far the writer has come.
    #[must_use]
    pub fn writer_progress(&self) -> WriterProgress {
        self.shared.writer_progress()
    }
}
