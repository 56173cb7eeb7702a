//! Wait before the next connection. Pure: the caller passes the random number, and waits.
//!
//! The first wait is the one that the server asks for (`retry`; WHATWG HTML §9.2.3 step 2 of
//! "reestablish"). After further failures, a random share of a doubling pause is added (exponential
//! backoff with full jitter), so that clients that were disconnected together do not reconnect
//! together.

use std::time::Duration;

use sse_cli::backoff;

/// Wait until the server sends `retry`. The standard leaves it open; browsers use 3 to 5 seconds.
const RETRY_DEFAULT: Duration = Duration::from_secs(3);
/// Longest wait after failures, unless the server asks for more.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Smallest start of the growth: `retry: 0` asks for one quick attempt, not for a busy loop.
const GROWTH_MIN: Duration = Duration::from_millis(250);
/// Longest wait that a server may ask for.
pub const ASKED_MAX: Duration = Duration::from_hours(1);

/// Bounds of the waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// First and shortest wait.
    base: Duration,
    /// End of the growth.
    cap: Duration,
}

impl Pace {
    /// Pace before the first connection: quick, because the server is probably being started.
    pub const STARTING: Self = Self {
        base: Duration::from_millis(250),
        cap: Duration::from_secs(3),
    };

    /// Pace with the `retry` of the server, if it sent one. A `retry` beyond the end of the growth
    /// is kept.
    #[must_use]
    pub fn from_retry(retry: Option<Duration>) -> Self {
        Self {
            base: retry.unwrap_or(RETRY_DEFAULT).min(ASKED_MAX),
            cap: PAUSE_MAX,
        }
    }

    /// Returns the wait after `failures` earlier failures in a row. `chance` is uniformly
    /// distributed from 0 to 1.
    #[must_use]
    pub fn wait(self, failures: u32, chance: f64) -> Duration {
        if failures == 0 {
            return self.base;
        }
        let growth = backoff::Backoff {
            pause_min: self.base.max(GROWTH_MIN),
            pause_max: self.cap,
        };
        let room = growth.pause_after(failures).saturating_sub(self.base);
        self.base + room.mul_f64(chance.clamp(0.0, 1.0))
    }
}

/// Counts failures in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure, and returns the wait after it.
    pub fn next_wait(&mut self, pace: Pace, chance: f64) -> Duration {
        let wait = pace.wait(self.failures, chance);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Resets the count after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(retry_ms: u64) -> Pace {
        Pace::from_retry(Some(Duration::from_millis(retry_ms)))
    }

    /// Returns the longest waits after 0, 1, 2… failures, in milliseconds.
    fn longest<const N: usize>(pace: Pace) -> [u128; N] {
        let mut backoff = Backoff::default();
        std::array::from_fn(|_| backoff.next_wait(pace, 1.0).as_millis())
    }

    #[test]
    fn the_first_wait_is_what_the_server_asked_for() {
        assert_eq!(Pace::from_retry(None).wait(0, 0.7), Duration::from_secs(3));
        assert_eq!(pace(1_234).wait(0, 0.7), Duration::from_millis(1_234));
        assert_eq!(pace(0).wait(0, 0.7), Duration::ZERO);
    }

    #[test]
    fn further_waits_double_up_to_the_cap() {
        assert_eq!(
            longest(Pace::from_retry(None)),
            [3_000, 6_000, 12_000, 24_000, 30_000, 30_000]
        );
        assert_eq!(
            longest(Pace::STARTING),
            [250, 500, 1_000, 2_000, 3_000, 3_000]
        );
        assert_eq!(longest(pace(0)), [0, 500, 1_000, 2_000, 4_000, 8_000]);
    }

    #[test]
    fn chance_adds_any_share_of_the_growth() {
        assert_eq!(pace(1_000).wait(2, 0.0).as_millis(), 1_000);
        assert_eq!(pace(1_000).wait(2, 0.5).as_millis(), 2_500);
        assert_eq!(pace(1_000).wait(2, 1.0).as_millis(), 4_000);
        assert_eq!(pace(1_000).wait(u32::MAX, 1.0).as_millis(), 30_000);
    }

    #[test]
    fn a_long_retry_is_kept_up_to_an_hour() {
        assert_eq!(longest(pace(60_000)), [60_000, 60_000]);
        assert_eq!(
            longest(pace(u64::MAX)),
            [ASKED_MAX.as_millis(), ASKED_MAX.as_millis()]
        );
    }

    #[test]
    fn success_resets_the_count() {
        let mut backoff = Backoff::default();
        backoff.next_wait(pace(1_000), 1.0);
        backoff.next_wait(pace(1_000), 1.0);
        backoff.reset();
        assert_eq!(backoff.next_wait(pace(1_000), 1.0).as_millis(), 1_000);
    }
}
