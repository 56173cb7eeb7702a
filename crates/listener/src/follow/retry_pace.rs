//! How long to wait before the next connection, and when to give up. Pure: chance is a parameter, and time is not looked at.
//!
//! The first wait is what the server asked for (`retry`; WHATWG HTML §9.2.3 step 2 of "reestablish"). After further
//! failures it is that and a random share of a pause that doubles up to a cap (exponential back-off with full
//! jitter), so that those who were cut together do not come back together.

use std::time::Duration;

use sse_cli::backoff;

/// Until the server says another one (the standard leaves it open; browsers take 3 to 5 seconds).
const RETRY_DEFAULT: Duration = Duration::from_secs(3);
/// The pause between failures grows up to here.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The pause grows from at least here: `retry: 0` asks for one quick try, not for a busy loop.
const GROWTH_MIN: Duration = Duration::from_millis(250);
/// What a server may ask for at most; more is a slip, or malice.
pub const ASKED_MAX: Duration = Duration::from_hours(1);

/// Between which bounds the waits lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The first wait, and the least.
    base: Duration,
    /// Growth ends here.
    cap: Duration,
}

impl Pace {
    /// While no server has ever been reached: quick, because it is probably just being started.
    pub const STARTING: Self = Self {
        base: Duration::from_millis(250),
        cap: Duration::from_secs(3),
    };

    /// With the `retry` of the server, if it set one. It is kept to even beyond the cap of the growth.
    #[must_use]
    pub fn of_retry(retry: Option<Duration>) -> Self {
        Self {
            base: retry.unwrap_or(RETRY_DEFAULT).min(ASKED_MAX),
            cap: PAUSE_MAX,
        }
    }

    /// The wait after `failures` failures in a row before this one; `chance` is evenly spread over 0 to 1.
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
    /// The wait after one more failure, at this pace.
    pub fn next_wait(&mut self, pace: Pace, chance: f64) -> Duration {
        let wait = pace.wait(self.failures, chance);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// A stretch of success: what fails next is a first failure again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(retry_ms: u64) -> Pace {
        Pace::of_retry(Some(Duration::from_millis(retry_ms)))
    }

    /// The longest waits after 0, 1, 2… failures, in milliseconds.
    fn longest<const N: usize>(pace: Pace) -> [u128; N] {
        let mut backoff = Backoff::default();
        std::array::from_fn(|_| backoff.next_wait(pace, 1.0).as_millis())
    }

    #[test]
    fn the_first_wait_is_what_the_server_asked_for() {
        assert_eq!(Pace::of_retry(None).wait(0, 0.7), Duration::from_secs(3));
        assert_eq!(pace(1_234).wait(0, 0.7), Duration::from_millis(1_234));
        assert_eq!(pace(0).wait(0, 0.7), Duration::ZERO);
    }

    #[test]
    fn further_waits_double_up_to_the_cap() {
        assert_eq!(
            longest(Pace::of_retry(None)),
            [3_000, 6_000, 12_000, 24_000, 30_000, 30_000]
        );
        assert_eq!(
            longest(Pace::STARTING),
            [250, 500, 1_000, 2_000, 3_000, 3_000]
        );
        assert_eq!(longest(pace(0)), [0, 500, 1_000, 2_000, 4_000, 8_000]);
    }

    #[test]
    fn chance_takes_any_share_above_the_base() {
        assert_eq!(pace(1_000).wait(2, 0.0).as_millis(), 1_000);
        assert_eq!(pace(1_000).wait(2, 0.5).as_millis(), 2_500);
        assert_eq!(pace(1_000).wait(2, 1.0).as_millis(), 4_000);
        assert_eq!(pace(1_000).wait(u32::MAX, 1.0).as_millis(), 30_000);
    }

    #[test]
    fn a_long_retry_is_kept_to_but_not_an_endless_one() {
        assert_eq!(longest(pace(60_000)), [60_000, 60_000]);
        assert_eq!(
            longest(pace(u64::MAX)),
            [ASKED_MAX.as_millis(), ASKED_MAX.as_millis()]
        );
    }

    #[test]
    fn success_begins_the_count_anew() {
        let mut backoff = Backoff::default();
        backoff.next_wait(pace(1_000), 1.0);
        backoff.next_wait(pace(1_000), 1.0);
        backoff.reset();
        assert_eq!(backoff.next_wait(pace(1_000), 1.0).as_millis(), 1_000);
    }
}
