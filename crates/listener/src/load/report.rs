//! The report of a run as data: serde writes it as JSON, [`text`](super::text) as text for people.
//!
//! The keys of the JSON are read by scripts and do not change with the names of types.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::{
    engine::{EndReason, Finished},
    loss::LossReport,
    plan::Plan,
    stats::{DurationHistogram, RejectionCount, Stats},
};
use crate::settings::load::LoadSettings;

/// Everything that was counted.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) program: &'static str,
    pub(crate) version: &'static str,
    pub(crate) started: String,
    /// Why the run ended.
    pub(crate) ended_by: &'static str,
    /// Time of the measurement.
    pub(crate) elapsed_s: f64,
    /// Time added for connections that were behind.
    pub(crate) settled_s: f64,
    /// Without user, password and query.
    pub(crate) urls: Vec<String>,
    /// Source addresses; empty if the operating system chose them.
    pub(crate) sources: Vec<String>,
    pub(crate) seed: u64,
    /// Streams per connection over HTTP/2; `null` for HTTP/1.1.
    pub(crate) http2_streams: Option<u32>,
    pub(crate) connections: Connections,
    pub(crate) connects: Connects,
    pub(crate) ends: Ends,
    pub(crate) first_byte: Percentiles,
    pub(crate) open: Percentiles,
    pub(crate) back_after_cut: Percentiles,
    pub(crate) back_after_end: Percentiles,
    pub(crate) events: Events,
    pub(crate) comments: u64,
    pub(crate) bytes: Bytes,
    pub(crate) gaps: BTreeMap<&'static str, u64>,
    pub(crate) latency: Percentiles,
    /// Events with a stamp later than their receipt.
    pub(crate) events_from_the_future: u64,
    pub(crate) loss: LossReport,
    /// What to do about failures on this side.
    #[serde(rename = "advice")]
    pub(crate) hints: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Connections {
    pub(crate) wanted: u32,
    /// Connections that had a stream at least once.
    pub(crate) opened: u64,
    /// Connections that had a stream at the end of the measurement.
    pub(crate) streaming_at_the_end: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Connects {
    pub(crate) asked: u64,
    pub(crate) opened: u64,
    /// Streams that reopened with a last event id.
    pub(crate) resumed_with_id: u64,
    /// Streams that reopened without a last event id.
    pub(crate) reopened_without_id: u64,
    pub(crate) failed: BTreeMap<&'static str, u64>,
    pub(crate) failed_total: u64,
    #[serde(rename = "refused")]
    pub(crate) rejected: Vec<Rejected>,
    #[serde(rename = "refused_total")]
    pub(crate) rejected_total: u64,
    /// Rejections of kinds that are not listed.
    #[serde(rename = "refused_unlisted")]
    pub(crate) rejected_unlisted: u64,
    pub(crate) no_content: u64,
    /// Connects without a result at the end.
    pub(crate) unfinished: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Rejected {
    #[serde(rename = "answer")]
    pub(crate) response: String,
    pub(crate) count: u64,
    pub(crate) message: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Ends {
    pub(crate) cut_by_us: u64,
    pub(crate) by_server: u64,
    pub(crate) broken: BTreeMap<&'static str, u64>,
    pub(crate) broken_total: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Events {
    pub(crate) total: u64,
    /// The rate between the first and the last event.
    pub(crate) per_second: Option<f64>,
    pub(crate) by_type: BTreeMap<String, u64>,
    /// Events of types that are not listed.
    pub(crate) of_other_types: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Bytes {
    /// All bytes that were read, with heads and chunk sizes.
    pub(crate) wire: u64,
    pub(crate) wire_per_second: Option<f64>,
    /// Bytes of event data.
    pub(crate) data: u64,
}

/// Durations in microseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p99_9_us: u64,
    pub(crate) max_us: u64,
}

impl Report {
    /// The report of a run that began at `started`.
    pub(crate) fn new(
        settings: &LoadSettings,
        plan: &Plan,
        finished: &Finished,
        started: DateTime<Utc>,
    ) -> Self {
        let stats = &finished.collector.stats;
        Self {
            program: "listener bench",
            version: env!("CARGO_PKG_VERSION"),
            started: started.to_rfc3339_opts(SecondsFormat::Millis, true),
            ended_by: end_reason_text(finished.reason),
            elapsed_s: finished.elapsed.as_secs_f64(),
            settled_s: finished.settled.as_secs_f64(),
            urls: to_texts(settings.target.urls()),
            sources: to_texts(plan.sources.list()),
            seed: plan.seed,
            http2_streams: plan.http2_streams,
            connections: Connections::new(plan, finished),
            connects: Connects::new(stats),
            ends: Ends::new(stats),
            first_byte: Percentiles::new(&stats.first_byte),
            open: Percentiles::new(&stats.open),
            back_after_cut: Percentiles::new(&stats.back_after_cut),
            back_after_end: Percentiles::new(&stats.back_after_end),
            events: Events::new(stats),
            comments: stats.comments,
            bytes: Bytes::new(stats, finished.elapsed),
            gaps: stats.gaps.clone(),
            latency: Percentiles::new(&stats.latency),
            events_from_the_future: stats.from_the_future,
            loss: LossReport::new(finished, settings.why_loss_is_not_judged()),
            hints: super::hints::collect_hints(finished),
        }
    }

    /// Returns `true` if numbered events arrived, and each on every connection, once and in order.
    pub(crate) fn is_without_loss(&self) -> bool {
        !self.loss.publishers.is_empty() && self.loss.is_clean()
    }
}

const fn end_reason_text(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Duration => "duration",
        EndReason::Count => "count",
        EndReason::Signal => "signal",
        EndReason::NoneLeft => "no connection was left",
        EndReason::NothingOpened => "no connection could be opened",
    }
}

impl Connections {
    fn new(plan: &Plan, finished: &Finished) -> Self {
        Self {
            wanted: plan.connections,
            opened: finished.collector.stats.connects.ever_open,
            streaming_at_the_end: finished.streaming,
        }
    }
}

impl Connects {
    fn new(stats: &Stats) -> Self {
        let counted = &stats.connects;
        let failed_total = counted.failed.values().sum();
        let rejected_total = counted.rejections.total();
        let finished = counted.opened + failed_total + rejected_total + counted.no_content;
        let rejections = counted.rejections.list();
        Self {
            asked: counted.asked,
            opened: counted.opened,
            resumed_with_id: counted.resumed,
            reopened_without_id: counted.reopened_without_id,
            failed: counted.failed.clone(),
            failed_total,
            rejected: rejections.iter().map(Rejected::new).collect(),
            rejected_total,
            rejected_unlisted: counted.rejections.unlisted,
            no_content: counted.no_content,
            unfinished: counted.asked.saturating_sub(finished),
        }
    }
}

impl Rejected {
    fn new(counted: &RejectionCount) -> Self {
        Self {
            response: counted.kind.clone(),
            count: counted.count,
            message: counted.message.clone(),
        }
    }
}

impl Ends {
    fn new(stats: &Stats) -> Self {
        Self {
            cut_by_us: stats.ends.cut,
            by_server: stats.ends.by_server,
            broken: stats.ends.broken.clone(),
            broken_total: stats.ends.broken.values().sum(),
        }
    }

    /// Number of streams that ended.
    pub(crate) const fn total(&self) -> u64 {
        self.cut_by_us + self.by_server + self.broken_total
    }
}

impl Events {
    fn new(stats: &Stats) -> Self {
        let span = stats.receiving.map(|(first, last)| last - first);
        Self {
            total: stats.events,
            per_second: rate(stats.events, span),
            by_type: stats.types.iter().collect(),
            of_other_types: stats.types.other,
        }
    }
}

impl Bytes {
    fn new(stats: &Stats, elapsed: Duration) -> Self {
        Self {
            wire: stats.wire_bytes,
            wire_per_second: rate(stats.wire_bytes, Some(elapsed)),
            data: stats.data_bytes,
        }
    }
}

fn to_texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

/// The number per second. Returns `None` if the span is empty or the number is too small for a
/// rate.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(count: u64, span: Option<Duration>) -> Option<f64> {
    let seconds = span?.as_secs_f64();
    (seconds > 0.0 && count > 1).then(|| count as f64 / seconds)
}

impl Percentiles {
    fn new(times: &DurationHistogram) -> Self {
        let at = |share| times.quantile_us(share);
        Self {
            count: times.count(),
            mean_us: times.mean_us(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: at(1.0),
        }
    }
}
