//! Everything that is counted while the engine runs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

/// Longer times count as this: an hour. With three digits, a histogram up to there takes some 200 KiB.
const TIME_US_MAX: u64 = 3_600_000_000;
/// EventTypeCounts of events, and kinds of rejections, that are told apart.
const KINDS_MAX: usize = 64;

/// The figures of a run.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) connects: ConnectStats,
    pub(crate) ends: EndStats,
    /// From the start of a connect to the first byte of the answer, and to the stream being open.
    pub(crate) first_byte: DurationHistogram,
    pub(crate) open: DurationHistogram,
    /// From a cut of ours, or from any other end, until the connection streams again.
    pub(crate) back_after_cut: DurationHistogram,
    pub(crate) back_after_end: DurationHistogram,
    /// From the time that an event carries to its receipt.
    pub(crate) latency: DurationHistogram,
    /// Events that carry a time that is yet to come: clocks differ.
    pub(crate) from_the_future: u64,
    pub(crate) events: u64,
    pub(crate) types: EventTypeCounts,
    pub(crate) comments: u64,
    /// Bytes that were read, and those of events' data.
    pub(crate) wire_bytes: u64,
    pub(crate) data_bytes: u64,
    /// Gaps that the server told, by their reason.
    pub(crate) gaps: BTreeMap<&'static str, u64>,
    /// When the first and the last event came.
    pub(crate) receiving: Option<(Instant, Instant)>,
}

/// How connections were made.
#[derive(Debug, Default)]
pub(crate) struct ConnectStats {
    /// Attempts.
    pub(crate) asked: u64,
    /// Streams that opened.
    pub(crate) opened: u64,
    /// Connections that had a stream at least once.
    pub(crate) ever_open: u64,
    /// Streams that opened after one that was lost: with a last event id, and without.
    pub(crate) resumed: u64,
    pub(crate) reopened_without_id: u64,
    /// Attempts that led to no answer, by kind.
    pub(crate) failed: BTreeMap<&'static str, u64>,
    pub(crate) rejections: Rejections,
    /// Answers 204.
    pub(crate) no_content: u64,
}

/// How streams ended.
#[derive(Debug, Default)]
pub(crate) struct EndStats {
    /// In good order, by the server.
    pub(crate) by_server: u64,
    /// By us, on purpose.
    pub(crate) cut: u64,
    /// Otherwise, by kind.
    pub(crate) broken: BTreeMap<&'static str, u64>,
}

/// Answers that were no stream.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    kinds: Vec<RejectionCount>,
    /// Answers of kinds for which there was no room.
    pub(crate) unlisted: u64,
}

/// Answers of one kind.
#[derive(Debug)]
pub(crate) struct RejectionCount {
    pub(crate) kind: String,
    pub(crate) count: u64,
    /// What the server said with the first; may be empty.
    pub(crate) message: String,
}

/// Events by type.
#[derive(Debug, Default)]
pub(crate) struct EventTypeCounts {
    known: Vec<(Box<[u8]>, u64)>,
    /// Where the last event was counted.
    last: usize,
    /// Events of types for which there was no room.
    pub(crate) other: u64,
}

/// DurationHistogram of one sort.
#[derive(Debug)]
pub(crate) struct DurationHistogram(Histogram<u64>);

impl Stats {
    /// Nothing yet.
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

    /// Counts an event that carried the time at which it was sent.
    pub(crate) fn count_latency(&mut self, sent_us: u64, received_us: u64) {
        match received_us.checked_sub(sent_us) {
            Some(latency_us) => self.latency.add_us(latency_us),
            None => self.from_the_future += 1,
        }
    }
}

impl Rejections {
    /// Counts an answer. True if it is the first of its kind, so that what the server says with it is worth reading.
    pub(crate) fn count(&mut self, kind: &str) -> bool {
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

    /// What the server said with an answer of this kind.
    pub(crate) fn set_message(&mut self, kind: &str, message: String) {
        if let Some(known) = self.kinds.iter_mut().find(|known| known.kind == kind) {
            known.message = message;
        }
    }

    /// All kinds.
    pub(crate) fn list(&self) -> &[RejectionCount] {
        &self.kinds
    }

    /// All answers.
    pub(crate) fn total(&self) -> u64 {
        self.unlisted + self.kinds.iter().map(|refused| refused.count).sum::<u64>()
    }
}

impl EventTypeCounts {
    /// Counts an event.
    pub(crate) fn count(&mut self, kind: &[u8]) {
        match self.known.get_mut(self.last) {
            Some((last, count)) if **last == *kind => *count += 1,
            _ => self.count_another(kind),
        }
    }

    fn count_another(&mut self, kind: &[u8]) {
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

    /// All types and their counts.
    pub(crate) fn list(&self) -> impl Iterator<Item = (String, u64)> {
        self.known
            .iter()
            .map(|(kind, count)| (String::from_utf8_lossy(kind).into_owned(), *count))
    }
}

impl DurationHistogram {
    fn new() -> Self {
        Self(Histogram::new_with_max(TIME_US_MAX, 3).expect("within the limits of a histogram"))
    }

    /// Adds a time.
    pub(crate) fn add(&mut self, time: Duration) {
        self.add_us(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    fn add_us(&mut self, time_us: u64) {
        self.0.saturating_record(time_us);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time, in microseconds, that this share of them does not exceed.
    pub(crate) fn quantile_us(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    /// Their mean in microseconds.
    pub(crate) fn mean_us(&self) -> f64 {
        self.0.mean()
    }
}

/// Counts one more of a kind.
pub(crate) fn increment(kinds: &mut BTreeMap<&'static str, u64>, kind: &'static str) {
    *kinds.entry(kind).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_counted_and_too_many_are_other() {
        let mut types = EventTypeCounts::default();
        for nth in 0..KINDS_MAX + 2 {
            types.count(nth.to_string().as_bytes());
        }
        for kind in ["3", "3", "0", "new"] {
            types.count(kind.as_bytes());
        }
        let count = |kind: &str| {
            types
                .list()
                .find(|(known, _)| known == kind)
                .map(|(_, count)| count)
        };
        assert_eq!(
            (count("3"), count("0"), count("new"), types.other),
            (Some(3), Some(2), None, 3)
        );
    }

    #[test]
    fn the_first_refusal_of_a_kind_is_told() {
        let mut rejections = Rejections::default();
        assert_eq!(
            ["503", "404", "503"].map(|kind| rejections.count(kind)),
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
        (0..100).for_each(|nth| {
            assert_eq!(
                rejections.count(&format!("kind {nth}")),
                nth < KINDS_MAX - 2
            )
        });
        assert_eq!((rejections.unlisted, rejections.total()), (38, 103));
    }

    #[test]
    fn a_time_that_is_yet_to_come_is_no_latency() {
        let mut stats = Stats::new();
        stats.count_latency(10, 15);
        stats.count_latency(15, 10);
        stats.count_latency(0, u64::MAX);
        assert_eq!((stats.latency.count(), stats.from_the_future), (2, 1));
        assert_eq!(stats.latency.quantile_us(0.5), 5);
    }
}
