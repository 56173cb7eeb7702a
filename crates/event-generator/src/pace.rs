//! When to send: event n is due n / rate after the start, whatever became of the events before it.
//!
//! Pure: the caller says how much time has passed, and sleeps. So a slow answer cannot move the schedule, and what is
//! sent late can be measured from when it was due.

use std::{fmt, str::FromStr, time::Duration};

/// Once the duration is over, an event that is more than this late is given up.
///
/// Without it, a run against a server that is too slow would go on until its backlog is gone; much less would lose the
/// last events of a duration to a timer or a machine that is a little late.
const LATE_MAX: Duration = Duration::from_secs(1);

/// Events a second: positive, finite, at most [`Rate::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Rate(f64);

impl Rate {
    /// The highest rate that may be asked for.
    pub(crate) const MAX: f64 = 1_000_000.0;

    /// Events a second.
    pub(crate) fn per_second(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let rate: f64 = text.parse().map_err(|_| InvalidRate)?;
        // NaN is in no range.
        if rate > 0.0 && (..=Self::MAX).contains(&rate) { Ok(Self(rate)) } else { Err(InvalidRate) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a [`Rate`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number of events a second, more than 0 and at most 1000000, like 0.5 or 200")]
pub(crate) struct InvalidRate;

/// The schedule of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    rate: Rate,
    count: Option<u64>,
    duration: Option<Duration>,
}

/// What the schedule says next, at a time since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The event is due then.
    Send(Duration),
    /// No more events; the run has lasted long enough then.
    End(Duration),
    /// The duration is over with too many events still due.
    GiveUp {
        /// About how many.
        unsent: u64,
    },
}

impl Pace {
    /// A schedule that ends after `count` events or after `duration`, whichever comes first, or else never.
    pub(crate) fn new(rate: Rate, count: Option<u64>, duration: Option<Duration>) -> Self {
        Self { rate, count, duration }
    }

    /// What to do after `sent` events, when `elapsed` has passed since the start.
    pub(crate) fn next(&self, sent: u64, elapsed: Duration) -> Next {
        if self.count.is_some_and(|count| sent >= count) {
            return Next::End(Duration::ZERO);
        }
        let due = self.due(sent);
        match self.duration {
            Some(end) if due >= end => Next::End(end),
            Some(end) if elapsed >= end && elapsed.saturating_sub(due) > LATE_MAX => {
                Next::GiveUp { unsent: self.events_before(end).saturating_sub(sent) }
            }
            _ => Next::Send(due),
        }
    }

    /// How many events are due before `end`, give or take one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and `as` saturates at numbers that no run reaches"
    )]
    fn events_before(&self, end: Duration) -> u64 {
        let events = (end.as_secs_f64() * self.rate.0).ceil() as u64;
        self.count.map_or(events, |count| events.min(count))
    }

    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 events: 285 years at the highest rate")]
    fn due(&self, sequence: u64) -> Duration {
        Duration::try_from_secs_f64(sequence as f64 / self.rate.0).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn pace(rate: &str, count: Option<u64>, duration: Option<Duration>) -> Pace {
        Pace::new(rate.parse().unwrap(), count, duration)
    }

    #[test]
    fn each_event_is_due_by_its_number_however_late_it_is() {
        let pace = pace("10", None, None);
        for elapsed in [0, 250, 60_000] {
            let due: Vec<Next> = (0..4).map(|sent| pace.next(sent, MS(elapsed))).collect();
            assert_eq!(due, [0, 100, 200, 300].map(|ms| Next::Send(MS(ms))));
        }
    }

    #[test]
    fn the_schedule_does_not_drift() {
        let pace = pace("3", None, None);
        assert_eq!(pace.next(3_000_000, Duration::ZERO), Next::Send(Duration::from_secs(1_000_000)));
        let slow = super::tests::pace("0.5", None, None);
        assert_eq!(slow.next(3, Duration::ZERO), Next::Send(Duration::from_secs(6)));
    }

    #[test]
    fn a_count_ends_at_once_after_its_last_event() {
        let pace = pace("1", Some(2), None);
        assert_eq!(pace.next(1, Duration::ZERO), Next::Send(MS(1000)));
        assert_eq!(pace.next(2, MS(1000)), Next::End(Duration::ZERO));
    }

    #[test]
    fn a_duration_holds_the_events_that_are_due_before_its_end() {
        let pace = pace("10", None, Some(MS(1000)));
        assert_eq!(pace.next(9, MS(0)), Next::Send(MS(900)));
        assert_eq!(pace.next(10, MS(900)), Next::End(MS(1000)));
    }

    #[test]
    fn a_backlog_is_given_up_at_the_end_but_the_last_events_are_not() {
        let pace = pace("1000", None, Some(MS(5000)));
        assert_eq!(pace.next(5, MS(4999)), Next::Send(MS(5)));
        assert_eq!(pace.next(5, MS(5000)), Next::GiveUp { unsent: 4995 });
        assert_eq!(pace.next(4999, MS(5002)), Next::Send(MS(4999)));
        assert_eq!(pace.next(4999, MS(6000)), Next::GiveUp { unsent: 1 });
        let counted = super::tests::pace("1000", Some(100), Some(MS(5000)));
        assert_eq!(counted.next(5, MS(5000)), Next::GiveUp { unsent: 95 });
    }

    #[test]
    fn the_slowest_rate_does_not_overflow() {
        assert_eq!(pace("1e-300", None, None).next(1, MS(0)), Next::Send(Duration::MAX));
    }

    #[test]
    fn a_rate_is_positive_finite_and_bounded() {
        for good in ["1", "0.5", "1e3", "1000000"] {
            assert!(good.parse::<Rate>().is_ok(), "{good}");
        }
        for bad in ["", "0", "-1", "-0", "nan", "inf", "-inf", "1000000.1", "1/s", " 1"] {
            assert_eq!(bad.parse::<Rate>(), Err(InvalidRate), "{bad:?}");
        }
    }
}
