//! Pairs the log lines of an outage: one when a connection breaks, and one when it works again.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// One fault breaks both connections, but they notice it at different times.
const SAME_FAULT: Duration = Duration::from_secs(5);

/// Whether an outage was logged that has not ended yet.
#[derive(Debug, Default)]
pub(super) struct OutageLog {
    /// The last outage that was logged.
    last: Mutex<Option<Outage>>,
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    began: Instant,
    /// `None` while it lasts.
    ended: Option<Instant>,
}

impl OutageLog {
    /// Records a failure. Returns true if it must be logged, because it begins an outage.
    pub(super) fn record_failure(&self) -> bool {
        let mut last = self.lock();
        let begins = last.is_none_or(|outage| outage.ended.is_some());
        if begins {
            let began = Instant::now();
            *last = Some(Outage { began, ended: None });
        }
        begins
    }

    /// Records a success. Returns true if it must be logged, because it ends an outage that was
    /// logged.
    pub(super) fn record_success(&self) -> bool {
        let mut last = self.lock();
        let lasting = last.as_mut().filter(|outage| outage.ended.is_none());
        lasting.is_some_and(|outage| outage.ended.replace(Instant::now()).is_none())
    }

    /// Whether the last outage here is most likely the same as the one of another connection.
    pub(super) fn is_same_outage(&self, other: &Self) -> bool {
        let (one, other) = (*self.lock(), *other.lock());
        let ends_before = |one: Outage, other: Outage| {
            one.ended
                .is_some_and(|ended| ended + SAME_FAULT < other.began)
        };
        one.zip(other)
            .is_some_and(|(one, other)| !ends_before(one, other) && !ends_before(other, one))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Outage>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_one_line_at_its_beginning_and_one_at_its_end() {
        let outage = OutageLog::default();
        assert!(!outage.record_success());
        assert!(outage.record_failure() && !outage.record_failure());
        assert!(outage.record_success() && !outage.record_success());
        assert!(outage.record_failure());
    }

    #[test]
    fn outages_at_the_same_time_are_the_same() {
        let (one, other) = (OutageLog::default(), OutageLog::default());
        assert!(one.record_failure() && !one.is_same_outage(&other));
        // It ended just before the other connection broke.
        assert!(one.record_success() && other.record_failure());
        assert!(one.is_same_outage(&other) && other.is_same_outage(&one));
        let long_ago = Instant::now().checked_sub(2 * SAME_FAULT);
        let long_ago = long_ago.expect("the machine runs for longer");
        *one.lock() = Some(Outage {
            began: long_ago,
            ended: Some(long_ago),
        });
        assert!(!one.is_same_outage(&other) && !other.is_same_outage(&one));
    }
}
