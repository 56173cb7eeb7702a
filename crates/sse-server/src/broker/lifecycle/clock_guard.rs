//! When the clock is not trusted to expire channels.
//!
//! A machine whose clock is set a year ahead by mistake would expire every channel at once. So the
//! log's clock is compared with the monotonic clock, and after a jump nothing expires for a while,
//! in which an operator can act.

use std::time::{Duration, Instant};

/// The log's clock may run ahead of the monotonic clock by this much between two observations.
const JUMP_MAX: Duration = Duration::from_mins(1);
/// How long nothing expires after a jump.
const PAUSE: Duration = Duration::from_mins(10);

/// Compares two clocks.
#[derive(Debug, Default)]
pub(in crate::broker) struct ClockGuard {
    last: Option<(u64, Instant)>,
    paused_until: Option<Instant>,
}

impl ClockGuard {
    /// Observes both clocks at one moment, at each commit and before each expiry. Returns whether
    /// channels may expire now.
    pub(in crate::broker) fn observe(&mut self, log_ms: u64, now: Instant) -> bool {
        if self.has_jumped(log_ms, now) {
            self.paused_until = Some(now + PAUSE);
            tracing::error!(
                "the clock was set forward by more than a minute: no channel expires for ten \
                 minutes; if the time is wrong, stop the server and correct it"
            );
        }
        self.last = Some((log_ms, now));
        self.paused_until.is_none_or(|until| until <= now)
    }

    fn has_jumped(&self, log_ms: u64, now: Instant) -> bool {
        let Some((last_ms, last)) = self.last else {
            return false;
        };
        let by_log = Duration::from_millis(log_ms.saturating_sub(last_ms));
        let by_monotonic = now.saturating_duration_since(last);
        by_log > by_monotonic + JUMP_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_jump_nothing_expires_for_ten_minutes() {
        let start = Instant::now();
        let mut guard = ClockGuard::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(guard.observe(1_000_000, at(0)));
        assert!(
            guard.observe(1_050_000, at(30)),
            "the clock is corrected by 20 s"
        );
        assert!(!guard.observe(9_000_000, at(31)));
        assert!(!guard.observe(9_500_000, at(531)));
        assert!(guard.observe(9_600_000, at(631)));
        assert!(
            guard.observe(1_000_000, at(632)),
            "a clock that is set back expires nothing"
        );
    }
}
