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
//! response. A [`StreamGuard`] counts one stream.
//!
//! A streaming publish holds its connection as a stream does, and counts as one. One client may have
//! a quarter as many of them as all streams.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    publish_permit::PublishPermit,
    stream_guard::{CloseReason, GuardTarget, StreamGuard},
};
use crate::{
    budget::{Budget, ClientNet},
    metrics::{Metrics, StreamEvent},
};

/// Label of a rejected stream whose connection was closed without a response.
const DROPPED: &str = "dropped";
/// A client may use this part of the streams for streaming publishes.
const CLIENT_PART: usize = 4;

/// Decides whether one more stream may open; clones share the count.
#[derive(Debug, Clone)]
pub struct Admission {
    inner: Arc<Shared>,
    /// What all streams share that are not in the access log.
    unlogged: Arc<GuardTarget>,
    /// The streaming publishes.
    publishes: Budget,
}

#[derive(Debug)]
pub(super) struct Shared {
    streams_max: AtomicUsize,
    /// Streams that are open, including rejected ones whose connection is not closed yet.
    open: AtomicUsize,
    metrics: Metrics,
}

impl Shared {
    pub(super) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts one stream less.
    pub(super) fn release(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a new stream ends at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// Too many streams are open, or too many channels have streams.
    Limit,
    /// The caller has used up its quota.
    RateLimited,
    /// The server is draining.
    Draining,
    /// The credential cannot be verified now.
    AccessUnavailable,
}

impl RejectReason {
    const ALL: [Self; 4] = [
        Self::Limit,
        Self::RateLimited,
        Self::Draining,
        Self::AccessUnavailable,
    ];

    /// Value of the label `reason` in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::RateLimited => "rate_limited",
            Self::Draining => "draining",
            Self::AccessUnavailable => "access_unavailable",
        }
    }
}

/// Outcome for one new stream.
#[derive(Debug)]
pub enum AdmissionDecision {
    /// The stream may open. The guard counts it.
    Admitted(StreamGuard),
    /// The stream must end at once. The guard counts it until its connection is closed.
    Rejected(StreamGuard, RejectReason),
    /// The connection must be closed without a response.
    Dropped,
}

impl Admission {
    /// Admits up to `streams_max` streams at a time.
    #[must_use]
    pub fn new(streams_max: usize, metrics: Metrics) -> Self {
        let closed = CloseReason::ALL.map(CloseReason::as_str);
        let rejected = RejectReason::ALL.map(RejectReason::as_str);
        metrics.create_stream_reasons(rejected.into_iter().chain([DROPPED]), closed);
        let inner = Arc::new(Shared {
            streams_max: AtomicUsize::new(streams_max),
            open: AtomicUsize::new(0),
            metrics,
        });
        let unlogged = GuardTarget::of_all(inner.clone());
        Self {
            inner,
            unlogged,
            publishes: Budget::new(streams_max, streams_max.div_ceil(CLIENT_PART)),
        }
    }

    /// Returns how many streams may be open at a time.
    #[must_use]
    pub fn streams_max(&self) -> usize {
        self.inner.streams_max.load(Ordering::Relaxed)
    }

    /// Replaces the limit. No open stream is closed for it.
    pub fn set_streams_max(&self, streams_max: usize) {
        self.inner.streams_max.store(streams_max, Ordering::Relaxed);
    }

    /// Decides on a new stream; `resumes` if its client sent a last event id.
    ///
    /// A stream with a reason to reject it opens only for the end of its response.
    #[must_use]
    pub fn admit(&self, resumes: bool, reject: Option<RejectReason>) -> AdmissionDecision {
        let inner = &*self.inner;
        let streams_max = inner.streams_max.load(Ordering::Relaxed);
        let rejected_max = streams_max.div_ceil(10);
        let open_before = inner.open.fetch_add(1, Ordering::Relaxed);
        if reject.is_none() && open_before < streams_max {
            AdmissionDecision::Admitted(self.open_stream(resumes))
        } else if open_before < streams_max.saturating_add(rejected_max) {
            let reason = reject.unwrap_or(RejectReason::Limit);
            self.report_rejected(reason.as_str());
            AdmissionDecision::Rejected(self.open_stream(false), reason)
        } else {
            inner.open.fetch_sub(1, Ordering::Relaxed);
            self.report_rejected(DROPPED);
            AdmissionDecision::Dropped
        }
    }

    /// Admits one more streaming publish of `client`; returns `None` if too many streams are open, or
    /// too many streaming publishes of this client.
    pub(crate) fn admit_publish(&self, client: Option<ClientNet>) -> Option<PublishPermit> {
        let share = self.publishes.try_acquire(client, 1)?;
        let inner = &self.inner;
        let streams_max = inner.streams_max.load(Ordering::Relaxed);
        if inner.open.fetch_add(1, Ordering::Relaxed) < streams_max {
            return Some(PublishPermit::new(inner.clone(), share));
        }
        inner.release();
        None
    }

    fn report_rejected(&self, reason: &'static str) {
        let event = StreamEvent::Rejected { reason };
        self.inner.metrics.record_stream_event(event);
    }

    fn open_stream(&self, resumes: bool) -> StreamGuard {
        let event = StreamEvent::Opened { resumes };
        self.inner.metrics.record_stream_event(event);
        StreamGuard::new(self.unlogged.clone())
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
            match admission.admit(false, None) {
                AdmissionDecision::Admitted(guard) => admitted.push(guard),
                AdmissionDecision::Rejected(guard, _) => rejected.push(guard),
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
            admission.admit(false, None),
            AdmissionDecision::Rejected(..)
        ));
        drop(transferred);
        assert!(matches!(
            admission.admit(false, None),
            AdmissionDecision::Admitted(_)
        ));
    }

    #[test]
    fn streaming_publishes_count_as_streams_and_a_client_may_have_a_quarter() {
        let metrics = Metrics::new();
        let admission = Admission::new(8, metrics.clone());
        let client = |last| Some(ClientNet::from(std::net::IpAddr::from([192, 0, 2, last])));
        let first = [(); 3].map(|()| admission.admit_publish(client(1)));
        assert_eq!(first.each_ref().map(Option::is_some), [true, true, false]);
        assert!(metrics.render().contains("sse_streaming_publishes 2\n"));
        let streams: Vec<_> = (0..5).map(|_| admission.admit(false, None)).collect();
        let last = admission.admit_publish(client(2));
        assert!(last.is_some() && admission.admit_publish(client(3)).is_none());
        drop(streams);
        drop(first);
        assert!(admission.admit_publish(client(1)).is_some());
    }
}
