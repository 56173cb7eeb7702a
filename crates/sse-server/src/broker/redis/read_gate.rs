//! How many reads are at Redis at a time.
//!
//! Tails have places of their own. So neither many streams that start in the past, nor all tails
//! after a reconnect, delay the other kind. Publishes do not pass the gate, and neither do lookups,
//! which have a queue of their own.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::metrics::{Level, Waiting};

/// Reads for tails.
const TAIL_READS_MAX: usize = 16;
/// All other reads: pages of history, searches, and questions about the end of a stream.
const HISTORY_READS_MAX: usize = 32;

/// The reads at Redis.
#[derive(Debug)]
pub(super) struct ReadGate {
    tails: Semaphore,
    history: Semaphore,
    waiting: Level,
}

/// What a read is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadKind {
    Tail,
    History,
}

impl ReadGate {
    /// Creates a gate that counts in `waiting` the reads that wait.
    pub(super) fn new(waiting: Level) -> Self {
        Self {
            tails: Semaphore::new(TAIL_READS_MAX),
            history: Semaphore::new(HISTORY_READS_MAX),
            waiting,
        }
    }

    /// Waits for a place. The gate is never closed, so a place is always returned.
    pub(super) async fn enter(&self, kind: ReadKind) -> Option<SemaphorePermit<'_>> {
        let places = match kind {
            ReadKind::Tail => &self.tails,
            ReadKind::History => &self.history,
        };
        let _waiting = Waiting::new(&self.waiting);
        places.acquire().await.ok()
    }
}
