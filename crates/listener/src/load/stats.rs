//! Counters of a run, and histograms of durations.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

/// One hour; longer durations count as this. With three digits, such a histogram takes about 200
/// KiB.
const TIME_US_MAX: u64 = 3_600_000_000;
/// Limit of event types, and of kinds of rejections, that are counted separately.
const KINDS_MAX: usize = 64;

/// What all connections of a run count.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) connects: ConnectStats,
    pub(crate) ends: EndStats,
    /// From the start of a connect to the first byte of the response.
    pub(crate) first_byte: DurationHistogram,
    /// From the start of a connect to the open stream.
    pub(crate) open: DurationHistogram,
    /// From a cut by `--cut-every` to the next open stream.
    pub(crate) back_after_cut: DurationHistogram,
    /// From any other end of a stream to the next open stream.
    pub(crate) back_after_end: DurationHistogram,
    /// From the time in an event's stamp to the receipt of the event.
    pub(crate) latency: DurationHistogram,
    /// Events with a stamp later than their receipt, because clocks differ.
    pub(crate) from_the_future: u64,
    pub(crate) events: u64,
    pub(crate) types: EventTypeCounts,
    pub(crate) comments: u64,
    /// All bytes that were read.
    pub(crate) wire_bytes: u64,
    /// Bytes of event data.
    pub(crate) data_bytes: u64,
    /// Gaps that the server announced, by reason.
    pub(crate) gaps: BTreeMap<&'static str, u64>,
    /// When the first and the last event were received.
    pub(crate) receiving: Option<(Instant, Instant)>,
}

/// Counters of connects.
#[derive(Debug, Default)]
pub(crate) struct ConnectStats {
    /// Attempts to connect.
    pub(crate) asked: u64,
    /// Streams that opened.
    pub(crate) opened: u64,
    /// Connections that had a stream at least once.
    pub(crate) ever_open: u64,
    /// Streams that reopened with a last event id.
    pub(crate) resumed: u64,
    /// Streams that reopened without a last event id.
    pub(crate) reopened_without_id: u64,
    /// Attempts without a response, by kind of error.
    pub(crate) failed: BTreeMap<&'static str, u64>,
    pub(crate) rejections: Rejections,
    /// Responses with status 204.
    pub(crate) no_content: u64,
}

/// Counters of ended streams.
#[derive(Debug, Default)]
pub(crate) struct EndStats {
    /// Ended properly by the server.
    pub(crate) by_server: u64,
    /// Cut by `--cut-every`.
    pub(crate) cut: u64,
    /// Broken, by kind of error.
    pub(crate) broken: BTreeMap<&'static str, u64>,
}

/// Responses that were not a stream, by kind.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    kinds: Vec<RejectionCount>,
    /// Responses of kinds beyond [`KINDS_MAX`].
    pub(crate) unlisted: u64,
}

/// Number of rejections of one kind.
#[derive(Debug)]
pub(crate) struct RejectionCount {
    pub(crate) kind: String,
    pub(crate) count: u64,
    /// The message in the first rejection; may be empty.
    pub(crate) message: String,
}

/// Number of events per type.
#[derive(Debug, Default)]
pub(crate) struct EventTypeCounts {
    known: Vec<(Box<[u8]>, u64)>,
    /// Index of the type counted last. The next event is mostly of the same type.
    last: usize,
    /// Events of types beyond [`KINDS_MAX`].
    pub(crate) other: u64,
}

/// Durations of one kind.
#[derive(Debug)]
pub(crate) struct DurationHistogram(Histogram<u64>);

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            connects: ConnectStats::default(),
            ends: EndStats::default(),
            first_byte: DurationHistogram::new(),
            open: DurationHistogram::new(),
            back_after_cut: DurationHistogram::new(),
            back_after_end: DurationHistogram::new(),
            latency: DurationHistogram::new(),
            from_the_future: 0,
            events: 0,
            types: EventTypeCounts::default(),
            comments: 0,
            wire_bytes: 0,
            data_bytes: 0,
            gaps: BTreeMap::new(),
            receiving: None,
        }
    }

    /// Counts an event.
    pub(crate) fn count_event(&mut self, kind: &[u8], data_bytes: usize) {
        self.events += 1;
        self.data_bytes += data_bytes as u64;
        self.types.count_event(kind);
    }

    /// Counts the latency of an event with a stamp.
    pub(crate) fn count_latency(&mut self, sent_us: u64, received_us: u64) {
        match received_us.checked_sub(sent_us) {
            Some(latency_us) => self.latency.record_us(latency_us),
            None => self.from_the_future += 1,
        }
    }
}

impl Rejections {
    /// Counts a rejection. Returns `true` for the first of its kind, whose message should be read.
    pub(crate) fn count_rejection(&mut self, kind: &str) -> bool {
        if let Some(known) = self.kinds.iter_mut().find(|known| known.kind == kind) {
            known.count += 1;
        } else if self.kinds.len() == KINDS_MAX {
            self.unlisted += 1;
        } else {
            self.kinds.push(RejectionCount {
                kind: kind.to_owned(),
                count: 1,
                message: String::new(),
            });
            return true;
        }
        false
    }

    /// Sets the message of a kind.
    pub(crate) fn set_message(&mut self, kind: &str, message: String) {
        if let Some(known) = self.kinds.iter_mut().find(|known| known.kind == kind) {
            known.message = message;
        }
    }

    /// The rejections per kind.
    pub(crate) fn list(&self) -> &[RejectionCount] {
        &self.kinds
    }

    /// Number of rejections of all kinds.
    pub(crate) fn total(&self) -> u64 {
        self.unlisted + self.kinds.iter().map(|kind| kind.count).sum::<u64>()
    }
}

impl EventTypeCounts {
    /// Counts an event of a type.
    pub(crate) fn count_event(&mut self, kind: &[u8]) {
        match self.known.get_mut(self.last) {
            Some((last, count)) if **last == *kind => *count += 1,
            _ => self.count_other(kind),
        }
    }

    fn count_other(&mut self, kind: &[u8]) {
        if let Some(at) = self.known.iter().position(|(known, _)| **known == *kind) {
            self.known[at].1 += 1;
            self.last = at;
        } else if self.known.len() == KINDS_MAX {
            self.other += 1;
        } else {
            self.last = self.known.len();
            self.known.push((kind.into(), 1));
        }
    }

    /// The types and their counts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (String, u64)> {
        self.known
            .iter()
            .map(|(kind, count)| (String::from_utf8_lossy(kind).into_owned(), *count))
    }
}

impl DurationHistogram {
    fn new() -> Self {
        Self(Histogram::new_with_max(TIME_US_MAX, 3).expect("within the limits of a histogram"))
    }

    /// Records a duration.
    pub(crate) fn record(&mut self, time: Duration) {
        self.record_us(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    fn record_us(&mut self, time_us: u64) {
        self.0.saturating_record(time_us);
    }

    /// Number of durations.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration, in microseconds, that this share of the durations does not exceed.
    pub(crate) fn quantile_us(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    /// The mean in microseconds.
    pub(crate) fn mean_us(&self) -> f64 {
        self.0.mean()
    }
}

/// Adds one to the count of a kind.
pub(crate) fn increment(kinds: &mut BTreeMap<&'static str, u64>, kind: &'static str) {
    *kinds.entry(kind).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_beyond_the_limit_are_counted_together() {
        let mut types = EventTypeCounts::default();
        for nth in 0..KINDS_MAX + 2 {
            types.count_event(nth.to_string().as_bytes());
        }
        for kind in ["3", "3", "0", "new"] {
            types.count_event(kind.as_bytes());
        }
        let count = |kind: &str| {
            types
                .iter()
                .find(|(known, _)| known == kind)
                .map(|(_, count)| count)
        };
        assert_eq!(
            (count("3"), count("0"), count("new"), types.other),
            (Some(3), Some(2), None, 3)
        );
    }

    #[test]
    fn only_the_first_rejection_of_a_kind_is_reported_as_new() {
        let mut rejections = Rejections::default();
        assert_eq!(
            ["503", "404", "503"].map(|kind| rejections.count_rejection(kind)),
            [true, true, false]
        );
        rejections.set_message("503", "busy".to_owned());
        let first = &rejections.list()[0];
        assert_eq!(
            (
                first.kind.as_str(),
                first.count,
                first.message.as_str(),
                rejections.total()
            ),
            ("503", 2, "busy", 3)
        );
        for nth in 0..100 {
            let is_new = rejections.count_rejection(&format!("kind {nth}"));
            assert_eq!(is_new, nth < KINDS_MAX - 2);
        }
        assert_eq!((rejections.unlisted, rejections.total()), (38, 103));
    }

    #[test]
    fn a_stamp_in_the_future_is_no_latency() {
        let mut stats = Stats::new();
        stats.count_latency(10, 15);
        stats.count_latency(15, 10);
        stats.count_latency(0, u64::MAX);
        assert_eq!((stats.latency.count(), stats.from_the_future), (2, 1));
        assert_eq!(stats.latency.quantile_us(0.5), 5);
    }
}
