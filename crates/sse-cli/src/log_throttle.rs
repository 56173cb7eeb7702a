//! Limits how often a condition that repeats is logged.
//!
//! A server that is away fails thousands of requests per second. The operator needs one line when
//! the condition begins, and one line now and then with the number of occurrences in between. The
//! throttle only decides; the caller writes the line, because levels and fields differ.

use std::time::{Duration, Instant};

/// Decides which occurrences of one condition are logged.
#[derive(Debug)]
pub struct LogThrottle {
    /// Shortest time between two lines; `None` logs the first occurrence only.
    interval: Option<Duration>,
    logged_at: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// Logs the first occurrence, and no other.
    #[must_use]
    pub const fn once() -> Self {
        Self {
            interval: None,
            logged_at: None,
            suppressed: 0,
        }
    }

    /// Logs the first occurrence, and then at most one per `interval`.
    #[must_use]
    pub const fn every(interval: Duration) -> Self {
        Self {
            interval: Some(interval),
            ..Self::once()
        }
    }

    /// Records an occurrence at `now`.
    ///
    /// Returns `None` if the occurrence must not be logged. Otherwise returns how many occurrences
    /// were suppressed since the last line.
    pub fn record(&mut self, now: Instant) -> Option<u64> {
        self.record_many(1, now)
    }

    /// Records `count` occurrences at `now`, which share a line.
    ///
    /// Returns the same as [`Self::record`].
    pub fn record_many(&mut self, count: u64, now: Instant) -> Option<u64> {
        if self.is_limiting(now) {
            self.suppressed += count;
            return None;
        }
        self.logged_at = Some(now);
        Some(self.take_suppressed())
    }

    /// Whether an occurrence at `now` would be suppressed.
    #[must_use]
    pub fn is_limiting(&self, now: Instant) -> bool {
        self.logged_at.is_some_and(|logged_at| {
            self.interval
                .is_none_or(|interval| now.duration_since(logged_at) < interval)
        })
    }

    /// Returns how many occurrences were suppressed since the last line.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Returns how many occurrences were suppressed since the last line, and counts from zero.
    pub const fn take_suppressed(&mut self) -> u64 {
        std::mem::replace(&mut self.suppressed, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_logs_the_first_occurrence() {
        let mut throttle = LogThrottle::once();
        let now = Instant::now();
        let day = Duration::from_hours(24);
        assert_eq!(throttle.record(now), Some(0));
        assert_eq!(throttle.record(now + day), None);
        assert_eq!(throttle.take_suppressed(), 1);
    }

    #[test]
    fn every_logs_one_line_per_interval_with_the_number_of_suppressed_occurrences() {
        let mut throttle = LogThrottle::every(Duration::from_secs(30));
        let start = Instant::now();
        let logged: Vec<u64> = (0..61)
            .filter_map(|second| throttle.record(start + Duration::from_secs(second)))
            .collect();
        assert_eq!(logged, [0, 29, 29]);
        assert_eq!(throttle.record(start + Duration::from_secs(61)), None);
        assert_eq!(throttle.take_suppressed(), 1);
    }
}
