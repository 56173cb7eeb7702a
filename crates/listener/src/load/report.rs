//! The report of a run: all stats, as data. [`text`](super::text) shows it to people, serde writes it as JSON.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::{
    engine::{Finished, Reason},
    loss::Loss,
    plan::Plan,
    stats::{DurationHistogram, Stats},
};
use crate::settings::load::LoadSettings;

/// Everything that was found out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) program: &'static str,
    pub(crate) version: &'static str,
    pub(crate) started: String,
    /// Why it ended.
    pub(crate) ended_by: &'static str,
    /// Up to the end of the time.
    pub(crate) elapsed_s: f64,
    /// What was added for connections that were behind.
    pub(crate) settled_s: f64,
    /// Without user, password and query.
    pub(crate) urls: Vec<String>,
    /// Addresses that were connected from; empty if the operating system chose.
    pub(crate) sources: Vec<String>,
    pub(crate) seed: u64,
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
    /// Events that said that they were sent later than they came.
    pub(crate) events_from_the_future: u64,
    pub(crate) loss: Loss,
    /// What to do about what went wrong here.
    #[serde(rename = "advice")]
    pub(crate) hints: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Connections {
    pub(crate) wanted: u32,
    /// Had a stream at least once.
    pub(crate) opened: u64,
    /// Had one when the time was up.
    pub(crate) streaming_at_the_end: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Connects {
    pub(crate) asked: u64,
    pub(crate) opened: u64,
    /// Of those opened: after a stream that was lost, with a last event id and without.
    pub(crate) resumed_with_id: u64,
    pub(crate) reopened_without_id: u64,
    pub(crate) failed: BTreeMap<&'static str, u64>,
    pub(crate) failed_total: u64,
    pub(crate) refused: Vec<Refused>,
    pub(crate) refused_total: u64,
    /// Of these, answers of so many kinds that they are not listed.
    pub(crate) refused_unlisted: u64,
    pub(crate) no_content: u64,
    /// Without an outcome when it ended.
    pub(crate) unfinished: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Refused {
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
    /// Between the first and the last one.
    pub(crate) per_second: Option<f64>,
    pub(crate) by_type: BTreeMap<String, u64>,
    /// Of types beyond those that are told apart.
    pub(crate) of_other_types: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Bytes {
    /// All that was read, heads and chunk sizes included.
    pub(crate) wire: u64,
    pub(crate) wire_per_second: Option<f64>,
    /// Data of events.
    pub(crate) data: u64,
}

/// DurationHistogram in microseconds.
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
    /// Of a run that began at `started`.
    pub(crate) fn new(
        settings: &LoadSettings,
        plan: &Plan,
        finished: &Finished,
        started: DateTime<Utc>,
    ) -> Self {
        let stats = &finished.collector.stats;
        let span = stats.receiving.map(|(first, last)| last - first);
        Self {
            program: "listener bench",
            version: env!("CARGO_PKG_VERSION"),
            started: started.to_rfc3339_opts(SecondsFormat::Millis, true),
            ended_by: ended_by(finished.reason),
            elapsed_s: finished.elapsed.as_secs_f64(),
            settled_s: finished.settled.as_secs_f64(),
            urls: settings
                .target
                .urls
                .iter()
                .map(ToString::to_string)
                .collect(),
            sources: plan
                .sources
                .list()
                .iter()
                .map(ToString::to_string)
                .collect(),
            seed: plan.seed,
            connections: Connections {
                wanted: plan.connections,
                opened: stats.connects.ever_open,
                streaming_at_the_end: finished.streaming,
            },
            connects: connects(stats),
            ends: Ends {
                cut_by_us: stats.ends.cut,
                by_server: stats.ends.by_server,
                broken: stats.ends.broken.clone(),
                broken_total: stats.ends.broken.values().sum(),
            },
            first_byte: Percentiles::of(&stats.first_byte),
            open: Percentiles::of(&stats.open),
            back_after_cut: Percentiles::of(&stats.back_after_cut),
            back_after_end: Percentiles::of(&stats.back_after_end),
            events: Events {
                total: stats.events,
                per_second: rate(stats.events, span),
                by_type: stats.types.list().collect(),
                of_other_types: stats.types.other,
            },
            comments: stats.comments,
            bytes: Bytes {
                wire: stats.wire_bytes,
                wire_per_second: rate(stats.wire_bytes, Some(finished.elapsed)),
                data: stats.data_bytes,
            },
            gaps: stats.gaps.clone(),
            latency: Percentiles::of(&stats.latency),
            events_from_the_future: stats.from_the_future,
            loss: Loss::of(finished, settings.why_loss_is_not_judged()),
            hints: super::hints::collect_hints(finished),
        }
    }

    /// NumberedEvent events came, and each came to every connection, once and in order.
    pub(crate) fn is_without_loss(&self) -> bool {
        !self.loss.publishers.is_empty() && self.loss.is_clean()
    }
}

const fn ended_by(reason: Reason) -> &'static str {
    match reason {
        Reason::Duration => "duration",
        Reason::Count => "count",
        Reason::Signal => "signal",
        Reason::NoneLeft => "no connection was left",
        Reason::NothingOpened => "no connection could be opened",
    }
}

fn connects(stats: &Stats) -> Connects {
    let counted = &stats.connects;
    let refused = |refused: &super::stats::RejectionCount| Refused {
        response: refused.kind.clone(),
        count: refused.count,
        message: refused.message.clone(),
    };
    let failed_total = counted.failed.values().sum();
    let refused_total = counted.rejections.total();
    let finished = counted.opened + failed_total + refused_total + counted.no_content;
    Connects {
        asked: counted.asked,
        opened: counted.opened,
        resumed_with_id: counted.resumed,
        reopened_without_id: counted.reopened_without_id,
        failed: counted.failed.clone(),
        failed_total,
        refused: counted.rejections.list().iter().map(refused).collect(),
        refused_total,
        refused_unlisted: counted.rejections.unlisted,
        no_content: counted.no_content,
        unfinished: counted.asked.saturating_sub(finished),
    }
}

/// A second's share of what came in a span, if it is one.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(count: u64, span: Option<Duration>) -> Option<f64> {
    let seconds = span?.as_secs_f64();
    (seconds > 0.0 && count > 1).then(|| count as f64 / seconds)
}

impl Percentiles {
    fn of(times: &DurationHistogram) -> Self {
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
