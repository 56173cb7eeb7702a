//! When and why a run ends. Pure: time and counts are parameters.
//!
//! A run that reaches its duration, or is stopped, first settles: connections that are behind
//! others get some time to catch up.
//!
//! ```text
//! Running ──duration, signal──► Settling ──none behind, or time limit──► Over
//!    └────────── all done, or nothing opened ─────────────────────────────►
//! ```

use std::time::Instant;

/// After this many connections without any stream, the others cannot be opened either.
const HOPELESS_AFTER: u32 = 64;

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// `--duration` has passed.
    Duration,
    /// Every connection has received `--count` events.
    Count,
    /// Ctrl-C or SIGTERM.
    Signal,
    /// No connection is left: all were rejected for good, or their streams have ended for good.
    NoneLeft,
    /// No stream could be opened.
    NothingOpened,
}

/// The stage of a run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    Running,
    /// Connections may catch up.
    Settling {
        reason: EndReason,
        since: Instant,
    },
    Over {
        reason: EndReason,
        /// When the run stopped measuring, before it settled.
        measured_until: Instant,
        at: Instant,
    },
}

impl Stage {
    pub(super) const fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }
}

/// What a running stage must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunEnd {
    /// End at once.
    Now(EndReason),
    /// End after connections that are behind have caught up.
    AfterSettling(EndReason),
}

/// Facts about a run on which its end depends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RunFacts {
    pub(super) connections: u32,
    /// Connections that are not made again.
    pub(super) done: u32,
    /// Connections whose first attempt led to no stream.
    pub(super) failed_first: u32,
    pub(super) handshakes: usize,
    /// Connections that had a stream at least once.
    pub(super) ever_open: u64,
    pub(super) has_count: bool,
    pub(super) stop_requests: u32,
    pub(super) is_time_up: bool,
}

impl RunFacts {
    /// Returns how the run ends, if it ends now.
    pub(super) const fn run_end(&self) -> Option<RunEnd> {
        let all_done = self.done == self.connections;
        if all_done && self.has_count && self.ever_open > 0 {
            Some(RunEnd::Now(EndReason::Count))
        } else if self.is_hopeless() {
            Some(RunEnd::Now(EndReason::NothingOpened))
        } else if all_done {
            Some(RunEnd::Now(EndReason::NoneLeft))
        } else if self.stop_requests > 0 {
            Some(RunEnd::AfterSettling(EndReason::Signal))
        } else if self.is_time_up {
            Some(RunEnd::AfterSettling(EndReason::Duration))
        } else {
            None
        }
    }

    const fn is_hopeless(&self) -> bool {
        let enough_failed =
            self.failed_first >= HOPELESS_AFTER || self.failed_first >= self.connections;
        self.ever_open == 0 && enough_failed && self.handshakes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: RunFacts = RunFacts {
        connections: 1_000,
        done: 0,
        failed_first: 0,
        handshakes: 0,
        ever_open: 1_000,
        has_count: false,
        stop_requests: 0,
        is_time_up: false,
    };

    #[test]
    fn a_run_settles_after_its_time_or_a_signal() {
        assert_eq!(RUNNING.run_end(), None);
        let time_up = RunFacts {
            is_time_up: true,
            ..RUNNING
        };
        assert_eq!(
            time_up.run_end(),
            Some(RunEnd::AfterSettling(EndReason::Duration))
        );
        let stopped = RunFacts {
            stop_requests: 1,
            ..time_up
        };
        assert_eq!(
            stopped.run_end(),
            Some(RunEnd::AfterSettling(EndReason::Signal))
        );
    }

    #[test]
    fn a_run_without_connections_ends_at_once() {
        let done = RunFacts {
            done: 1_000,
            ..RUNNING
        };
        assert_eq!(done.run_end(), Some(RunEnd::Now(EndReason::NoneLeft)));
        let counted = RunFacts {
            has_count: true,
            ..done
        };
        assert_eq!(counted.run_end(), Some(RunEnd::Now(EndReason::Count)));
    }

    #[test]
    fn a_run_is_hopeless_if_the_first_connections_open_no_stream() {
        let failed = |failed_first, handshakes| {
            RunFacts {
                failed_first,
                handshakes,
                ever_open: 0,
                ..RUNNING
            }
            .run_end()
        };
        assert_eq!([failed(63, 0), failed(64, 1)], [None, None]);
        assert_eq!(failed(64, 0), Some(RunEnd::Now(EndReason::NothingOpened)));
    }
}
