//! Events per second: a constant rate, a ramp, or as many as the server accepts.
//!
//! A curve is known by its integral and the inverse of its integral. The integral is the number of
//! events that are due before a time; the inverse is the time at which an event is due.

use std::{fmt, str::FromStr, time::Duration};

use sse_proto::units;

/// Events per second: positive, finite, at most [`Rate::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Rate(f64);

impl Rate {
    /// Highest rate.
    pub(crate) const MAX: f64 = 1_000_000.0;
}

/// Rate over the time of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Curve {
    /// A constant rate.
    Steady(Rate),
    /// The rate changes linearly and then stays.
    Ramp {
        /// Rate at the start.
        from: Rate,
        /// Rate at the end of `over`, and after it.
        to: Rate,
        /// Length of the change; more than zero.
        over: Duration,
    },
    /// No schedule: an event is due when a connection is free.
    ClosedLoop,
}

impl Curve {
    /// Returns the highest rate that the curve reaches; `None` without a schedule.
    pub(crate) fn peak_rate(&self) -> Option<f64> {
        match self {
            Self::Steady(rate) => Some(rate.0),
            Self::Ramp { from, to, .. } => Some(from.0.max(to.0)),
            Self::ClosedLoop => None,
        }
    }

    /// Returns the number of events that are due before `time`; `None` without a schedule.
    pub(crate) fn events_before(&self, time: Duration) -> Option<f64> {
        let time = time.as_secs_f64();
        match self {
            Self::Steady(rate) => Some(rate.0 * time),
            Self::Ramp { from, to, over } => {
                let over = over.as_secs_f64();
                let ramped = time.min(over);
                let slope = (to.0 - from.0) / over;
                Some(from.0.mul_add(ramped, slope * ramped * ramped / 2.0) + to.0 * (time - ramped))
            }
            Self::ClosedLoop => None,
        }
    }

    /// Returns the time at which `position` events are due: the inverse of
    /// [`events_before`](Self::events_before).
    ///
    /// For a ramp from `a` to `b` in `d` seconds, with the slope `s = (b - a) / d`, the number of
    /// events before `t` ≤ `d` is `n = a·t + s·t²/2`. Its inverse is `t = 2n / (a + √(a² + 2sn))`.
    pub(crate) fn due_time(&self, position: f64) -> Option<Duration> {
        let seconds = match self {
            Self::Steady(rate) => position / rate.0,
            Self::Ramp { from, to, over } => {
                let over = over.as_secs_f64();
                let on_ramp = f64::midpoint(from.0, to.0) * over;
                if position >= on_ramp {
                    over + (position - on_ramp) / to.0
                } else {
                    let slope = (to.0 - from.0) / over;
                    // This form does not subtract two nearly equal numbers.
                    2.0 * position
                        / (from.0 + (from.0 * from.0 + 2.0 * slope * position).max(0.0).sqrt())
                }
            }
            Self::ClosedLoop => return None,
        };
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let rate: f64 = text.parse().map_err(|_| InvalidRate)?;
        // NaN is in no range.
        if rate > 0.0 && (..=Self::MAX).contains(&rate) {
            Ok(Self(rate))
        } else {
            Err(InvalidRate)
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Formats the curve as on the command line.
impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steady(rate) => write!(f, "{rate}/s"),
            Self::Ramp { from, to, over } => write!(f, "{from}..{to}/s in {over:?}"),
            Self::ClosedLoop => f.write_str("as fast as possible (closed loop)"),
        }
    }
}

/// The text is no [`Rate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a rate is a number of events per second, more than 0 and at most 1000000, or the word max"
)]
pub(crate) struct InvalidRate;

/// Parses the value of `--rate`: a number, or `max`.
pub(crate) fn parse_rate(text: &str) -> Result<Curve, InvalidRate> {
    if text == "max" {
        Ok(Curve::ClosedLoop)
    } else {
        text.parse().map(Curve::Steady)
    }
}

/// Parses the value of `--ramp`, like `10..1000/60s`.
pub(crate) fn parse_ramp(text: &str) -> Result<Curve, String> {
    let shape = || "a ramp is two rates and a duration, like 10..1000/60s".to_owned();
    let (rates, over) = text.rsplit_once('/').ok_or_else(shape)?;
    let (from, to) = rates.split_once("..").ok_or_else(shape)?;
    let rate = |text: &str| text.parse::<Rate>().map_err(|error| error.to_string());
    Ok(Curve::Ramp {
        from: rate(from)?,
        to: rate(to)?,
        over: units::parse_positive_duration(over)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(curve: &Curve, position: f64) -> f64 {
        curve.due_time(position).unwrap().as_secs_f64()
    }

    #[test]
    fn a_ramp_changes_linearly_and_then_stays() {
        let ramp = parse_ramp("10..1000/60s").unwrap();
        // The area under the ramp: 505 per second on average for a minute, then 1000 per second.
        assert_eq!(ramp.events_before(Duration::from_mins(1)), Some(30_300.0));
        assert_eq!(ramp.events_before(Duration::from_secs(61)), Some(31_300.0));
        assert!((seconds(&ramp, 0.0)).abs() < 1e-9);
        assert!((seconds(&ramp, 30_300.0) - 60.0).abs() < 1e-9);
        assert!((seconds(&ramp, 32_300.0) - 62.0).abs() < 1e-9);
        assert_eq!(ramp.to_string(), "10..1000/s in 60s");
    }

    #[test]
    fn a_ramp_is_two_rates_and_a_duration() {
        for bad in [
            "",
            "10",
            "10..20",
            "10/60s",
            "0..10/60s",
            "10..2000000/60s",
            "10..20/0s",
            "10..20/60",
            "1..2..3/1s",
        ] {
            assert!(parse_ramp(bad).is_err(), "{bad:?}");
        }
        assert!(parse_ramp("1000..0.5/1m").is_ok());
    }

    #[test]
    fn a_rate_is_positive_finite_and_bounded() {
        for good in ["1", "0.5", "1e3", "1000000"] {
            assert!(good.parse::<Rate>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "0",
            "-1",
            "-0",
            "nan",
            "inf",
            "-inf",
            "1000000.1",
            "1/s",
            " 1",
        ] {
            assert_eq!(bad.parse::<Rate>(), Err(InvalidRate), "{bad:?}");
        }
        assert_eq!(parse_rate("max"), Ok(Curve::ClosedLoop));
    }

    #[test]
    fn the_slowest_rate_does_not_overflow() {
        assert_eq!(
            parse_rate("1e-300").unwrap().due_time(1.0),
            Some(Duration::MAX)
        );
    }

    proptest! {
        #[test]
        fn the_time_of_an_event_is_the_inverse_of_the_events_before_it(
            from in 0.1f64..1e6, to in 0.1f64..1e6, over in 1u64..600, share in 0.0f64..3.0
        ) {
            let over = Duration::from_secs(over);
            let ramp = Curve::Ramp { from: Rate(from), to: Rate(to), over };
            let time = over.mul_f64(share);
            let events = ramp.events_before(time).unwrap();
            let back = seconds(&ramp, events);
            prop_assert!((back - time.as_secs_f64()).abs() < 1e-6 * over.as_secs_f64().max(1.0), "{back} {time:?}");
        }

        #[test]
        fn a_later_event_is_never_due_earlier(from in 0.1f64..1e6, to in 0.1f64..1e6, position in 0.0f64..1e7) {
            let ramp = Curve::Ramp { from: Rate(from), to: Rate(to), over: Duration::from_secs(7) };
            prop_assert!(ramp.due_time(position) <= ramp.due_time(position + 1.0));
        }
    }
}
