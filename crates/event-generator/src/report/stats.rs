//! Counters and latencies of a run.
//!
//! Latency is measured for acknowledged events, from when each was due: a server that delays the
//! schedule cannot hide it (no "coordinated omission"). Latency includes the delay of this
//! program's timer. Without a rate, an event is due when it is sent, and the summary states it.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use hyper::StatusCode;

use crate::{publisher::Outcome, schedule::Curve};

/// Longest latency, one hour; a longer one counts as this. With three digits of precision, the
/// histogram takes about 200 KiB.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Counters and latencies of a run.
#[derive(Debug)]
pub(crate) struct RunStats {
    pub(super) curve: Curve,
    pub(super) counts: Counts,
    /// Responses by status. The response to a batch counts once.
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) latency_us: Histogram<u64>,
    /// Times of the first and the last event.
    sending: Option<(Instant, Instant)>,
    /// Events that were due but not sent at the end of the duration.
    pub(crate) unsent: u64,
    /// Failed events that no message has mentioned.
    pub(crate) unreported: u64,
    /// Status lines that were dropped because stdout was not read fast enough.
    pub(crate) unprinted: u64,
    /// Events of a recording that were skipped because their types are reserved.
    pub(crate) skipped: u64,
    /// Retries of all requests.
    pub(crate) sent_again: u64,
}

/// Events by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
}

impl RunStats {
    /// Starts with no events. `curve` is shown in the summary.
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

    /// Counts an event that is being sent.
    pub(crate) fn count_sent(&mut self, now: Instant) {
        self.counts.sent += 1;
        let first = self.sending.map_or(now, |(first, _)| first);
        self.sending = Some((first, now));
    }

    /// Counts a response.
    pub(crate) fn count_status(&mut self, status: StatusCode) {
        *self.statuses.entry(status.as_u16()).or_default() += 1;
    }

    /// Counts the outcome of an event, `latency` after it was due.
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

    /// Returns the events by outcome.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns whether events were sent and none was acknowledged.
    pub(crate) fn acknowledged_nothing(&self) -> bool {
        self.counts.sent > 0 && self.counts.acknowledged == 0
    }

    /// Returns the events per second between the first and the last; `None` with fewer than two
    /// events.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(super) fn achieved_rate(&self) -> Option<f64> {
        let span = self.sending_time()?.as_secs_f64();
        (span > 0.0).then(|| (self.counts.sent - 1) as f64 / span)
    }

    /// Returns the time from the first event to the last.
    pub(super) fn sending_time(&self) -> Option<Duration> {
        self.sending.map(|(first, last)| last.duration_since(first))
    }

    pub(super) fn latency_us_at(&self, quantile: f64) -> u64 {
        self.latency_us.value_at_quantile(quantile)
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
