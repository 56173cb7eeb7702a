//! A histogram of times whose counts can be read, for the dashboard's percentiles.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
    registry::{Registry, Unit},
};

use super::Metrics;

/// Buckets with an upper bound, from 0.1 ms to 13 s; each bound is twice the one before.
const BOUNDS: usize = 18;
/// The bound of the first bucket, in microseconds.
const FIRST_BOUND_US: u64 = 100;

/// The number of times per bucket. The last bucket has no upper bound.
pub(crate) type LatencyCounts = [u64; BOUNDS + 1];

/// A histogram of times; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct LatencyHistogram(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: [AtomicU64; BOUNDS + 1],
    sum_us: AtomicU64,
}

impl Metrics {
    /// Counts a pass over a view: `streams` were sent what changed `took` before its end.
    pub fn pass_ended(&self, took: Duration, streams: usize) {
        self.0.latency.record(took, streams as u64);
    }
}

impl LatencyHistogram {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "delivery_latency",
            "From the read of events by this node to the end of the pass that sends them",
            Unit::Seconds,
            self.clone(),
        );
    }

    /// Counts a time `times` times.
    pub(super) fn record(&self, took: Duration, times: u64) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (0..BOUNDS).find(|bucket| us <= bound_us(*bucket));
        let count = &self.0.counts[bucket.unwrap_or(BOUNDS)];
        count.fetch_add(times, Ordering::Relaxed);
        let sum = us.saturating_mul(times);
        self.0.sum_us.fetch_add(sum, Ordering::Relaxed);
    }

    /// Returns the counts of all buckets since the start.
    pub(super) fn counts(&self) -> LatencyCounts {
        self.0
            .counts
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed))
    }
}

const fn bound_us(bucket: usize) -> u64 {
    FIRST_BOUND_US << bucket
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric needs no more than 53 bits"
)]
fn seconds(us: u64) -> f64 {
    us as f64 / 1_000_000.0
}

impl TypedMetric for LatencyHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for LatencyHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.counts();
        let bound = |bucket| {
            if bucket < BOUNDS {
                seconds(bound_us(bucket))
            } else {
                f64::MAX
            }
        };
        let buckets = counts.iter().enumerate();
        let buckets: Vec<_> = buckets
            .map(|(bucket, count)| (bound(bucket), *count))
            .collect();
        let sum = seconds(self.0.sum_us.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Returns the time, in seconds, that `part` of the times do not exceed; `None` if nothing was
/// counted. Within a bucket it is interpolated.
#[expect(
    clippy::cast_precision_loss,
    reason = "a percentile needs no more than 53 bits"
)]
pub(crate) fn quantile(counts: &LatencyCounts, part: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let mut left = total as f64 * part;
    for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = *count as f64;
        if left <= count {
            let below = bucket.checked_sub(1).map_or(0, bound_us);
            let bound = if bucket < BOUNDS {
                bound_us(bucket)
            } else {
                2 * below
            };
            return Some(seconds(below) + seconds(bound - below) * left / count);
        }
        left -= count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_is_not_below_it() {
        let histogram = LatencyHistogram::default();
        for (us, times) in [
            (0, 1),
            (100, 2),
            (101, 4),
            (13_107_200, 8),
            (13_107_201, 16),
        ] {
            histogram.record(Duration::from_micros(us), times);
        }
        let counts = histogram.counts();
        assert_eq!(
            (counts[0], counts[1], counts[17], counts[18]),
            (3, 4, 8, 16)
        );
        assert_eq!(counts.iter().sum::<u64>(), 31);
    }

    #[test]
    fn a_percentile_lies_within_its_bucket() {
        let mut counts = LatencyCounts::default();
        assert_eq!(quantile(&counts, 0.5), None);
        (counts[0], counts[3]) = (90, 10);
        let [half, most] = [0.5, 0.99].map(|part| quantile(&counts, part).unwrap());
        assert!(half > 0.0 && half < 0.0001, "{half}");
        assert!(most > 0.0004 && most < 0.0008, "{most}");
        counts[18] = 10_000;
        assert!(quantile(&counts, 0.99).unwrap() > 13.0);
    }
}
