//! The metrics that the dashboard shows, as numbers.

use std::collections::BTreeMap;

use sse_proto::api::GapReason;

use super::{Metrics, latency::LatencyCounts};

/// Values of metrics at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) streams: u64,
    pub(crate) behind_tail: u64,
    pub(crate) published: u64,
    pub(crate) deliveries: u64,
    pub(crate) sent_bytes: u64,
    /// Gaps since the start, by reason.
    pub(crate) gaps: BTreeMap<&'static str, u64>,
    /// Rejected requests since the start, by code; codes without one are left out.
    pub(crate) rejected: BTreeMap<&'static str, u64>,
    pub(crate) connections: u64,
    pub(crate) publish_memory: u64,
    pub(crate) history_memory: u64,
    pub(crate) blocked_bytes: u64,
    pub(crate) tails_bytes: u64,
    pub(crate) log_bytes: u64,
    pub(crate) log_events: u64,
    pub(crate) channels: u64,
    pub(crate) latency: LatencyCounts,
}

impl Metrics {
    /// Returns how many streams are open, and how many of them are served from history.
    pub(crate) fn stream_counts(&self) -> (u64, u64) {
        let open = u64::try_from(self.0.streams.open()).unwrap_or(0);
        (open, self.streams_behind_tail())
    }

    /// Returns how many streams are served from history.
    pub(crate) fn streams_behind_tail(&self) -> u64 {
        u64::try_from(self.0.streams.behind_tail()).unwrap_or(0)
    }

    /// Reads the metrics that the dashboard shows. `codes` are those of rejected requests.
    pub(crate) fn totals(&self, codes: impl IntoIterator<Item = &'static str>) -> Totals {
        let level = |value: i64| u64::try_from(value).unwrap_or(0);
        let (streams, publishing, log) = (&self.0.streams, &self.0.publishing, &self.0.log);
        let rejected = codes
            .into_iter()
            .map(|code| (code, publishing.rejected(code).get()));
        let gaps = GapReason::ALL.map(GapReason::as_str);
        let size = log.size();
        Totals {
            streams: level(streams.open()),
            behind_tail: level(streams.behind_tail()),
            published: publishing.events(),
            deliveries: streams.deliveries(),
            sent_bytes: streams.sent_bytes(),
            gaps: gaps
                .into_iter()
                .map(|reason| (reason, streams.gaps(reason)))
                .collect(),
            rejected: rejected.filter(|(_, count)| *count > 0).collect(),
            connections: level(self.0.connections.open()),
            publish_memory: level(publishing.body_memory()),
            history_memory: level(log.history_memory()),
            blocked_bytes: level(streams.blocked_bytes()),
            tails_bytes: level(streams.tails_bytes().get()),
            log_bytes: size.bytes,
            log_events: size.events,
            channels: size.channels as u64,
            latency: self.0.latency.counts(),
        }
    }
}
