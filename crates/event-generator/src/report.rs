//! The figures of a run, and the summary that shows them.
//!
//! Latency is that of acknowledged events, measured from when each was due, not from when it was sent: a server that
//! holds the schedule up cannot hide it (no "coordinated omission"). It includes this program's timer, which may be a
//! millisecond or two late.

use std::{
    fmt::{self, Display},
    io::Write as _,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::{outcome::Outcome, pace::Rate};

/// Longer latencies count as this: an hour. With three digits, a histogram up to there takes some 200 KiB.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Counts what was sent and what became of it.
#[derive(Debug)]
pub(crate) struct Report {
    rate: Rate,
    sent: u64,
    acknowledged: u64,
    failed: u64,
    unknown: u64,
    latency_us: Histogram<u64>,
    /// When the first and the last event were sent.
    sending: Option<(Instant, Instant)>,
    /// Events that were due but not sent when the duration was over.
    pub(crate) unsent: u64,
    /// Failed events about which nothing was printed.
    pub(crate) untold: u64,
    /// Status lines that were not printed because nobody read stdout fast enough.
    pub(crate) unprinted: u64,
}

impl Report {
    /// Nothing sent yet; `rate` is what was asked for.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            sent: 0,
            acknowledged: 0,
            failed: 0,
            unknown: 0,
            latency_us: Histogram::new_with_max(LATENCY_US_MAX, 3).expect("within the limits of a histogram"),
            sending: None,
            unsent: 0,
            untold: 0,
            unprinted: 0,
        }
    }

    /// Counts an event that is being sent, and gives it its number, from 0.
    pub(crate) fn count_sent(&mut self, now: Instant) -> u64 {
        let sequence = self.sent;
        self.sent += 1;
        let first = self.sending.map_or(now, |(first, _)| first);
        self.sending = Some((first, now));
        sequence
    }

    /// Counts what became of an event, `latency` after it was due.
    pub(crate) fn count_outcome(&mut self, outcome: &Outcome, latency: Duration) {
        match outcome {
            Outcome::Acknowledged(_) => {
                self.acknowledged += 1;
                self.latency_us.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            }
            Outcome::Refused(_) => self.failed += 1,
            Outcome::Unknown(_) => self.unknown += 1,
        }
    }

    /// How many events were sent, those included that found no server.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Something was sent and nothing was acknowledged.
    pub(crate) fn is_in_vain(&self) -> bool {
        self.sent > 0 && self.acknowledged == 0
    }

    /// Events a second between the first and the last, if there were two.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn achieved_rate(&self) -> Option<f64> {
        let (first, last) = self.sending?;
        let span = last.duration_since(first).as_secs_f64();
        (span > 0.0).then(|| (self.sent - 1) as f64 / span)
    }

    fn latency_at(&self, quantile: f64) -> Milliseconds {
        Milliseconds(self.latency_us.value_at_quantile(quantile))
    }
}

/// The summary.
impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, acknowledged, failed, unknown, rate, .. } = self;
        writeln!(f, "sent {sent}, acknowledged {acknowledged}, failed {failed}, unknown {unknown}")?;
        match self.achieved_rate() {
            Some(achieved) => write!(f, "rate {achieved:.2}/s, asked {rate}/s")?,
            None => write!(f, "rate -, asked {rate}/s")?,
        }
        if self.latency_us.is_empty() {
            write!(f, "\nlatency -: nothing was acknowledged")?;
        } else {
            for (name, quantile) in [("\nlatency p50", 0.5), (", p90", 0.9), (", p99", 0.99), (", p99.9", 0.999)] {
                write!(f, "{name} {}", self.latency_at(quantile))?;
            }
            write!(f, ", max {}", self.latency_at(1.0))?;
        }
        for (count, what) in [
            (self.unsent, "events were due but not sent: this rate is too high for the server, or for this machine"),
            (self.untold, "more failures, of the kinds above"),
            (self.unprinted, "status lines were left out: stdout was not read fast enough"),
        ] {
            if count > 0 {
                write!(f, "\n{count} {what}")?;
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

/// Writes a line to stderr. If nobody reads it any more, nobody misses it.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use sse_proto::EventId;

    use super::*;
    use crate::outcome::Failure;

    #[test]
    fn the_summary_counts_outcomes_and_shows_the_latency_of_the_acknowledged() {
        let mut report = Report::new("10".parse().unwrap());
        let start = Instant::now();
        for nth in 0..100 {
            report.count_sent(start + nth * Duration::from_millis(125));
            report.count_outcome(&Outcome::Acknowledged(EventId::ZERO), Duration::from_millis(u64::from(nth) + 1));
        }
        report.count_sent(start + Duration::from_millis(12_500));
        report.count_outcome(&Outcome::Refused(Failure::Stopped), Duration::from_secs(99));
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
        let mut report = Report::new("0.5".parse().unwrap());
        assert!(!report.is_in_vain());
        report.count_sent(Instant::now());
        assert!(report.is_in_vain());
        report.unsent = 3;
        assert_eq!(
            report.to_string(),
            "sent 1, acknowledged 0, failed 0, unknown 0\n\
             rate -, asked 0.5/s\n\
             latency -: nothing was acknowledged\n\
             3 events were due but not sent: this rate is too high for the server, or for this machine"
        );
    }
}
