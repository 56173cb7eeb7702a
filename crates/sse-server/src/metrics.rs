//! Every number that the server counts, named in one place; `GET /metrics` prints them for Prometheus.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use sse_proto::api::GapReason;

/// The counters; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    events_published: Counter<u64, AtomicU64>,
    published: Counter<u64, AtomicU64>,
    events_deduplicated: Counter<u64, AtomicU64>,
    publish_latency: Histogram,
    commit_batch_events: Histogram,
    subscribers: Gauge<i64, AtomicI64>,
    streams_rejected: Family<ReasonLabel, Counter<u64, AtomicU64>>,
    deliveries: Counter<u64, AtomicU64>,
    sent: Counter<u64, AtomicU64>,
    history_events_read: Counter<u64, AtomicU64>,
    resumes: Counter<u64, AtomicU64>,
    gaps: Family<GapLabels, Counter<u64, AtomicU64>>,
    subscribers_behind_tail: Gauge<i64, AtomicI64>,
    subscribers_fell_behind: Counter<u64, AtomicU64>,
    failover_losses: Counter<u64, AtomicU64>,
    gap_records: Counter<u64, AtomicU64>,
    history_page_reads: Counter<u64, AtomicU64>,
    streams_closed: Family<ReasonLabel, Counter<u64, AtomicU64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GapLabels {
    reason: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        // From a tenth of a millisecond to 13 s; from 1 to 16 384 events.
        let publish_latency = Histogram::new((0..18).map(|power| 0.0001 * f64::from(1 << power)));
        let commit_batch_events = Histogram::new((0..15).map(|power| f64::from(1 << power)));
        let inner = Inner {
            registry: Registry::with_prefix("sse"),
            events_published: Counter::default(),
            published: Counter::default(),
            events_deduplicated: Counter::default(),
            publish_latency,
            commit_batch_events,
            subscribers: Gauge::default(),
            streams_rejected: Family::default(),
            deliveries: Counter::default(),
            sent: Counter::default(),
            history_events_read: Counter::default(),
            resumes: Counter::default(),
            gaps: Family::default(),
            subscribers_behind_tail: Gauge::default(),
            subscribers_fell_behind: Counter::default(),
            failover_losses: Counter::default(),
            gap_records: Counter::default(),
            history_page_reads: Counter::default(),
            streams_closed: Family::default(),
        };
        Self(Arc::new(inner.registered()))
    }

    /// The Prometheus text format (OpenMetrics).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into memory that grows cannot fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }

    /// Events were acknowledged to a publisher.
    pub fn published(&self, events: usize, bytes: usize, took: Duration) {
        self.0.events_published.inc_by(events as u64);
        self.0.published.inc_by(bytes as u64);
        self.0.publish_latency.observe(took.as_secs_f64());
    }

    /// Events came again with a key that was known, and were not stored again.
    pub fn repeated(&self, events: usize) {
        self.0.events_deduplicated.inc_by(events as u64);
    }

    /// The broker stored a group of events as one.
    pub fn batch_committed(&self, events: usize) {
        self.0
            .commit_batch_events
            .observe(f64::from(u32::try_from(events).unwrap_or(u32::MAX)));
    }

    /// Redis was found to have lost acknowledged events.
    pub fn failover_loss_found(&self) {
        self.0.failover_losses.inc();
    }

    /// This node has recorded in a channel that events were lost.
    pub fn gap_recorded(&self) {
        self.0.gap_records.inc();
    }

    /// Events were read as plain history.
    pub fn history_read(&self, events: usize) {
        self.0.history_events_read.inc_by(events as u64);
    }

    /// A page of history was read for streams.
    pub fn page_read(&self) {
        self.0.history_page_reads.inc();
    }

    /// Something was handed to subscribers' connections.
    pub fn delivered(&self, events: usize, bytes: usize) {
        self.0.deliveries.inc_by(events as u64);
        self.0.sent.inc_by(bytes as u64);
    }

    /// A stream ended.
    pub fn closed(&self, reason: &'static str) {
        self.0
            .streams_closed
            .get_or_create(&ReasonLabel { reason })
            .inc();
    }

    /// A subscriber came, and `max` are welcome.
    #[must_use]
    pub fn subscriber(&self, resumes: bool, max: usize) -> Admission {
        let before = usize::try_from(self.0.subscribers.inc()).unwrap_or(0);
        let guard = SubscriberGuard {
            metrics: Some(self.clone()),
            behind: false,
        };
        if before < max {
            if resumes {
                self.0.resumes.inc();
            }
            return Admission::Admitted(guard);
        }
        // Those that are being turned away count as well.
        let (reason, admission) = if before < max.saturating_add(max.div_ceil(10)) {
            ("limit", Admission::TurnedAway(guard))
        } else {
            ("dropped", Admission::Refused)
        };
        let reason = ReasonLabel { reason };
        self.0.streams_rejected.get_or_create(&reason).inc();
        admission
    }
}

/// Whether there is room for one more subscriber.
#[derive(Debug)]
pub enum Admission {
    /// There is. It is counted until the guard is dropped.
    Admitted(SubscriberGuard),
    /// There is not, which can be told it. It is counted until the guard is dropped.
    TurnedAway(SubscriberGuard),
    /// So many are being told that already that there is no time for it.
    Refused,
}

impl Inner {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "events_published",
            "Events acknowledged to publishers",
            self.events_published.clone(),
        );
        registry.register_with_unit(
            "published",
            "Data of the events acknowledged to publishers",
            Unit::Bytes,
            self.published.clone(),
        );
        registry.register(
            "events_deduplicated",
            "Events that came again with a known key, and were answered with their first id",
            self.events_deduplicated.clone(),
        );
        registry.register_with_unit(
            "publish_latency",
            "From the whole request to the event being durable",
            Unit::Seconds,
            self.publish_latency.clone(),
        );
        registry.register(
            "commit_batch_events",
            "Events that the broker stored as one group",
            self.commit_batch_events.clone(),
        );
        registry.register("subscribers", "Open streams", self.subscribers.clone());
        registry.register(
            "streams_rejected",
            "Streams beyond the limit, by what the client got",
            self.streams_rejected.clone(),
        );
        registry.register(
            "deliveries",
            "Events handed to subscribers' connections",
            self.deliveries.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Handed to subscribers' connections",
            Unit::Bytes,
            self.sent.clone(),
        );
        registry.register(
            "history_events_read",
            "Events read by GET /events",
            self.history_events_read.clone(),
        );
        registry.register(
            "resumes",
            "Streams that began with a last event id",
            self.resumes.clone(),
        );
        registry.register(
            "gaps",
            "Gaps told to subscribers, by reason",
            self.gaps.clone(),
        );
        registry.register(
            "subscribers_behind_tail",
            "Streams that are served from history now, because they fell behind the tail",
            self.subscribers_behind_tail.clone(),
        );
        registry.register(
            "subscribers_fell_behind",
            "Times that a stream fell behind the tail",
            self.subscribers_fell_behind.clone(),
        );
        registry.register(
            "failover_losses",
            "Times that Redis was found to have lost acknowledged events",
            self.failover_losses.clone(),
        );
        registry.register(
            "gap_records",
            "Gap records that this node wrote to the log",
            self.gap_records.clone(),
        );
        registry.register(
            "history_page_reads",
            "Pages of history that were read from the log for streams; one serves all that stand at the same place",
            self.history_page_reads.clone(),
        );
        registry.register(
            "streams_closed",
            "Streams that ended, by reason",
            self.streams_closed.clone(),
        );
        self
    }
}

/// Counts one subscriber while it lives.
#[derive(Debug)]
pub struct SubscriberGuard {
    /// None once another guard counts the subscriber.
    metrics: Option<Metrics>,
    behind: bool,
}

impl SubscriberGuard {
    /// The guard that counts the subscriber from now on, in place of this one.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self {
            metrics: self.metrics.take(),
            behind: std::mem::take(&mut self.behind),
        }
    }

    /// Something was handed to a subscriber's connection.
    pub fn delivered(&self, events: usize, bytes: usize) {
        if let Some(metrics) = &self.metrics {
            metrics.delivered(events, bytes);
        }
    }

    /// A subscriber was told of a gap.
    pub fn gap(&self, reason: GapReason) {
        if let Some(metrics) = &self.metrics {
            metrics
                .0
                .gaps
                .get_or_create(&GapLabels {
                    reason: reason.as_str().to_owned(),
                })
                .inc();
        }
    }

    /// The stream has ended.
    pub fn closed(&self, reason: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.closed(reason);
        }
    }

    /// Says whether the subscriber is behind the tail.
    pub fn behind(&mut self, behind: bool) {
        if behind == self.behind {
            return;
        }
        self.behind = behind;
        if let Some(metrics) = &self.metrics {
            if behind {
                metrics.0.subscribers_fell_behind.inc();
                metrics.0.subscribers_behind_tail.inc();
            } else {
                metrics.0.subscribers_behind_tail.dec();
            }
        }
    }
}

impl Drop for SubscriberGuard {
    fn drop(&mut self) {
        self.behind(false);
        if let Some(metrics) = &self.metrics {
            metrics.0.subscribers.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_subscribers_are_turned_away_and_a_tenth_beyond_that_refused() {
        let metrics = Metrics::new();
        let (mut admitted, mut turned_away) = (Vec::new(), Vec::new());
        let refused = loop {
            match metrics.subscriber(false, 20) {
                Admission::Admitted(guard) => admitted.push(guard),
                Admission::TurnedAway(guard) => turned_away.push(guard),
                refused @ Admission::Refused => break refused,
            }
        };
        assert!(matches!(refused, Admission::Refused));
        assert_eq!((admitted.len(), turned_away.len()), (20, 2));
        // One that was taken over by another guard counts once.
        let moved = admitted[0].take();
        drop((turned_away, admitted.drain(..1).collect::<Vec<_>>()));
        assert!(matches!(
            metrics.subscriber(false, 20),
            Admission::TurnedAway(_)
        ));
        drop(moved);
        assert!(matches!(
            metrics.subscriber(false, 20),
            Admission::Admitted(_)
        ));
    }

    #[test]
    fn the_metrics_page_lists_every_metric() {
        let page = include_str!("../../../docs/operations/metrics.md");
        let text = Metrics::new().render();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        assert!(names.len() > 10, "{text}");
        for name in names {
            assert!(
                page.contains(name),
                "docs/operations/metrics.md does not list {name}"
            );
        }
    }
}
