//! Limits how often a failure to write the log is logged: when an outage begins, when it is over,
//! and now and then in between. On a full disk, a hundred commits can fail per second.

use std::time::{Duration, Instant};

use sse_cli::log_throttle::LogThrottle;

/// Shortest time between two lines about failures.
const LOG_INTERVAL: Duration = Duration::from_secs(30);
/// An outage is over once nothing has failed for this long. Failures that alternate with successes
/// are therefore one outage.
const OVER_AFTER: Duration = Duration::from_secs(1);

/// Decides which failed and successful commits are logged.
#[derive(Debug)]
pub(super) struct FailureLog {
    throttle: LogThrottle,
    last_failure: Option<Instant>,
}

impl FailureLog {
    pub(super) const fn new() -> Self {
        Self {
            throttle: LogThrottle::every(LOG_INTERVAL),
            last_failure: None,
        }
    }

    /// Records a failed commit.
    ///
    /// Returns `None` if the failure must not be logged. Otherwise returns how many failures were
    /// not logged since the last line.
    pub(super) fn record_failure(&mut self, now: Instant) -> Option<u64> {
        self.last_failure = Some(now);
        self.throttle.record(now)
    }

    /// Records a successful commit.
    ///
    /// Returns `None` unless this commit ends an outage. Otherwise returns how many failures were
    /// not logged since the last line.
    pub(super) fn record_success(&mut self, now: Instant) -> Option<u64> {
        let last_failure = self.last_failure?;
        if now.duration_since(last_failure) < OVER_AFTER {
            return None;
        }
        self.last_failure = None;
        Some(self.throttle.take_suppressed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_logged_when_it_begins_now_and_then_and_when_it_is_over() {
        let mut failure_log = FailureLog::new();
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        assert_eq!(
            failure_log.record_success(begun),
            None,
            "nothing has failed"
        );
        let logged: Vec<u64> = (0..6100)
            .filter_map(|nth| failure_log.record_failure(at(nth * 10)))
            .collect();
        assert_eq!(logged, [0, 2999, 2999]);
        assert_eq!(
            failure_log.record_success(at(61_000)),
            None,
            "the next commit may fail again"
        );
        assert_eq!(failure_log.record_success(at(62_000)), Some(99));
        assert_eq!(
            failure_log.record_success(at(62_010)),
            None,
            "the end was logged"
        );
        // A failure soon afterwards belongs to the outage that was logged; a later one does not.
        assert_eq!(failure_log.record_failure(at(63_000)), None);
        assert_eq!(failure_log.record_failure(at(95_000)), Some(1));
    }
}
