//! When each event is due: at a time that depends on its number alone, not on the events before it.
//!
//! Pure: the caller passes the elapsed time, and sleeps. A slow response cannot move the schedule, and
//! the delay of a late event is measured from when the event was due. Without a rate (`--rate max`)
//! there is no schedule: an event is due as soon as it can be sent, and the report states it.

mod arrivals;
mod rate;

use std::time::Duration;

pub(crate) use self::{
    arrivals::{Arrivals, Spread},
    rate::{Curve, parse_ramp, parse_rate},
};

/// After the end of the duration, an event that is later than this is given up.
///
/// Without this limit, a run against a server that is too slow would continue until its backlog is
/// sent. A much smaller limit would drop the last events if a timer or the machine is a little
/// late.
const LATE_MAX: Duration = Duration::from_secs(1);

/// Limits of a run. The first that is reached ends the run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// Number of events.
    pub(crate) count: Option<u64>,
    /// Time since the start.
    pub(crate) duration: Option<Duration>,
}

/// The schedule of a run.
#[derive(Debug)]
pub(crate) struct Schedule {
    curve: Curve,
    arrivals: Arrivals,
    limits: Limits,
    sent: u64,
}

/// The next step of a run. Times are since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// An event is due at this time.
    Send(Duration),
    /// No more events are due. The run ends at this time.
    End(Duration),
    /// The duration is over, and the events that are still due are given up.
    GiveUp {
        /// Approximate number of events that were due and not sent.
        unsent: u64,
    },
}

impl Schedule {
    /// Starts before the first event.
    pub(crate) fn new(curve: Curve, arrivals: Arrivals, limits: Limits) -> Self {
        Self {
            curve,
            arrivals,
            limits,
            sent: 0,
        }
    }

    /// Returns the next step when `elapsed` has passed since the start.
    pub(crate) fn next_step(&self, elapsed: Duration) -> NextStep {
        if self.limits.count.is_some_and(|count| self.sent >= count) {
            return NextStep::End(Duration::ZERO);
        }
        // Without a schedule an event is due now, and never late.
        let due = self
            .curve
            .due_time(self.arrivals.position())
            .unwrap_or(elapsed);
        match self.limits.duration {
            Some(end) if due >= end => NextStep::End(end),
            Some(end) if elapsed >= end && elapsed.saturating_sub(due) > LATE_MAX => {
                NextStep::GiveUp {
                    unsent: self.total().unwrap_or(0).saturating_sub(self.sent),
                }
            }
            _ => NextStep::Send(due),
        }
    }

    /// Moves to the next event, after one was sent.
    pub(crate) fn advance(&mut self) {
        self.sent += 1;
        self.arrivals.advance();
    }

    /// Returns when the run ends, even if events are still due; `None` without a duration.
    pub(crate) fn end_time(&self) -> Option<Duration> {
        self.limits.duration
    }

    /// Returns the approximate number of events of the run; `None` if the run has no end, or if the
    /// end cannot be predicted.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and `as` saturates at numbers that no run reaches"
    )]
    pub(crate) fn total(&self) -> Option<u64> {
        let due = self
            .limits
            .duration
            .and_then(|end| self.curve.events_before(end))
            .map(|events| events.ceil() as u64);
        self.limits.count.into_iter().chain(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn limited(rate: &str, count: Option<u64>, duration: Option<Duration>) -> Schedule {
        let arrivals = Arrivals::new(Spread::Constant, None);
        Schedule::new(
            parse_rate(rate).unwrap(),
            arrivals,
            Limits { count, duration },
        )
    }

    fn after(mut schedule: Schedule, sent: u64) -> Schedule {
        (0..sent).for_each(|_| schedule.advance());
        schedule
    }

    #[test]
    fn an_event_is_due_by_its_number_however_late_it_is() {
        for elapsed in [0, 250, 60_000] {
            let due = |sent| after(limited("10", None, None), sent).next_step(MS(elapsed));
            assert_eq!(
                [0, 1, 2, 3].map(due),
                [0, 100, 200, 300].map(|ms| NextStep::Send(MS(ms)))
            );
        }
    }

    #[test]
    fn the_schedule_does_not_drift() {
        let schedule = after(limited("3", None, None), 3_000_000);
        assert_eq!(
            schedule.next_step(Duration::ZERO),
            NextStep::Send(Duration::from_secs(1_000_000))
        );
        assert_eq!(
            after(limited("0.5", None, None), 3).next_step(Duration::ZERO),
            NextStep::Send(Duration::from_secs(6))
        );
    }

    #[test]
    fn a_count_ends_at_once_after_its_last_event() {
        let schedule = limited("1", Some(2), None);
        assert_eq!(schedule.total(), Some(2));
        let schedule = after(schedule, 1);
        assert_eq!(schedule.next_step(Duration::ZERO), NextStep::Send(MS(1000)));
        assert_eq!(
            after(schedule, 1).next_step(MS(1000)),
            NextStep::End(Duration::ZERO)
        );
    }

    #[test]
    fn a_duration_contains_the_events_that_are_due_before_its_end() {
        let schedule = after(limited("10", None, Some(MS(1000))), 9);
        assert_eq!(
            (schedule.total(), schedule.next_step(MS(0))),
            (Some(10), NextStep::Send(MS(900)))
        );
        assert_eq!(
            after(schedule, 1).next_step(MS(900)),
            NextStep::End(MS(1000))
        );
    }

    #[test]
    fn a_backlog_is_given_up_at_the_end_but_the_last_events_are_not() {
        let schedule = after(limited("1000", None, Some(MS(5000))), 5);
        assert_eq!(schedule.next_step(MS(4999)), NextStep::Send(MS(5)));
        assert_eq!(
            schedule.next_step(MS(5000)),
            NextStep::GiveUp { unsent: 4995 }
        );
        let schedule = after(schedule, 4994);
        assert_eq!(schedule.next_step(MS(5002)), NextStep::Send(MS(4999)));
        assert_eq!(schedule.next_step(MS(6000)), NextStep::GiveUp { unsent: 1 });
        let counted = after(limited("1000", Some(100), Some(MS(5000))), 5);
        assert_eq!(counted.next_step(MS(5000)), NextStep::GiveUp { unsent: 95 });
    }

    #[test]
    fn without_a_rate_an_event_is_due_now_until_the_run_is_over() {
        let schedule = after(limited("max", Some(9), Some(MS(1000))), 8);
        assert_eq!(schedule.next_step(MS(999)), NextStep::Send(MS(999)));
        assert_eq!(schedule.next_step(MS(1000)), NextStep::End(MS(1000)));
        assert_eq!(
            after(schedule, 1).next_step(MS(5)),
            NextStep::End(Duration::ZERO)
        );
    }

    #[test]
    fn independent_arrivals_follow_the_rate_of_a_ramp() {
        let ramp = parse_ramp("100..1000/10s").unwrap();
        let mut schedule = Schedule::new(
            ramp,
            Arrivals::new(Spread::Poisson, Some(3)),
            Limits::default(),
        );
        let (mut sent, mut last) = (0u32, Duration::ZERO);
        while let NextStep::Send(due) = schedule.next_step(MS(0))
            && due < Duration::from_secs(20)
        {
            assert!(due >= last);
            last = due;
            sent += 1;
            schedule.advance();
        }
        // 5 500 on the ramp and 10 000 after it; four standard deviations of a Poisson count are
        // 500.
        assert!((15_000..16_000).contains(&sent), "{sent}");
    }
}
