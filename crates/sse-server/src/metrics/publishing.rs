//! Metrics of publishing, and of requests that are rejected.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Count, Level, Metrics};

/// The metrics.
#[derive(Debug)]
pub(super) struct PublishingMetrics {
    events: Count,
    bytes: Count,
    deduplicated: Count,
    latency: Histogram,
    commit_batch_events: Histogram,
    rejected: Family<CodeLabel, Count>,
    rate_limited: Family<LimitLabel, Count>,
    body_memory: Level,
    waiting: Level,
    streaming: Level,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

impl Default for PublishingMetrics {
    fn default() -> Self {
        Self {
            events: Count::default(),
            bytes: Count::default(),
            deduplicated: Count::default(),
            // Buckets from 0.1 ms to 13 s.
            latency: Histogram::new((0..18).map(|power| 0.0001 * f64::from(1 << power))),
            // Buckets from 1 to 16 384 events.
            commit_batch_events: Histogram::new((0..15).map(|power| f64::from(1 << power))),
            rejected: Family::default(),
            rate_limited: Family::default(),
            body_memory: Level::default(),
            waiting: Level::default(),
            streaming: Level::default(),
        }
    }
}

impl PublishingMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "events_published",
            "Events acknowledged to publishers",
            self.events.clone(),
        );
        registry.register_with_unit(
            "published",
            "Data of the events acknowledged to publishers",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register_with_unit(
            "publish_memory",
            "Memory that bodies of requests use",
            Unit::Bytes,
            self.body_memory.clone(),
        );
        registry.register(
            "events_deduplicated",
            "Events sent again with a known idempotency key, which were not stored again",
            self.deduplicated.clone(),
        );
        registry.register_with_unit(
            "publish_latency",
            "From the complete request to the durable event",
            Unit::Seconds,
            self.latency.clone(),
        );
        registry.register(
            "commit_batch_events",
            "Events that the broker stored in one commit batch",
            self.commit_batch_events.clone(),
        );
        registry.register(
            "publishes_waiting",
            "Publishes that wait for the embedded log to store them",
            self.waiting.clone(),
        );
        registry.register(
            "streaming_publishes",
            "Open streaming publishes",
            self.streaming.clone(),
        );
        registry.register(
            "requests_rejected",
            "Requests answered with an error, by its code",
            self.rejected.clone(),
        );
        registry.register(
            "rate_limited",
            "Requests and streams that exceeded a limit of one caller, by the limit",
            self.rate_limited.clone(),
        );
    }

    pub(super) fn record_published(&self, events: usize, bytes: usize, took: Duration) {
        self.events.inc_by(events as u64);
        self.bytes.inc_by(bytes as u64);
        self.latency.observe(took.as_secs_f64());
    }

    pub(super) fn events(&self) -> u64 {
        self.events.get()
    }

    pub(super) fn body_memory(&self) -> i64 {
        self.body_memory.get()
    }

    pub(super) fn add_body_memory(&self, bytes: usize) {
        self.body_memory
            .inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn subtract_body_memory(&self, bytes: usize) {
        self.body_memory
            .dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn waiting(&self) -> Level {
        self.waiting.clone()
    }

    pub(super) fn record_deduplicated(&self, events: usize) {
        self.deduplicated.inc_by(events as u64);
    }

    pub(super) fn record_batch(&self, events: usize) {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        self.commit_batch_events.observe(f64::from(events));
    }

    /// Returns how often `limit` was exceeded.
    pub(super) fn rate_limited(&self, limit: &'static str) -> Count {
        self.rate_limited.get_or_create_owned(&LimitLabel { limit })
    }

    /// Returns the number of requests that were rejected with `code`.
    pub(super) fn rejected(&self, code: &'static str) -> Count {
        self.rejected.get_or_create_owned(&CodeLabel { code })
    }
}

impl Metrics {
    /// Returns the number of open streaming publishes, for their owners to change.
    pub(crate) fn streaming_publishes(&self) -> &Level {
        &self.0.publishing.streaming
    }
}
