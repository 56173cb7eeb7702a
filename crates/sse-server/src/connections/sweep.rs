//! Closes the connections that are in a phase for too long, and counts the others for the metrics.
//!
//! One sweep looks at all connections that HTTP serves. That costs less than a timer per request,
//! and the number of an overloaded server's connections is limited.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{CloseReason, ConnectionTable, Phase, entry::Entry};

/// Time between two sweeps; a connection is closed up to this much too late.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long the head of a request may take from its first byte, or from the start of a connection.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// How long a connection may wait for the next request.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// Both limits for a connection of the reserve.
const RESERVED_MAX: Duration = Duration::from_secs(1);

/// Sweeps until `stopping` is cancelled.
pub(crate) async fn sweep(table: ConnectionTable, stopping: CancellationToken) {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stopping.run_until_cancelled(tick.tick()).await.is_some() {
        table.sweep_at(table.now_ms());
    }
}

impl ConnectionTable {
    /// Asks the overdue connections to close, and sets the metrics.
    pub(super) fn sweep_at(&self, now_ms: u64) {
        let mut counts = [0_usize; Phase::ALL.len()];
        let entries = self.entries();
        for (_, entry) in &entries.slab {
            let phase = entry.phase();
            counts[phase.phase() as usize] += 1;
            if let Some((limit, reason)) = limit_of(entry, phase.phase())
                && u128::from(now_ms.saturating_sub(phase.since_ms())) > limit.as_millis()
            {
                entry.request_close(reason);
            }
        }
        let served = entries.slab.len();
        drop(entries);
        counts[Phase::Stream as usize] += self.open_count().saturating_sub(served);
        for phase in Phase::ALL {
            self.0
                .metrics
                .set_connections(phase.as_str(), counts[phase as usize]);
        }
    }
}

fn limit_of(entry: &Entry, phase: Phase) -> Option<(Duration, CloseReason)> {
    let (limit, reason) = match phase {
        Phase::Head => (HEAD_MAX, CloseReason::HeadTimeout),
        Phase::Idle => (IDLE_MAX, CloseReason::IdleTimeout),
        // `server/accept` limits a handshake, and `http` a request.
        Phase::ProxyHeader | Phase::Handshake | Phase::Request | Phase::Stream => return None,
    };
    let limit = if entry.is_reserved() {
        RESERVED_MAX
    } else {
        limit
    };
    Some((limit, reason))
}
