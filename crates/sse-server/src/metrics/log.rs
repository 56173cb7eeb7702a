//! Metrics of the log: its size, what is read from it, and what it has lost.

use prometheus_client::registry::{Registry, Unit};

use super::{Count, Level, Metrics};

/// How much the log holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LogSize {
    /// Number of channels.
    pub channels: usize,
    /// Number of events that are kept.
    pub events: u64,
    /// What these events count towards `--history-bytes`; in Redis, the memory of their streams.
    pub bytes: u64,
    /// Number of idempotency keys, of which some may have expired.
    pub keys: u64,
}

/// The metrics.
#[derive(Debug, Default)]
pub(super) struct LogMetrics {
    channels: Level,
    events: Level,
    bytes: Level,
    keys: Level,
    history_events_read: Count,
    searched: Count,
    searches_waiting: Level,
    history_memory: Level,
    failover_losses: Count,
    gap_records: Count,
    followed_channels: Level,
    redis_lookups_waiting: Level,
    redis_reads_waiting: Level,
}

impl LogMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        self.register_size(registry);
        registry.register(
            "history_events_read",
            "Events read by GET /events",
            self.history_events_read.clone(),
        );
        self.register_searches(registry);
        registry.register_with_unit(
            "history_memory",
            "Memory of the responses of GET /events that clients are reading",
            Unit::Bytes,
            self.history_memory.clone(),
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
            "followed_channels",
            "Channels that this node follows in Redis",
            self.followed_channels.clone(),
        );
        self.register_redis_queues(registry);
    }

    fn register_redis_queues(&self, registry: &mut Registry) {
        registry.register(
            "redis_lookups_waiting",
            "Channels whose newest id waits to be looked up in Redis",
            self.redis_lookups_waiting.clone(),
        );
        registry.register(
            "redis_reads_waiting",
            "Reads of events that wait for their turn at Redis",
            self.redis_reads_waiting.clone(),
        );
    }

    fn register_searches(&self, registry: &mut Registry) {
        registry.register(
            "events_searched",
            "Events that searches read, wanted or not",
            self.searched.clone(),
        );
        registry.register(
            "searches_waiting",
            "Searches that wait for their turn to read a page",
            self.searches_waiting.clone(),
        );
    }

    fn register_size(&self, registry: &mut Registry) {
        registry.register(
            "channels",
            "Channels in the log, with or without subscribers",
            self.channels.clone(),
        );
        registry.register("log_events", "Events kept in the log", self.events.clone());
        registry.register(
            "idempotency_keys",
            "Idempotency keys in the log, of all channels",
            self.keys.clone(),
        );
        registry.register_with_unit(
            "log",
            "What the events kept in the log occupy",
            Unit::Bytes,
            self.bytes.clone(),
        );
    }

    pub(super) fn set_size(&self, size: LogSize) {
        let level = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.channels.set(level(size.channels as u64));
        self.events.set(level(size.events));
        self.bytes.set(level(size.bytes));
        self.keys.set(level(size.keys));
    }

    pub(super) fn size(&self) -> LogSize {
        let count = |level: &Level| u64::try_from(level.get()).unwrap_or(0);
        LogSize {
            channels: usize::try_from(self.channels.get()).unwrap_or(0),
            events: count(&self.events),
            bytes: count(&self.bytes),
            keys: count(&self.keys),
        }
    }

    pub(super) fn history_memory(&self) -> i64 {
        self.history_memory.get()
    }

    pub(super) fn record_history_read(&self, events: usize) {
        self.history_events_read.inc_by(events as u64);
    }

    pub(super) fn record_searched(&self, events: usize) {
        self.searched.inc_by(events as u64);
    }

    pub(super) fn searches_waiting(&self) -> Level {
        self.searches_waiting.clone()
    }

    pub(super) fn add_history_memory(&self, bytes: usize) {
        self.history_memory
            .inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn subtract_history_memory(&self, bytes: usize) {
        self.history_memory
            .dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn record_failover_loss(&self) {
        self.failover_losses.inc();
    }

    pub(super) fn add_followed(&self, channels: i64) {
        self.followed_channels.inc_by(channels);
    }

    pub(super) fn redis_lookups_waiting(&self) -> Level {
        self.redis_lookups_waiting.clone()
    }

    pub(super) fn redis_reads_waiting(&self) -> Level {
        self.redis_reads_waiting.clone()
    }

    pub(super) fn record_gap_record(&self) {
        self.gap_records.inc();
    }
}

impl Metrics {
    /// Counts a loss of acknowledged events that this node found in Redis.
    pub fn failover_loss_found(&self) {
        self.0.log.record_failover_loss();
    }

    /// Counts a gap record that this node wrote to the log.
    pub fn gap_recorded(&self) {
        self.0.log.record_gap_record();
    }

    /// Counts a channel that this node has begun to follow in Redis.
    pub fn channel_followed(&self) {
        self.0.log.add_followed(1);
    }

    /// Counts a channel that this node no longer follows in Redis.
    pub fn channel_unfollowed(&self) {
        self.0.log.add_followed(-1);
    }

    /// Returns the number of channels whose newest id waits to be looked up, for their queue to
    /// change.
    pub(crate) fn redis_lookups_waiting(&self) -> Level {
        self.0.log.redis_lookups_waiting()
    }

    /// Returns the number of reads that wait for their turn at Redis, for their gate to change.
    pub(crate) fn redis_reads_waiting(&self) -> Level {
        self.0.log.redis_reads_waiting()
    }
}
