//! How often the operator is told that the log cannot be written: when it begins, when it is over, and now and then
//! between. On a full disk a hundred groups may fail in a second.

use std::time::{Duration, Instant};

/// Between two lines about failures.
const SAID_EVERY: Duration = Duration::from_secs(30);
/// It is over when nothing has failed for so long, so that failures that come and go are one outage.
const OVER_AFTER: Duration = Duration::from_secs(1);

/// Groups that fail.
#[derive(Debug, Default)]
pub(super) struct FailureLog {
    said: Option<Instant>,
    /// Since it was said.
    unsaid: u64,
    last_failure: Option<Instant>,
}

impl FailureLog {
    /// A group failed. If it is to be said: how many failed before it, since it was last said.
    pub(super) fn failed(&mut self, now: Instant) -> Option<u64> {
        self.last_failure = Some(now);
        if self
            .said
            .is_some_and(|said| now.duration_since(said) < SAID_EVERY)
        {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }

    /// A group was written. If it is to be said that the outage is over: how many failed of which nothing was said.
    pub(super) fn succeeded(&mut self, now: Instant) -> Option<u64> {
        let last_failure = self.last_failure?;
        if now.duration_since(last_failure) < OVER_AFTER {
            return None;
        }
        self.last_failure = None;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_when_it_begins_now_and_then_and_when_it_is_over() {
        let mut failure_log = FailureLog::default();
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        assert_eq!(failure_log.succeeded(begun), None, "nothing has failed");
        let said: Vec<u64> = (0..6100)
            .filter_map(|nth| failure_log.failed(at(nth * 10)))
            .collect();
        assert_eq!(said, [0, 2999, 2999]);
        assert_eq!(
            failure_log.succeeded(at(61_000)),
            None,
            "it may fail again at once"
        );
        assert_eq!(failure_log.succeeded(at(62_000)), Some(99));
        assert_eq!(failure_log.succeeded(at(62_010)), None, "it was said");
        // Soon after it is the same outage, of which was told; later it is another.
        assert_eq!(failure_log.failed(at(63_000)), None);
        assert_eq!(failure_log.failed(at(95_000)), Some(1));
    }
}
