//! Metrics of the primaries of Redis: one, or those of a Redis Cluster.
//!
//! A primary has its metrics for as long as the node uses it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{Count, Level, Metrics};

type Seconds = Gauge<f64, AtomicU64>;

/// The metrics, per primary.
#[derive(Debug, Default, Clone)]
pub(super) struct RedisMetrics {
    up: Family<ShardLabel, Level>,
    round_trip: Family<ShardLabel, Seconds>,
    notifications: Family<ShardLabel, Count>,
    moved: Family<ShardLabel, Count>,
    asked: Family<ShardLabel, Count>,
    unverified: Family<ShardLabel, Level>,
    /// How many values of [`ShardMetrics`] each primary has. A primary that gets slots again may have
    /// another one before the first is dropped.
    users: Arc<Mutex<HashMap<ShardLabel, usize>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabel {
    shard: String,
}

impl RedisMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "redis_up",
            "1 if commands can be sent to the primary",
            self.up.clone(),
        );
        registry.register_with_unit(
            "redis_round_trip",
            "Time of the last check of the primary",
            Unit::Seconds,
            self.round_trip.clone(),
        );
        registry.register(
            "redis_notifications",
            "Notifications that the primary has sent to this node",
            self.notifications.clone(),
        );
        registry.register(
            "redis_moved",
            "Commands that the primary has rejected because another one owns the slot",
            self.moved.clone(),
        );
        registry.register(
            "redis_asked",
            "Commands that the primary has sent elsewhere or delayed while a slot moves",
            self.asked.clone(),
        );
        registry.register(
            "redis_unverified_ids",
            "Ids that are still to be verified at the primary",
            self.unverified.clone(),
        );
    }

    fn users(&self) -> MutexGuard<'_, HashMap<ShardLabel, usize>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, label: &ShardLabel) {
        self.up.remove(label);
        self.round_trip.remove(label);
        self.notifications.remove(label);
        self.moved.remove(label);
        self.asked.remove(label);
        self.unverified.remove(label);
    }
}

/// The metrics of one primary.
#[derive(Debug)]
pub(crate) struct ShardMetrics {
    all: RedisMetrics,
    label: ShardLabel,
    up: Level,
    round_trip: Seconds,
    notifications: Count,
    moved: Count,
    asked: Count,
    unverified: Level,
}

impl ShardMetrics {
    /// Records whether commands can be sent.
    pub(crate) fn set_up(&self, is_up: bool) {
        self.up.set(i64::from(is_up));
    }

    /// Records the time of a check.
    pub(crate) fn set_round_trip(&self, time: Duration) {
        self.round_trip.set(time.as_secs_f64());
    }

    /// Counts a notification.
    pub(crate) fn record_notification(&self) {
        self.notifications.inc();
    }

    /// Counts a `MOVED`.
    pub(crate) fn record_moved(&self) {
        self.moved.inc();
    }

    /// Counts an `ASK` or a `TRYAGAIN`.
    pub(crate) fn record_asked(&self) {
        self.asked.inc();
    }

    /// Records how many ids are still to be verified.
    pub(crate) fn set_unverified(&self, ids: usize) {
        self.unverified.set(i64::try_from(ids).unwrap_or(i64::MAX));
    }
}

impl Drop for ShardMetrics {
    fn drop(&mut self) {
        let mut users = self.all.users();
        if let Some(count) = users.get_mut(&self.label) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.label);
                self.all.remove(&self.label);
            }
        }
    }
}

impl Metrics {
    /// Returns the metrics of the primary at `address`, which exist until they are dropped.
    pub(crate) fn redis_shard(&self, address: String) -> ShardMetrics {
        let all = self.0.redis.clone();
        let label = ShardLabel { shard: address };
        // Held until the end, so that no drop removes the metrics meanwhile.
        let mut users = all.users();
        *users.entry(label.clone()).or_default() += 1;
        let metrics = ShardMetrics {
            up: all.up.get_or_create(&label).clone(),
            round_trip: all.round_trip.get_or_create(&label).clone(),
            notifications: all.notifications.get_or_create(&label).clone(),
            moved: all.moved.get_or_create(&label).clone(),
            asked: all.asked.get_or_create(&label).clone(),
            unverified: all.unverified.get_or_create(&label).clone(),
            all: all.clone(),
            label,
        };
        drop(users);
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_has_metrics_for_as_long_as_it_is_used() {
        let metrics = Metrics::new();
        assert!(!metrics.render().contains("sse_redis_up"));
        let shard = metrics.redis_shard("10.0.0.1:6379".to_owned());
        shard.set_up(true);
        shard.record_moved();
        let text = metrics.render();
        for line in [
            "sse_redis_up{shard=\"10.0.0.1:6379\"} 1\n",
            "sse_redis_moved_total{shard=\"10.0.0.1:6379\"} 1\n",
            "sse_redis_unverified_ids{shard=\"10.0.0.1:6379\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        let again = metrics.redis_shard("10.0.0.1:6379".to_owned());
        drop(shard);
        assert!(
            metrics
                .render()
                .contains("sse_redis_moved_total{shard=\"10.0.0.1:6379\"} 1\n")
        );
        drop(again);
        assert!(!metrics.render().contains("10.0.0.1"));
    }
}
