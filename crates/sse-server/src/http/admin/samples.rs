//! The last 15 minutes in memory, for the charts of the dashboard.

use std::collections::VecDeque;

use serde::Serialize;

use crate::metrics::{
    latency::{LatencyCounts, quantile},
    totals::Totals,
};

/// Seconds between two samples.
pub(super) const INTERVAL_S: u64 = 5;
/// Samples of 15 minutes.
const KEPT: usize = 180;
/// Samples of a minute.
const PER_MINUTE: usize = 12;

/// Names of the numbers of a sample. Those since the start end with `total`.
const COLUMNS: [&str; 9] = [
    "time_ms",
    "streams",
    "streams_behind",
    "published_total",
    "deliveries_total",
    "gaps_total",
    "rejected_total",
    "p50_us",
    "p99_us",
];

/// The samples, oldest first.
#[derive(Debug, Default)]
pub(super) struct Samples {
    rows: VecDeque<SampleRow>,
    /// Totals of the last minute, oldest first.
    totals: VecDeque<Totals>,
}

/// A sample: the numbers of [`COLUMNS`], and how much of each budget is used, in thousandths.
type SampleRow = (Vec<Option<u64>>, Vec<u64>);

/// The samples as the feed sends them.
#[derive(Debug, Serialize)]
pub(super) struct History<'a> {
    columns: &'a [&'a str],
    rows: Vec<&'a [Option<u64>]>,
    budgets: Vec<&'a [u64]>,
}

/// Percentiles of the delivery latency, in microseconds; `None` without a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: Option<u64>,
    pub(super) p99: Option<u64>,
}

impl Samples {
    /// Adds a sample. `budgets` is how much of each budget is used, in thousandths.
    pub(super) fn push(&mut self, time_ms: u64, totals: Totals, budgets: Vec<u64>) {
        let Percentiles { p50, p99 } = self.percentiles(&totals.latency, 1);
        let sum = |counts: &std::collections::BTreeMap<_, u64>| counts.values().sum::<u64>();
        let row = [
            Some(time_ms),
            Some(totals.streams),
            Some(totals.behind_tail),
            Some(totals.published),
            Some(totals.deliveries),
            Some(sum(&totals.gaps)),
            Some(sum(&totals.rejected)),
            p50,
            p99,
        ];
        push_limited(&mut self.rows, (row.to_vec(), budgets), KEPT);
        push_limited(&mut self.totals, totals, PER_MINUTE);
    }

    /// Returns the percentiles since the sample that is `back` samples old, or since the start.
    pub(super) fn percentiles(&self, now: &LatencyCounts, back: usize) -> Percentiles {
        let before = self.totals.len().checked_sub(back);
        let before = before.and_then(|index| self.totals.get(index));
        let mut counts = *now;
        if let Some(before) = before {
            for (count, before) in counts.iter_mut().zip(before.latency) {
                *count = count.saturating_sub(before);
            }
        }
        let microseconds = |part| quantile(&counts, part).map(to_microseconds);
        Percentiles {
            p50: microseconds(0.5),
            p99: microseconds(0.99),
        }
    }

    /// Returns the totals of about a minute ago; `None` if there is no sample.
    pub(super) fn minute_ago(&self) -> Option<&Totals> {
        self.totals.front()
    }

    pub(super) fn history(&self) -> History<'_> {
        History {
            columns: &COLUMNS,
            rows: self.rows.iter().map(|(row, _)| &**row).collect(),
            budgets: self.rows.iter().map(|(_, budgets)| &**budgets).collect(),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time is positive, and a cast of a huge one saturates"
)]
fn to_microseconds(seconds: f64) -> u64 {
    (seconds * 1_000_000.0).round() as u64
}

fn push_limited<T>(list: &mut VecDeque<T>, item: T, kept: usize) {
    if list.len() >= kept {
        list.pop_front();
    }
    list.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifteen_minutes_are_kept() {
        let mut samples = Samples::default();
        for number in 0..400 {
            let totals = Totals {
                published: number,
                ..Totals::default()
            };
            samples.push(number * 5000, totals, vec![number]);
        }
        let history = samples.history();
        assert_eq!((history.rows.len(), history.budgets.len()), (KEPT, KEPT));
        assert_eq!(history.rows[0][3], Some(220));
        assert_eq!(samples.minute_ago().unwrap().published, 388);
    }

    #[test]
    fn percentiles_are_those_since_the_last_sample() {
        let mut samples = Samples::default();
        let mut latency = LatencyCounts::default();
        latency[10] = 1000;
        let totals = Totals {
            latency,
            ..Totals::default()
        };
        samples.push(0, totals, Vec::new());
        assert_eq!(samples.percentiles(&latency, 1).p50, None);
        latency[0] += 10;
        let found = samples.percentiles(&latency, 1);
        assert!(found.p99.is_some_and(|p99| p99 <= 100), "{found:?}");
        assert_eq!(samples.history().rows[0][0], Some(0));
    }
}
