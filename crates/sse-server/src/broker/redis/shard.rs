//! One primary, and what this node does there.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use tokio_util::sync::DropGuard;

use super::{
    connection::Connection, dial::CommandConnection, handshake::Connections, lookups::LookupQueue,
    read_gate::ReadGate, subscriptions::Subscriptions, tail_reads::TailReads,
    target::ServerAddress,
};
use crate::metrics::ShardMetrics;

/// The clock of a primary is unknown.
const UNKNOWN_CLOCK: i64 = i64::MIN;

/// One primary, and what this node does there.
#[derive(Debug)]
pub(super) struct Shard {
    /// The address that identifies it. With sentinels, which name another one, that of a sentinel.
    pub(super) address: ServerAddress,
    pub(super) connection: Connection,
    pub(super) gate: ReadGate,
    pub(super) lookups: Arc<LookupQueue>,
    pub(super) tail_reads: Arc<TailReads>,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) clock: Arc<ClockOffset>,
    pub(super) metrics: Arc<ShardMetrics>,
    /// Its tasks end with it.
    pub(super) _tasks: DropGuard,
}

/// How far the clock of a primary is ahead of that of this machine, in milliseconds.
#[derive(Debug)]
pub(super) struct ClockOffset(AtomicI64);

impl Default for ClockOffset {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN_CLOCK))
    }
}

impl ClockOffset {
    pub(super) fn set(&self, offset_ms: i64) {
        self.0.store(offset_ms, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|offset| *offset != UNKNOWN_CLOCK)
    }
}

/// Which of the two connections of a primary a session uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Publishes, and other commands that are few and small.
    Writes,
    /// Lookups and pages, which delay no publish.
    Reads,
}

impl Purpose {
    pub(super) fn choose(self, connections: &Connections) -> CommandConnection {
        match self {
            Self::Writes => connections.writes.clone(),
            Self::Reads => connections.reads.clone(),
        }
    }
}

/// The way to the primary of a slot.
#[derive(Debug)]
pub(super) struct Routed {
    pub(super) shard: Arc<Shard>,
    pub(super) connections: Connections,
    /// The era of the slot.
    pub(super) era: u64,
}
