//! Whether a client is unreachable, by what the kernel reports and by what earlier sweeps saw.
//!
//! A client is unreachable if two things hold:
//!
//! 1. It has been silent for `--write-timeout`: it acknowledged nothing, and there was something to
//!    acknowledge for all of this time.
//! 2. If its window is closed, it left two probes without an answer. One probe may be lost.
//!
//! A client that acknowledges is reachable, even if it accepts no data. Whether it is stalled is
//! decided by [`stall`](crate::fanout::stall).

use std::time::{Duration, Instant};

/// Probes of a closed window that must be unanswered.
const PROBES_MIN: u8 = 2;
/// Time in which a client answers a probe, even over a slow network.
const PROBE_ANSWER_TIME: Duration = Duration::from_secs(5);

/// What the kernel reports about one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TcpState {
    pub(super) outstanding: Outstanding,
    /// Time since the client acknowledged anything, even without progress.
    pub(super) since_ack: Duration,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outstanding {
    /// For nothing, or for the acknowledgement of data that were sent once.
    Nothing,
    /// For the acknowledgement of data that were sent again.
    Retransmission,
    /// For the client's window to open.
    Window {
        /// Probes since the client answered the last one.
        unanswered_probes: u8,
    },
}

/// What earlier sweeps saw of a client that did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspicion {
    /// First sweep that found an unanswered segment.
    since: Instant,
    /// First sweep that found [`PROBES_MIN`] unanswered probes.
    probed_since: Option<Instant>,
}

/// Outcome for one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client answers, or was asked nothing.
    Reachable,
    /// The client does not answer. The next sweep needs the suspicion.
    Suspect(Suspicion),
    /// The client has not answered for too long.
    Unreachable(Suspicion),
}

/// Judges a connection at `now`. `earlier` is the suspicion of the last sweep.
pub(super) fn judge(
    state: TcpState,
    earlier: Option<Suspicion>,
    now: Instant,
    write_timeout: Duration,
) -> Verdict {
    if !has_unanswered_segment(state.outstanding) {
        return Verdict::Reachable;
    }
    let suspicion = update_suspicion(state, earlier, now);
    let silence = now.duration_since(suspicion.since).min(state.since_ack);
    if silence >= write_timeout && suspicion.is_probed_enough(state.outstanding, now) {
        Verdict::Unreachable(suspicion)
    } else {
        Verdict::Suspect(suspicion)
    }
}

const fn has_unanswered_segment(outstanding: Outstanding) -> bool {
    match outstanding {
        Outstanding::Nothing => false,
        Outstanding::Retransmission => true,
        Outstanding::Window { unanswered_probes } => unanswered_probes > 0,
    }
}

fn update_suspicion(state: TcpState, earlier: Option<Suspicion>, now: Instant) -> Suspicion {
    // An answer since the last sweep ends the suspicion.
    let earlier = earlier.filter(|it| now.duration_since(it.since) <= state.since_ack);
    let is_probed = matches!(state.outstanding, Outstanding::Window { unanswered_probes }
        if unanswered_probes >= PROBES_MIN);
    Suspicion {
        since: earlier.map_or(now, |it| it.since),
        probed_since: is_probed.then(|| earlier.and_then(|it| it.probed_since).unwrap_or(now)),
    }
}

impl Suspicion {
    /// Returns whether enough probes are unanswered, if the connection sends probes.
    fn is_probed_enough(&self, outstanding: Outstanding, now: Instant) -> bool {
        let Outstanding::Window { unanswered_probes } = outstanding else {
            return true;
        };
        // The answer to the newest probe may be on its way. A further probe is sent only after it.
        unanswered_probes > PROBES_MIN
            || self
                .probed_since
                .is_some_and(|since| now.duration_since(since) >= PROBE_ANSWER_TIME)
    }
}

#[cfg(test)]
mod tests;
