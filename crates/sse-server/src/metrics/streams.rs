//! Metrics of streams.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::family::Family,
    registry::{Registry, Unit},
};
use sse_proto::api::GapReason;

use super::{Count, Level, StreamEvent};

/// The metrics.
#[derive(Debug, Default)]
pub(super) struct StreamMetrics {
    open: Level,
    rejected: Family<ReasonLabel, Count>,
    closed: Family<ReasonLabel, Count>,
    gaps: Family<ReasonLabel, Count>,
    deliveries: Count,
    sent: Count,
    resumes: Count,
    behind_tail: Level,
    fell_behind: Count,
    page_reads: Count,
    page_reads_waiting: Level,
    blocked_bytes: Level,
    tails_bytes: Level,
    tails_cut: Count,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl StreamMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        self.register_streams(registry);
        self.register_history(registry);
        self.register_tails(registry);
        self.create_gaps();
    }

    fn register_streams(&self, registry: &mut Registry) {
        registry.register("subscribers", "Open streams", self.open.clone());
        registry.register(
            "streams_rejected",
            "Streams beyond the limit, by what the client got",
            self.rejected.clone(),
        );
        registry.register(
            "streams_closed",
            "Streams that ended, by reason",
            self.closed.clone(),
        );
        registry.register(
            "gaps",
            "Gaps sent to subscribers, by reason",
            self.gaps.clone(),
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
        registry.register_with_unit(
            "blocked",
            "Memory of streams whose connections are full",
            Unit::Bytes,
            self.blocked_bytes.clone(),
        );
        registry.register(
            "resumes",
            "Streams that began with a last event id",
            self.resumes.clone(),
        );
    }

    fn register_history(&self, registry: &mut Registry) {
        registry.register(
            "subscribers_behind_tail",
            "Streams served from history now, because they are behind the tail",
            self.behind_tail.clone(),
        );
        registry.register(
            "subscribers_fell_behind",
            "Times a stream fell behind the tail",
            self.fell_behind.clone(),
        );
        registry.register(
            "history_page_reads",
            "Pages of history read for streams; one read serves all streams at the same position",
            self.page_reads.clone(),
        );
        registry.register(
            "history_page_reads_waiting",
            "Streams that wait for their turn to read a page of history",
            self.page_reads_waiting.clone(),
        );
    }

    fn register_tails(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "tails",
            "Memory of the newest events of all channels with open streams",
            Unit::Bytes,
            self.tails_bytes.clone(),
        );
        registry.register(
            "tails_cut",
            "Times a tail was cut because all tails took too much memory",
            self.tails_cut.clone(),
        );
    }

    /// Returns the memory of all tails, for their owner to change.
    pub(super) fn tails_bytes(&self) -> Level {
        self.tails_bytes.clone()
    }

    pub(super) fn page_reads_waiting(&self) -> Level {
        self.page_reads_waiting.clone()
    }

    pub(super) fn record_tail_cut(&self) {
        self.tails_cut.inc();
    }

    fn create_gaps(&self) {
        for reason in GapReason::ALL {
            let reason = reason.as_str();
            drop(self.gaps.get_or_create(&ReasonLabel { reason }));
        }
    }

    /// Creates the counters of these reasons, with the value zero.
    pub(super) fn create_reasons(
        &self,
        rejected: impl IntoIterator<Item = &'static str>,
        closed: impl IntoIterator<Item = &'static str>,
    ) {
        for reason in rejected {
            drop(self.rejected.get_or_create(&ReasonLabel { reason }));
        }
        for reason in closed {
            drop(self.closed.get_or_create(&ReasonLabel { reason }));
        }
    }

    pub(super) fn record_delivery(&self, events: usize, bytes: usize) {
        self.deliveries.inc_by(events as u64);
        self.sent.inc_by(bytes as u64);
    }

    pub(super) fn set_blocked_bytes(&self, bytes: usize) {
        self.blocked_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn open(&self) -> i64 {
        self.open.get()
    }

    pub(super) fn behind_tail(&self) -> i64 {
        self.behind_tail.get()
    }

    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries.get()
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent.get()
    }

    pub(super) fn blocked_bytes(&self) -> i64 {
        self.blocked_bytes.get()
    }

    pub(super) fn gaps(&self, reason: &'static str) -> u64 {
        self.gaps.get_or_create_owned(&ReasonLabel { reason }).get()
    }

    pub(super) fn record_page_read(&self) {
        self.page_reads.inc();
    }

    pub(super) fn record(&self, event: StreamEvent) {
        match event {
            StreamEvent::Opened { resumes } => {
                self.open.inc();
                self.resumes.inc_by(u64::from(resumes));
            }
            StreamEvent::Rejected { reason } => count_by_reason(&self.rejected, reason),
            StreamEvent::Gap(reason) => count_by_reason(&self.gaps, reason.as_str()),
            StreamEvent::FellBehind => {
                self.fell_behind.inc();
                self.behind_tail.inc();
            }
            StreamEvent::CaughtUp => {
                self.behind_tail.dec();
            }
            StreamEvent::Closed { reason } => {
                self.open.dec();
                if let Some(reason) = reason {
                    count_by_reason(&self.closed, reason);
                }
            }
        }
    }
}

fn count_by_reason(family: &Family<ReasonLabel, Count>, reason: &'static str) {
    family.get_or_create(&ReasonLabel { reason }).inc();
}
