//! Metrics of the server, in one registry; `GET /metrics` prints them for Prometheus.
//!
//! Every metric is defined and registered here. The rest of the server reports what happened by a
//! direct call, which changes a few atomic counters and never waits. `docs/operations/metrics.md`
//! describes each metric for operators; a unit test compares that page with this file.

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

/// All metrics of one server; clones share them.
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
    gaps: Family<ReasonLabel, Counter<u64, AtomicU64>>,
    subscribers_behind_tail: Gauge<i64, AtomicI64>,
    subscribers_fell_behind: Counter<u64, AtomicU64>,
    failover_losses: Counter<u64, AtomicU64>,
    gap_records: Counter<u64, AtomicU64>,
    history_page_reads: Counter<u64, AtomicU64>,
    streams_closed: Family<ReasonLabel, Counter<u64, AtomicU64>>,
    access_lines_dropped: Counter<u64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// A change in the life of one stream.
///
/// Each stream reports `Opened` once and `Closed` once. A rejected stream reports `Rejected` first,
/// and the other two only if it gets a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// The stream occupies a connection from now on.
    Opened {
        /// The client sent a last event id.
        resumes: bool,
    },
    /// The stream is one too many.
    Rejected {
        /// What the client got; the value of the label `reason`.
        reason: &'static str,
    },
    /// The client was sent a gap.
    Gap(GapReason),
    /// The stream fell behind the tail and is served from history.
    FellBehind,
    /// The stream is served from the tail again, or it ends.
    CaughtUp,
    /// The stream no longer occupies a connection.
    Closed {
        /// Why the stream ended; the value of the label `reason`. `None` if the stream was
        /// rejected, or was over before its first byte.
        reason: Option<&'static str>,
    },
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers all metrics, with the value zero.
    #[must_use]
    pub fn new() -> Self {
        // Buckets from 0.1 ms to 13 s, and from 1 to 16 384 events.
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
            access_lines_dropped: Counter::default(),
        };
        Self(Arc::new(inner.registered()))
    }

    /// Formats all metrics in the `OpenMetrics` text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }

    /// Counts `events` that were acknowledged to a publisher.
    pub fn published(&self, events: usize, bytes: usize, took: Duration) {
        self.0.events_published.inc_by(events as u64);
        self.0.published.inc_by(bytes as u64);
        self.0.publish_latency.observe(took.as_secs_f64());
    }

    /// Counts `events` that were sent again with a known idempotency key and not stored again.
    pub fn repeated(&self, events: usize) {
        self.0.events_deduplicated.inc_by(events as u64);
    }

    /// Counts a commit batch of `events`.
    pub fn batch_committed(&self, events: usize) {
        self.0
            .commit_batch_events
            .observe(f64::from(u32::try_from(events).unwrap_or(u32::MAX)));
    }

    /// Counts a loss of acknowledged events that this node found in Redis.
    pub fn failover_loss_found(&self) {
        self.0.failover_losses.inc();
    }

    /// Counts a gap record that this node wrote to the log.
    pub fn gap_recorded(&self) {
        self.0.gap_records.inc();
    }

    /// Counts `events` that `GET /events` read.
    pub fn history_read(&self, events: usize) {
        self.0.history_events_read.inc_by(events as u64);
    }

    /// Counts a page of history that was read for streams.
    pub fn page_read(&self) {
        self.0.history_page_reads.inc();
    }

    /// Counts lines of the access log that were dropped.
    pub fn access_lines_dropped(&self, lines: usize) {
        self.0.access_lines_dropped.inc_by(lines as u64);
    }

    /// Counts `events` and `bytes` that were handed to subscribers' connections.
    pub fn delivered(&self, events: usize, bytes: usize) {
        self.0.deliveries.inc_by(events as u64);
        self.0.sent.inc_by(bytes as u64);
    }

    /// Records a change in the life of one stream.
    pub fn record_stream_event(&self, event: StreamEvent) {
        let inner = &*self.0;
        match event {
            StreamEvent::Opened { resumes } => {
                inner.subscribers.inc();
                inner.resumes.inc_by(u64::from(resumes));
            }
            StreamEvent::Rejected { reason } => count_by_reason(&inner.streams_rejected, reason),
            StreamEvent::Gap(reason) => count_by_reason(&inner.gaps, reason.as_str()),
            StreamEvent::FellBehind => {
                inner.subscribers_fell_behind.inc();
                inner.subscribers_behind_tail.inc();
            }
            StreamEvent::CaughtUp => {
                inner.subscribers_behind_tail.dec();
            }
            StreamEvent::Closed { reason } => {
                inner.subscribers.dec();
                if let Some(reason) = reason {
                    count_by_reason(&inner.streams_closed, reason);
                }
            }
        }
    }
}

fn count_by_reason(family: &Family<ReasonLabel, Counter<u64, AtomicU64>>, reason: &'static str) {
    family.get_or_create(&ReasonLabel { reason }).inc();
}

impl Inner {
    fn registered(mut self) -> Self {
        self.register_publishing();
        self.register_streams();
        self
    }

    fn register_publishing(&mut self) {
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
            "Events sent again with a known idempotency key, which were not stored again",
            self.events_deduplicated.clone(),
        );
        registry.register_with_unit(
            "publish_latency",
            "From the complete request to the durable event",
            Unit::Seconds,
            self.publish_latency.clone(),
        );
        registry.register(
            "commit_batch_events",
            "Events that the broker stored in one commit batch",
            self.commit_batch_events.clone(),
        );
    }

    fn register_streams(&mut self) {
        let registry = &mut self.registry;
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
            "Bytes handed to subscribers' connections",
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
            "Gaps sent to subscribers, by reason",
            self.gaps.clone(),
        );
        registry.register(
            "subscribers_behind_tail",
            "Streams served from history now, because they are behind the tail",
            self.subscribers_behind_tail.clone(),
        );
        registry.register(
            "subscribers_fell_behind",
            "Times a stream fell behind the tail",
            self.subscribers_fell_behind.clone(),
        );
        registry.register(
            "failover_losses",
            "Times this node found that Redis has lost acknowledged events",
            self.failover_losses.clone(),
        );
        registry.register(
            "gap_records",
            "Gap records that this node wrote to the log",
            self.gap_records.clone(),
        );
        registry.register(
            "history_page_reads",
            "Pages of history read for streams; one read serves all streams at the same position",
            self.history_page_reads.clone(),
        );
        registry.register(
            "streams_closed",
            "Streams that ended, by reason",
            self.streams_closed.clone(),
        );
        registry.register(
            "access_log_dropped",
            "Lines of the access log that were dropped",
            self.access_lines_dropped.clone(),
        );
    }
}

#[cfg(test)]
mod tests;
