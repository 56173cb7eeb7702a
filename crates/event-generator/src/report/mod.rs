//! The figures of a run, and the summary that shows them.
//!
//! Latency is that of acknowledged events, measured from when each was due, not from when it was sent: a server that
//! holds the schedule up cannot hide it (no "coordinated omission"). It includes this program's timer, which may be a
//! millisecond or two late. Without a rate an event is due when it is sent, and the summary says so.

pub(crate) mod failure_log;
mod json;
pub(crate) mod record;
pub(crate) mod status_lines;
pub(crate) mod stderr;

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use hyper::StatusCode;

pub(crate) use self::json::{ReportError, ReportFile, RunSetup};
use crate::{publisher::outcome::Outcome, schedule::Curve};

/// Longer latencies count as this: an hour. With three digits, a histogram up to there takes some 200 KiB.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// The latencies that are shown besides the largest.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Counts what was sent and what became of it.
#[derive(Debug)]
pub(crate) struct Report {
    curve: Curve,
    counts: Counts,
    /// Answers by status. One of a batch counts once.
    statuses: BTreeMap<u16, u64>,
    latency_us: Histogram<u64>,
    /// When the first and the last event were sent.
    sending: Option<(Instant, Instant)>,
    /// Events that were due but not sent when the duration was over.
    pub(crate) unsent: u64,
    /// Failed events about which nothing was printed.
    pub(crate) unreported: u64,
    /// Status lines that were not printed because nobody read stdout fast enough.
    pub(crate) unprinted: u64,
    /// Events of a recording that were left out because of their types.
    pub(crate) skipped: u64,
    /// Requests that were sent again, each time counted.
    pub(crate) sent_again: u64,
}

/// Events by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
}

impl Report {
    /// Nothing sent yet; `curve` is what was asked for.
    pub(crate) fn new(curve: Curve) -> Self {
        Self {
            curve,
            counts: Counts::default(),
            statuses: BTreeMap::new(),
            latency_us: Histogram::new_with_max(LATENCY_US_MAX, 3)
                .expect("within the limits of a histogram"),
            sending: None,
            unsent: 0,
            unreported: 0,
            unprinted: 0,
            skipped: 0,
            sent_again: 0,
        }
    }

    /// Counts an event that is being sent, and gives it its number, from 0.
    pub(crate) fn count_sent(&mut self, now: Instant) -> u64 {
        let sequence = self.counts.sent;
        self.counts.sent += 1;
        let first = self.sending.map_or(now, |(first, _)| first);
        self.sending = Some((first, now));
        sequence
    }

    /// Counts an answer.
    pub(crate) fn count_status(&mut self, status: StatusCode) {
        *self.statuses.entry(status.as_u16()).or_default() += 1;
    }

    /// Counts what became of an event, `latency` after it was due.
    pub(crate) fn count_outcome(&mut self, outcome: &Outcome, latency: Duration) {
        match outcome {
            Outcome::Acknowledged(_) => {
                self.counts.acknowledged += 1;
                self.latency_us
                    .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            }
            Outcome::NotStored(_) => self.counts.failed += 1,
            Outcome::Unknown(_) => self.counts.unknown += 1,
        }
    }

    /// The events so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Something was sent and nothing was acknowledged.
    pub(crate) fn acknowledged_nothing(&self) -> bool {
        self.counts.sent > 0 && self.counts.acknowledged == 0
    }

    /// Events a second between the first and the last, if there were two.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn achieved_rate(&self) -> Option<f64> {
        let span = self.sending_time()?.as_secs_f64();
        (span > 0.0).then(|| (self.counts.sent - 1) as f64 / span)
    }

    /// From the first event to the last.
    fn sending_time(&self) -> Option<Duration> {
        self.sending.map(|(first, last)| last.duration_since(first))
    }

    fn latency_us_at(&self, quantile: f64) -> u64 {
        self.latency_us.value_at_quantile(quantile)
    }
}

/// The summary.
impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counts, curve, .. } = self;
        match self.achieved_rate() {
            Some(achieved) => write!(f, "{counts}\nrate {achieved:.2}/s, asked {curve}")?,
            None => write!(f, "{counts}\nrate -, asked {curve}")?,
        }
        if self.latency_us.is_empty() {
            write!(f, "\nlatency -: nothing was acknowledged")?;
        } else {
            write!(f, "\nlatency ")?;
            for (name, quantile) in QUANTILES {
                write!(f, "{name} {}, ", Milliseconds(self.latency_us_at(quantile)))?;
            }
            write!(f, "max {}", Milliseconds(self.latency_us_at(1.0)))?;
            if *curve == Curve::ClosedLoop {
                write!(
                    f,
                    " (from when each was sent: a closed loop hides what a slow server held up)"
                )?;
            }
        }
        for (count, what) in [
            (
                self.unsent,
                "events were due but not sent: this rate is too high for the server, or for this machine",
            ),
            (self.unreported, "more failures, of the kinds above"),
            (
                self.unprinted,
                "status lines were left out: stdout was not read fast enough",
            ),
            (
                self.skipped,
                "recorded events were left out: the types gap, open and error cannot be published",
            ),
            (self.sent_again, "requests were sent again"),
        ] {
            if count > 0 {
                write!(f, "\n{count} {what}")?;
            }
        }
        Ok(())
    }
}

impl Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            acknowledged,
            failed,
            unknown,
        } = self;
        write!(
            f,
            "sent {sent}, acknowledged {acknowledged}, failed {failed}, unknown {unknown}"
        )
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
    use super::*;
    use crate::{
        publisher::outcome::{Failure, Ids},
        schedule::parse_rate,
    };

    fn report(rate: &str) -> Report {
        Report::new(parse_rate(rate).unwrap())
    }

    #[test]
    fn the_summary_counts_outcomes_and_shows_the_latency_of_the_acknowledged() {
        let mut report = report("10");
        let start = Instant::now();
        for nth in 0..100 {
            report.count_sent(start + nth * Duration::from_millis(125));
            report.count_outcome(
                &Outcome::Acknowledged(Ids::NotReported),
                Duration::from_millis(u64::from(nth) + 1),
            );
        }
        report.count_sent(start + Duration::from_millis(12_500));
        report.count_outcome(
            &Outcome::NotStored(Failure::Stopped),
            Duration::from_secs(99),
        );
        report.count_sent(start + Duration::from_millis(12_500));
        report.count_outcome(&Outcome::Unknown(Failure::Stopped), Duration::from_secs(99));
        assert_eq!(
            report.to_string(),
            "sent 102, acknowledged 100, failed 1, unknown 1\n\
             rate 8.08/s, asked 10/s\n\
             latency p50 50.02 ms, p90 90.05 ms, p99 99.01 ms, p99.9 100.03 ms, max 100.03 ms"
        );
    }

    #[test]
    fn a_run_without_answers_says_so() {
        let mut report = report("0.5");
        assert!(!report.acknowledged_nothing());
        report.count_sent(Instant::now());
        assert!(report.acknowledged_nothing());
        report.unsent = 3;
        assert_eq!(
            report.to_string(),
            "sent 1, acknowledged 0, failed 0, unknown 0\n\
             rate -, asked 0.5/s\n\
             latency -: nothing was acknowledged\n\
             3 events were due but not sent: this rate is too high for the server, or for this machine"
        );
    }

    #[test]
    fn a_closed_loop_is_said_to_be_one() {
        let mut report = report("max");
        report.count_sent(Instant::now());
        report.count_outcome(
            &Outcome::Acknowledged(Ids::NotReported),
            Duration::from_millis(1),
        );
        let summary = report.to_string();
        assert!(
            summary.contains("asked as fast as it goes (closed loop)\n"),
            "{summary}"
        );
        assert!(
            summary.ends_with("hides what a slow server held up)"),
            "{summary}"
        );
    }
}
