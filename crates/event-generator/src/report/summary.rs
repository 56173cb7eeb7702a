//! The summary of a run: the last lines on stderr.

use std::fmt::{self, Display};

use super::stats::RunStats;
use crate::schedule::Curve;

/// Quantiles of the latency that are shown besides the maximum.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The summary.
impl Display for RunStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts.fmt(f)?;
        self.write_rate(f)?;
        self.write_latency(f)?;
        self.write_notes(f)
    }
}

impl RunStats {
    fn write_rate(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let curve = self.curve;
        match self.achieved_rate() {
            Some(achieved) => write!(f, "\nrate {achieved:.2}/s, asked {curve}"),
            None => write!(f, "\nrate -, asked {curve}"),
        }
    }

    fn write_latency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.latency_us.is_empty() {
            return write!(f, "\nlatency -: nothing was acknowledged");
        }
        self.write_quantiles(f)?;
        if self.curve == Curve::ClosedLoop {
            write!(
                f,
                " (since each was sent: a closed loop hides the delays of a slow server)"
            )?;
        }
        Ok(())
    }

    fn write_quantiles(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\nlatency ")?;
        for (name, quantile) in QUANTILES {
            write!(f, "{name} {}, ", Milliseconds(self.latency_us_at(quantile)))?;
        }
        write!(f, "max {}", Milliseconds(self.latency_us_at(1.0)))
    }

    /// Writes a line for each kind of event that is missing elsewhere.
    fn write_notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, note) in [
            (
                self.unsent,
                "events were due but not sent: the rate is too high for the server or this machine",
            ),
            (self.unreported, "more failures of the kinds above"),
            (
                self.unprinted,
                "status lines were dropped: stdout was not read fast enough",
            ),
            (
                self.skipped,
                "recorded events were skipped: the types gap, open, error, end and notice cannot be published",
            ),
            (self.sent_again, "requests were repeated"),
        ] {
            if count > 0 {
                write!(f, "\n{count} {note}")?;
            }
        }
        Ok(())
    }
}

struct Milliseconds(u64);

impl Display for Milliseconds {
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ms", self.0 as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{
        publisher::{Failure, Ids, Outcome},
        schedule::parse_rate,
    };

    fn stats(rate: &str) -> RunStats {
        RunStats::new(parse_rate(rate).unwrap())
    }

    #[test]
    fn the_summary_counts_outcomes_and_shows_the_latency_of_the_acknowledged() {
        let mut stats = stats("10");
        let start = Instant::now();
        for nth in 0..100 {
            stats.count_sent(start + nth * Duration::from_millis(125));
            stats.count_outcome(
                &Outcome::Acknowledged(Ids::NotReported),
                Duration::from_millis(u64::from(nth) + 1),
            );
        }
        stats.count_sent(start + Duration::from_millis(12_500));
        stats.count_outcome(
            &Outcome::NotStored(Failure::Stopped),
            Duration::from_secs(99),
        );
        stats.count_sent(start + Duration::from_millis(12_500));
        stats.count_outcome(&Outcome::Unknown(Failure::Stopped), Duration::from_secs(99));
        assert_eq!(
            stats.to_string(),
            "sent 102, acknowledged 100, failed 1, unknown 1\n\
             rate 8.08/s, asked 10/s\n\
             latency p50 50.02 ms, p90 90.05 ms, p99 99.01 ms, p99.9 100.03 ms, max 100.03 ms"
        );
    }

    #[test]
    fn the_summary_of_a_run_without_responses_states_that() {
        let mut stats = stats("0.5");
        assert!(!stats.acknowledged_nothing());
        stats.count_sent(Instant::now());
        assert!(stats.acknowledged_nothing());
        stats.unsent = 3;
        assert_eq!(
            stats.to_string(),
            "sent 1, acknowledged 0, failed 0, unknown 0\n\
             rate -, asked 0.5/s\n\
             latency -: nothing was acknowledged\n\
             3 events were due but not sent: the rate is too high for the server or this machine"
        );
    }

    #[test]
    fn the_summary_of_a_closed_loop_states_that() {
        let mut stats = stats("max");
        stats.count_sent(Instant::now());
        stats.count_outcome(
            &Outcome::Acknowledged(Ids::NotReported),
            Duration::from_millis(1),
        );
        let summary = stats.to_string();
        assert!(
            summary.contains("asked as fast as possible (closed loop)\n"),
            "{summary}"
        );
        assert!(
            summary.ends_with("hides the delays of a slow server)"),
            "{summary}"
        );
    }
}
