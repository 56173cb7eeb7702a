//! Metrics of the server, in one registry; `GET /metrics` prints them for Prometheus.
//!
//! Every metric is defined here. The rest of the server reports what happened by a direct call,
//! which changes a few atomic counters and never waits. Every metric exists from the start, also
//! each value of a label, except those of a primary of Redis. `docs/operations/metrics.md` describes each metric for operators; a test
//! compares that page with a fresh server.
//!
//! | file | metrics |
//! |---|---|
//! | `connections` | open and closed connections |
//! | `publishing` | publishing, and rejected requests |
//! | `streams` | streams, and what they read from history |
//! | `flask_sse` | the bridge to Flask-SSE |
//! | `redis` | the primaries of Redis |
//! | `log` | the size of the log, `GET /events`, losses |
//! | `tls` | handshakes and certificates |
//! | `dropped_lines` | lines of the access log and of the audit log |
//! | `process` | CPU, memory and files of the process |
//! | `waiting` | counts what waits |
//! | `latency` | a histogram whose counts can be read |
//! | `busiest` | the channels with the most publishes |
//! | `recent`, `totals` | what the dashboard shows: the last incidents, and metrics as numbers |

mod busiest;
mod connections;
mod dropped_lines;
mod flask_sse;
pub(crate) mod latency;
mod log;
#[cfg(target_os = "linux")]
mod process;
mod publishing;
pub(crate) mod recent;
mod redis;
mod streams;
#[cfg(test)]
mod tests;
mod tls;
pub(crate) mod totals;
mod waiting;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, gauge::Gauge, info::Info},
    registry::Registry,
};
use sse_proto::api::GapReason;

pub(crate) use self::flask_sse::{FlaskResult, FlaskState};
pub(crate) use self::redis::ShardMetrics;
pub(crate) use self::waiting::Waiting;
use self::{
    busiest::Busiest, connections::ConnectionMetrics, dropped_lines::DroppedLines,
    flask_sse::FlaskMetrics, latency::LatencyHistogram, log::LogMetrics,
    publishing::PublishingMetrics, recent::Recent, redis::RedisMetrics, streams::StreamMetrics,
    tls::TlsMetrics,
};
pub use self::{log::LogSize, tls::HandshakeResult};
use crate::log_writer::dropped_lines;

/// A number that only grows.
type Count = Counter<u64, AtomicU64>;
/// A number that grows and shrinks.
pub(crate) type Level = Gauge<i64, AtomicI64>;

/// All metrics of one server; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    connections: ConnectionMetrics,
    publishing: PublishingMetrics,
    streams: StreamMetrics,
    log: LogMetrics,
    tls: TlsMetrics,
    flask_sse: FlaskMetrics,
    redis: RedisMetrics,
    dropped_lines: DroppedLines,
    latency: LatencyHistogram,
    recent: Recent,
    busiest: Busiest,
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
        let (connections, publishing, streams, log, tls, dropped_lines) = Default::default();
        let mut inner = Inner {
            registry: Registry::default(),
            connections,
            publishing,
            streams,
            log,
            tls,
            flask_sse: FlaskMetrics::default(),
            redis: RedisMetrics::default(),
            dropped_lines,
            latency: LatencyHistogram::default(),
            recent: Recent::default(),
            busiest: Busiest::default(),
        };
        inner.register();
        Self(Arc::new(inner))
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
        self.0.publishing.record_published(events, bytes, took);
    }

    /// Counts `events` that were sent again with a known idempotency key and not stored again.
    pub fn deduplicated(&self, events: usize) {
        self.0.publishing.record_deduplicated(events);
    }

    /// Counts a commit batch of `events`.
    pub fn batch_committed(&self, events: usize) {
        self.0.publishing.record_batch(events);
    }

    /// Counts memory that the body of a request has claimed.
    pub fn body_memory_claimed(&self, bytes: usize) {
        self.0.publishing.add_body_memory(bytes);
    }

    /// Counts memory that the body of a request has released.
    pub fn body_memory_released(&self, bytes: usize) {
        self.0.publishing.subtract_body_memory(bytes);
    }

    /// Creates the counters of requests that are rejected with one of these codes.
    pub fn create_rejection_codes(&self, codes: impl IntoIterator<Item = &'static str>) {
        for code in codes {
            drop(self.0.publishing.rejected(code));
        }
    }

    /// Counts a request that was rejected with `code`.
    pub fn request_rejected(&self, code: &'static str) {
        self.0.publishing.rejected(code).inc();
    }

    /// Creates the counters of these limits of one caller.
    pub fn create_limits(&self, limits: impl IntoIterator<Item = &'static str>) {
        for limit in limits {
            drop(self.0.publishing.rate_limited(limit));
        }
    }

    /// Counts a request or a stream that exceeded a limit of one caller.
    pub fn rate_limited(&self, limit: &'static str) {
        self.0.publishing.rate_limited(limit).inc();
    }

    /// Counts `events` that `GET /events` read.
    pub fn history_read(&self, events: usize) {
        self.0.log.record_history_read(events);
    }

    /// Counts `events` that a search read.
    pub fn searched(&self, events: usize) {
        self.0.log.record_searched(events);
    }

    /// Returns the number of publishes that wait for the embedded log, for the log to change.
    pub(crate) fn publishes_waiting(&self) -> Level {
        self.0.publishing.waiting()
    }

    /// Returns the number of searches that wait for their turn, for their limits to change.
    pub(crate) fn searches_waiting(&self) -> Level {
        self.0.log.searches_waiting()
    }

    /// Returns the number of reads of pages that wait for their turn, for their cache to change.
    pub(crate) fn page_reads_waiting(&self) -> Level {
        self.0.streams.page_reads_waiting()
    }

    /// Counts memory that a response of `GET /events` uses.
    pub fn history_memory_claimed(&self, bytes: usize) {
        self.0.log.add_history_memory(bytes);
    }

    /// Counts memory that a response of `GET /events` has released.
    pub fn history_memory_released(&self, bytes: usize) {
        self.0.log.subtract_history_memory(bytes);
    }

    /// Sets how much the log holds.
    pub fn set_log_size(&self, size: LogSize) {
        self.0.log.set_size(size);
    }

    /// Returns the memory of all tails, for their owner to change.
    pub(crate) fn tails_bytes(&self) -> Level {
        self.0.streams.tails_bytes()
    }

    /// Counts a tail that was cut because all tails took too much memory.
    pub fn tail_cut(&self) {
        self.0.streams.record_tail_cut();
    }

    /// Sets how much the streams hold whose connections are full.
    pub fn set_blocked_bytes(&self, bytes: usize) {
        self.0.streams.set_blocked_bytes(bytes);
    }

    /// Counts a page of history that was read for streams.
    pub fn page_read(&self) {
        self.0.streams.record_page_read();
    }

    /// Counts `events` and `bytes` that were handed to subscribers' connections.
    pub fn delivered(&self, events: usize, bytes: usize) {
        self.0.streams.record_delivery(events, bytes);
    }

    /// Creates the counters of streams that are rejected or closed for one of these reasons.
    pub fn create_stream_reasons(
        &self,
        rejected: impl IntoIterator<Item = &'static str>,
        closed: impl IntoIterator<Item = &'static str>,
    ) {
        self.0.streams.create_reasons(rejected, closed);
    }

    /// Records a change in the life of one stream.
    pub fn record_stream_event(&self, event: StreamEvent) {
        self.0.streams.record(event);
    }
}

impl Inner {
    fn register(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("sse");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "Version of the server", Info::new(version));
        self.connections.register(registry);
        self.publishing.register(registry);
        self.streams.register(registry);
        self.log.register(registry);
        self.tls.register(registry);
        self.flask_sse.register(registry);
        self.redis.register(registry);
        self.latency.register(registry);
        registry.register(
            "log_dropped",
            "Lines of the log that were dropped",
            dropped_lines(),
        );
        self.dropped_lines.register(registry);
        #[cfg(target_os = "linux")]
        self.registry
            .register_collector(Box::new(process::ProcessCollector));
    }
}
