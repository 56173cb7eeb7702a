//! What a load test collects from each item of a stream: counts, latency, and numbered events.

use std::time::{Duration, Instant, SystemTime};

use super::{
    connection_sequences::ConnectionSequences,
    event_reader::{EventRef, Item},
    publishers::{NumberedEvent, Publishers},
    sequence_tracker::Interruptions,
    stamp::with_stamp,
    stats::{Stats, increment},
};
use crate::decode::gap::parse_gap;

/// What all connections collect together.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) stats: Stats,
    pub(crate) publishers: Publishers,
    pub(crate) rules: CollectorRules,
}

/// What to collect.
#[derive(Debug, Clone, Default)]
pub(crate) struct CollectorRules {
    /// The key of the time at which an event was sent, instead of our own stamp.
    pub(crate) time_field: Option<String>,
    /// Loss is judged, because no filter leaves out numbers.
    pub(crate) judged: bool,
    /// Number of events after which a connection is done.
    pub(crate) count: Option<u64>,
}

/// The events that one connection has received.
#[derive(Debug, Default)]
pub(crate) struct ReceivedEvents {
    pub(crate) events: u64,
    pub(crate) interruptions: Interruptions,
    pub(crate) sequences: ConnectionSequences,
}

impl ReceivedEvents {
    /// Returns `true` if the connection has received all the events that it should.
    pub(crate) fn has_enough(&self, rules: &CollectorRules) -> bool {
        rules.count.is_some_and(|count| self.events >= count)
    }

    /// Collects an item that was read at `now`; `now_us` is the same by the wall clock.
    pub(crate) fn collect_item(
        &mut self,
        item: Item<'_>,
        collector: &mut Collector,
        now: Instant,
        now_us: u64,
    ) {
        match item {
            _ if self.has_enough(&collector.rules) => {}
            Item::Comment(_) => collector.stats.comments += 1,
            Item::Event(event) => match parse_gap(event.kind, event.data) {
                Some(gap) => {
                    self.interruptions.gaps = self.interruptions.gaps.wrapping_add(1);
                    increment(&mut collector.stats.gaps, gap.reason.as_str());
                }
                None => self.collect_event(event, collector, now, now_us),
            },
        }
    }

    fn collect_event(
        &mut self,
        event: EventRef<'_>,
        collector: &mut Collector,
        now: Instant,
        now_us: u64,
    ) {
        let Collector {
            stats,
            publishers,
            rules,
        } = collector;
        self.events += 1;
        stats.count_event(event.kind, event.data.len());
        with_stamp(event.data, rules.time_field.as_deref(), |stamp| {
            if let Some(sent_us) = stamp.sent_us {
                stats.count_latency(sent_us, now_us);
            }
            if let Some((publisher, number)) = stamp.sequenced.filter(|_| rules.judged) {
                let event = NumberedEvent {
                    publisher: &publisher,
                    number,
                    sent_us: stamp.sent_us,
                };
                self.sequences
                    .record(publishers, event, self.interruptions, now);
            }
        });
    }
}

/// Microseconds since the Unix epoch, by this machine's clock.
pub(crate) fn wall_clock_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collector(rules: CollectorRules) -> Collector {
        Collector {
            stats: Stats::new(),
            publishers: Publishers::default(),
            rules,
        }
    }

    fn collect(received: &mut ReceivedEvents, collector: &mut Collector, kind: &str, data: &str) {
        let item = Item::Event(EventRef {
            id: b"",
            kind: kind.as_bytes(),
            data: data.as_bytes(),
        });
        received.collect_item(item, collector, Instant::now(), 1_000);
    }

    #[test]
    fn an_event_is_counted_timed_and_recorded() {
        let (mut received, mut collector) = (
            ReceivedEvents::default(),
            collector(CollectorRules {
                judged: true,
                ..CollectorRules::default()
            }),
        );
        collect(
            &mut received,
            &mut collector,
            "click",
            r#"{"publisher":"p","sequence":3,"sent_us":990}"#,
        );
        collect(&mut received, &mut collector, "click", "plain");
        received.collect_item(Item::Comment(b""), &mut collector, Instant::now(), 1_000);
        let stats = &collector.stats;
        assert_eq!((stats.events, stats.comments, stats.data_bytes), (2, 1, 49));
        assert_eq!(
            (
                stats.latency.quantile_us(1.0),
                collector.publishers.list()[0].highest
            ),
            (10, 3)
        );
    }

    #[test]
    fn a_gap_event_counts_as_a_gap_only_if_it_is_ours() {
        let (mut received, mut collector) = (
            ReceivedEvents::default(),
            collector(CollectorRules::default()),
        );
        let ours = r#"{"channel":"sse","after":"1-0","oldest":"5-0","reason":"trimmed"}"#;
        collect(&mut received, &mut collector, "gap", ours);
        collect(&mut received, &mut collector, "gap", "5 mm");
        assert_eq!(
            (
                collector.stats.gaps["trimmed"],
                received.interruptions.gaps,
                received.events
            ),
            (1, 1, 1)
        );
    }

    #[test]
    fn numbers_behind_a_filter_are_not_recorded() {
        let (mut received, mut collector) = (
            ReceivedEvents::default(),
            collector(CollectorRules::default()),
        );
        collect(
            &mut received,
            &mut collector,
            "click",
            r#"{"publisher":"p","sequence":3,"sent_us":990}"#,
        );
        assert!(collector.publishers.list().is_empty());
    }

    #[test]
    fn events_beyond_the_count_are_ignored() {
        let (mut received, mut collector) = (
            ReceivedEvents::default(),
            collector(CollectorRules {
                count: Some(2),
                ..CollectorRules::default()
            }),
        );
        (0..5).for_each(|_| collect(&mut received, &mut collector, "a", "b"));
        assert_eq!((received.events, collector.stats.events), (2, 2));
    }
}
