//! Admission of streams: how many may be open at a time.
//!
//! Each open stream holds a file descriptor, and some descriptors must remain for publishers and
//! health checks. [`Admission`] therefore decides on each new stream by the number that is open:
//!
//! ```text
//! open streams  0 ............... streams_max ....... + 10 % ........
//! decision        Admitted             Rejected           Dropped
//! ```
//!
//! A rejected client gets a stream that ends at once, and its connection counts as an open stream
//! until it is closed. If too many connections are in that state, the next one is dropped without a
//! response. [`StreamGuard`] counts one stream, and reports what happens to the stream to the
//! metrics and to the access log by direct calls.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sse_proto::api::GapReason;

use crate::{
    access_log::StreamRecord,
    metrics::{Metrics, StreamEvent},
};

/// Label of a rejected stream whose client got a stream that ends at once.
const LIMIT: &str = "limit";
/// Label of a rejected stream whose connection was closed without a response.
const DROPPED: &str = "dropped";

/// Decides whether one more stream may open; clones share the count.
#[derive(Debug, Clone)]
pub struct Admission {
    inner: Arc<Inner>,
    /// What all streams share that are not in the access log.
    unlogged: Arc<GuardTarget>,
}

#[derive(Debug)]
struct Inner {
    streams_max: usize,
    /// Streams that are open, including rejected ones whose connection is not closed yet.
    open: AtomicUsize,
    metrics: Metrics,
}

/// Where a guard reports to.
///
/// A guard has one pointer for both, so that a stream is no larger if the access log is off.
#[derive(Debug)]
struct GuardTarget {
    admission: Arc<Inner>,
    /// The stream's own record; `None` if the stream is not in the access log.
    record: Option<StreamRecord>,
}

/// Outcome for one new stream.
#[derive(Debug)]
pub enum AdmissionDecision {
    /// The stream may open. The guard counts it.
    Admitted(StreamGuard),
    /// The stream must end at once. The guard counts it until its connection is closed.
    Rejected(StreamGuard),
    /// The connection must be closed without a response.
    Dropped,
}

impl Admission {
    /// Admits up to `streams_max` streams at a time.
    #[must_use]
    pub fn new(streams_max: usize, metrics: Metrics) -> Self {
        let closed = CloseReason::ALL.map(CloseReason::as_str);
        metrics.create_stream_reasons([LIMIT, DROPPED], closed);
        let inner = Arc::new(Inner {
            streams_max,
            open: AtomicUsize::new(0),
            metrics,
        });
        let unlogged = Arc::new(GuardTarget {
            admission: inner.clone(),
            record: None,
        });
        Self { inner, unlogged }
    }

    /// Decides on a new stream; `resumes` if its client sent a last event id.
    ///
    /// A stream is one too many if its connection `may_stream` no longer, because it is reserved.
    #[must_use]
    pub fn admit(&self, resumes: bool, may_stream: bool) -> AdmissionDecision {
        let inner = &*self.inner;
        let rejected_max = inner.streams_max.div_ceil(10);
        let open_before = inner.open.fetch_add(1, Ordering::Relaxed);
        if may_stream && open_before < inner.streams_max {
            AdmissionDecision::Admitted(self.open_stream(resumes))
        } else if open_before < inner.streams_max.saturating_add(rejected_max) {
            self.report_rejected(LIMIT);
            AdmissionDecision::Rejected(self.open_stream(false))
        } else {
            inner.open.fetch_sub(1, Ordering::Relaxed);
            self.report_rejected(DROPPED);
            AdmissionDecision::Dropped
        }
    }

    fn report_rejected(&self, reason: &'static str) {
        let event = StreamEvent::Rejected { reason };
        self.inner.metrics.record_stream_event(event);
    }

    fn open_stream(&self, resumes: bool) -> StreamGuard {
        let event = StreamEvent::Opened { resumes };
        self.inner.metrics.record_stream_event(event);
        StreamGuard {
            target: Some(self.unlogged.clone()),
            is_behind: false,
            close_reason: None,
        }
    }
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed the connection or is gone.
    Client,
    /// The client accepted no data for too long.
    Stalled,
    /// The client read slowly, and blocked streams held too much memory.
    BlockedBytes,
    /// The client no longer answers: it acknowledges neither data nor probes.
    Unreachable,
    /// The client sent too much after its request.
    TooMuchInput,
    /// The keys of TLS must not encrypt more.
    TlsKeysUsed,
    /// No event up to `until` can appear any more.
    UntilReached,
    /// The server is stopping.
    Shutdown,
}

impl CloseReason {
    const ALL: [Self; 8] = [
        Self::Client,
        Self::Stalled,
        Self::BlockedBytes,
        Self::Unreachable,
        Self::TooMuchInput,
        Self::TlsKeysUsed,
        Self::UntilReached,
        Self::Shutdown,
    ];

    /// Value of the label `reason` in the metrics.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Stalled => "stalled",
            Self::BlockedBytes => "blocked_bytes",
            Self::Unreachable => "unreachable",
            Self::TooMuchInput => "too_much_input",
            Self::TlsKeysUsed => "tls_keys_used",
            Self::UntilReached => "until_reached",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Counts one stream as open until it is dropped.
#[derive(Debug)]
pub struct StreamGuard {
    /// `None` after [`transfer`](Self::transfer).
    target: Option<Arc<GuardTarget>>,
    is_behind: bool,
    close_reason: Option<CloseReason>,
}

impl StreamGuard {
    /// Moves the count to the returned guard; this guard no longer counts or reports anything.
    #[must_use]
    pub fn transfer(&mut self) -> Self {
        Self {
            target: self.target.take(),
            is_behind: std::mem::take(&mut self.is_behind),
            close_reason: self.close_reason.take(),
        }
    }

    /// Adds the stream to the access log, with the line of its end.
    pub fn set_record(&mut self, record: StreamRecord) {
        if let Some(target) = &self.target {
            self.target = Some(Arc::new(GuardTarget {
                admission: target.admission.clone(),
                record: Some(record),
            }));
        }
    }

    /// Returns the record of the stream, if the stream is in the access log.
    fn record(&self) -> Option<&StreamRecord> {
        self.target.as_ref()?.record.as_ref()
    }

    /// Counts what was handed to the connection.
    pub fn record_delivery(&self, events: usize, bytes: usize) {
        if let Some(target) = &self.target {
            target.admission.metrics.delivered(events, bytes);
        }
        self.record_bytes(bytes);
    }

    /// Counts bytes for the access log only.
    pub fn record_bytes(&self, bytes: usize) {
        if let Some(record) = self.record() {
            record.add_bytes(bytes);
        }
    }

    /// Sets what the access log reports about the end: the last id that the client was sent, and
    /// the bytes that the connection did not accept.
    pub fn record_end(&self, last_id: Option<impl Display>, unsent_bytes: usize) {
        if let Some(record) = self.record() {
            record.subtract_bytes(unsent_bytes);
            if let Some(last_id) = last_id {
                record.set_last_id(last_id);
            }
        }
    }

    /// Counts a gap that was sent to the client.
    pub fn record_gap(&self, reason: GapReason) {
        self.report(StreamEvent::Gap(reason));
    }

    /// Records whether the stream is behind the tail.
    pub fn set_behind(&mut self, is_behind: bool) {
        if is_behind == self.is_behind {
            return;
        }
        self.is_behind = is_behind;
        self.report(if is_behind {
            StreamEvent::FellBehind
        } else {
            StreamEvent::CaughtUp
        });
    }

    /// Sets the reason that is reported when the guard is dropped.
    pub const fn set_close_reason(&mut self, reason: CloseReason) {
        self.close_reason = Some(reason);
    }

    fn report(&self, event: StreamEvent) {
        if let Some(target) = &self.target {
            target.admission.metrics.record_stream_event(event);
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.set_behind(false);
        let Some(target) = &self.target else {
            return;
        };
        target.admission.open.fetch_sub(1, Ordering::Relaxed);
        let reason = self.close_reason.map(CloseReason::as_str);
        self.report(StreamEvent::Closed { reason });
        if let Some(record) = &target.record {
            record.record_end(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_beyond_the_limit_are_rejected_and_beyond_a_tenth_more_dropped() {
        let metrics = Metrics::new();
        let admission = Admission::new(20, metrics.clone());
        let (mut admitted, mut rejected) = (Vec::new(), Vec::new());
        loop {
            match admission.admit(false, true) {
                AdmissionDecision::Admitted(guard) => admitted.push(guard),
                AdmissionDecision::Rejected(guard) => rejected.push(guard),
                AdmissionDecision::Dropped => break,
            }
        }
        assert_eq!((admitted.len(), rejected.len()), (20, 2));
        let text = metrics.render();
        assert!(text.contains("sse_streams_rejected_total{reason=\"limit\"} 2\n"));
        assert!(text.contains("sse_streams_rejected_total{reason=\"dropped\"} 1\n"));

        // A stream whose guard was transferred still counts once.
        let transferred = admitted[0].transfer();
        drop((rejected, admitted.drain(..1).collect::<Vec<_>>()));
        assert!(matches!(
            admission.admit(false, true),
            AdmissionDecision::Rejected(_)
        ));
        drop(transferred);
        assert!(matches!(
            admission.admit(false, true),
            AdmissionDecision::Admitted(_)
        ));
    }

    #[test]
    fn a_dropped_guard_reports_its_close_reason_and_the_end_of_the_lag() {
        let metrics = Metrics::new();
        let admission = Admission::new(1, metrics.clone());
        let AdmissionDecision::Admitted(mut guard) = admission.admit(true, true) else {
            panic!("the first stream is admitted")
        };
        guard.set_behind(true);
        guard.set_close_reason(CloseReason::Stalled);
        assert!(metrics.render().contains("sse_subscribers_behind_tail 1\n"));
        drop(guard);
        let text = metrics.render();
        assert!(text.contains("sse_subscribers_behind_tail 0\n"));
        assert!(text.contains("sse_subscribers 0\n"));
        assert!(text.contains("sse_streams_closed_total{reason=\"stalled\"} 1\n"));
    }
}
