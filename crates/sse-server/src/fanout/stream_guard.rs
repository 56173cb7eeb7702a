//! What every open stream has: a count, and what is reported about it.
//!
//! A [`StreamGuard`] counts one stream for [`admission`](super::admission), knows when the stream
//! must end, and reports what happens to the stream to the metrics and to the access log by direct
//! calls. A server has very many guards, so what only some streams have is behind one pointer.

use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};

use sse_proto::api::GapReason;

use super::{admission::Shared, deadline::Deadline, drain::Drain, stream_caller::StreamCaller};
use crate::{
    access_log::StreamRecord, budget::ClientNet, metrics::StreamEvent, quota::StreamPermit,
    trace::TracedStream,
};

/// Time before the end of a right at which its client is warned.
const WARNING: Duration = Duration::from_mins(1);

/// Where a guard reports to.
///
/// A guard has one pointer for both, so that a stream is no larger if the access log is off.
#[derive(Debug)]
pub(super) struct GuardTarget {
    admission: Arc<Shared>,
    details: StreamDetails,
}

impl GuardTarget {
    /// The target of all streams without details.
    pub(super) fn of_all(admission: Arc<Shared>) -> Arc<Self> {
        let details = StreamDetails::default();
        Arc::new(Self { admission, details })
    }
}

/// What a guard keeps of a stream that has more than a count. Most streams have nothing of it, and
/// share one target.
#[derive(Debug, Default)]
pub struct StreamDetails {
    /// The stream's own record; `None` if the stream is not in the access log.
    pub record: Option<StreamRecord>,
    /// The client, if it is another one than the peer of the connection.
    pub client: Option<Box<ClientNet>>,
    /// Counts the stream for its caller; `None` if the caller has no limit.
    pub permit: Option<Box<StreamPermit>>,
    /// Who opened the stream; `None` without access rules.
    pub caller: Option<Arc<StreamCaller>>,
    /// Reports to the open traces; `None` if none was open when the stream was opened.
    pub trace: Option<Box<TracedStream>>,
}

impl StreamDetails {
    const fn is_empty(&self) -> bool {
        self.record.is_none()
            && self.client.is_none()
            && self.permit.is_none()
            && self.caller.is_none()
            && self.trace.is_none()
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
    /// No event up to `until` can appear any more, or all channels of the stream have ended.
    UntilReached,
    /// The credential has expired.
    Expired,
    /// The credential was revoked, or no longer grants what the stream reads.
    RightLost,
    /// An operator closed the stream.
    Closed,
    /// The stream has been open for `--stream-life`.
    Life,
    /// The server is draining.
    Drain,
    /// The server is stopping.
    Shutdown,
}

impl CloseReason {
    pub(super) const ALL: [Self; 13] = [
        Self::Client,
        Self::Stalled,
        Self::BlockedBytes,
        Self::Unreachable,
        Self::TooMuchInput,
        Self::TlsKeysUsed,
        Self::UntilReached,
        Self::Expired,
        Self::RightLost,
        Self::Closed,
        Self::Life,
        Self::Drain,
        Self::Shutdown,
    ];

    /// Whether the server ends the stream although its client wants more.
    pub(super) const fn expects_reconnect(self) -> bool {
        matches!(self, Self::Life | Self::Drain | Self::Shutdown)
    }

    /// Value of the label `reason` in the metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Stalled => "stalled",
            Self::BlockedBytes => "blocked_bytes",
            Self::Unreachable => "unreachable",
            Self::TooMuchInput => "too_much_input",
            Self::TlsKeysUsed => "tls_keys_used",
            Self::UntilReached => "until_reached",
            Self::Expired => "expired",
            Self::RightLost => "right_lost",
            Self::Closed => "closed",
            Self::Life => "life",
            Self::Drain => "drain",
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
    ends_at: Deadline,
    /// Why the stream ends then.
    end_reason: CloseReason,
    /// The client is to be warned before that.
    warns: bool,
}

impl StreamGuard {
    pub(super) const fn new(target: Arc<GuardTarget>) -> Self {
        Self {
            target: Some(target),
            is_behind: false,
            close_reason: None,
            ends_at: Deadline::NEVER,
            end_reason: CloseReason::Client,
            warns: false,
        }
    }

    /// Moves the count to the returned guard; this guard no longer counts or reports anything.
    #[must_use]
    pub fn transfer(&mut self) -> Self {
        Self {
            target: self.target.take(),
            is_behind: std::mem::take(&mut self.is_behind),
            close_reason: self.close_reason.take(),
            ends_at: self.ends_at,
            end_reason: self.end_reason,
            warns: self.warns,
        }
    }

    /// Sets what the stream has beyond a count.
    pub fn set_details(&mut self, details: StreamDetails) {
        if let Some(target) = self.target.as_ref().filter(|_| !details.is_empty()) {
            self.target = Some(Arc::new(GuardTarget {
                admission: target.admission.clone(),
                details,
            }));
        }
    }

    fn details(&self) -> Option<&StreamDetails> {
        Some(&self.target.as_ref()?.details)
    }

    /// Returns the record of the stream, if the stream is in the access log.
    fn record(&self) -> Option<&StreamRecord> {
        self.details()?.record.as_ref()
    }

    /// Returns who opened the stream; `None` without access rules.
    pub(super) fn caller(&self) -> Option<&Arc<StreamCaller>> {
        self.details()?.caller.as_ref()
    }

    /// Returns the client; `None` if it is the peer of the connection.
    pub(super) fn client(&self) -> Option<ClientNet> {
        self.details()?.client.as_deref().copied()
    }

    /// Counts what was handed to the connection.
    pub fn record_delivery(&self, events: usize, bytes: usize) {
        if let Some(target) = &self.target {
            target.admission.metrics().delivered(events, bytes);
        }
        self.record_bytes(bytes);
    }

    /// Counts bytes for the access log and for the list of streams.
    pub fn record_bytes(&self, bytes: usize) {
        let Some(details) = self.details() else {
            return;
        };
        if let Some(record) = &details.record {
            record.add_bytes(bytes);
        }
        if let Some(caller) = &details.caller {
            caller.add_bytes(bytes);
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
        if let Some(target) = &self.target {
            target.record_gap(reason.as_str());
        }
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

    /// Lets the stream end at this moment, unless it ends earlier.
    pub fn end_by(&mut self, at: Instant, reason: CloseReason) {
        self.lower_end(at, reason, false);
    }

    /// Lets the stream end at this moment, unless it ends earlier, because a right of its client
    /// expires. A client with notices learns that a minute before.
    pub fn expire_at(&mut self, at: Instant, reason: CloseReason) {
        self.lower_end(at, reason, true);
    }

    fn lower_end(&mut self, at: Instant, reason: CloseReason, warns: bool) {
        let at = Deadline::at(at);
        if at < self.ends_at {
            (self.ends_at, self.end_reason, self.warns) = (at, reason, warns);
        }
    }

    /// Lets the stream end within the drain, if it has begun.
    pub(super) fn plan_drain(&mut self, drain: &Drain, now: Instant) {
        if let Some(end) = drain.next_end(now) {
            self.end_by(end, CloseReason::Drain);
        }
    }

    /// Returns when the stream ends; `None` if it has no such moment.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.ends_at.instant()
    }

    /// Returns when the stream ends, and why; `None` if it has no such moment.
    pub(super) fn end(&self) -> Option<(Instant, CloseReason)> {
        Some((self.ends_at()?, self.end_reason))
    }

    /// Returns when there is next something to do; `None` if the stream has no moment.
    pub(super) fn next_moment(&self) -> Option<Instant> {
        let end = self.ends_at()?;
        let warning = end.checked_sub(WARNING).filter(|_| self.warns);
        Some(warning.unwrap_or(end))
    }

    /// Returns how long the right of the client is valid, once, when it is about to expire.
    pub(super) fn take_warning(&mut self, now: Instant) -> Option<Duration> {
        let left = self.ends_at()?.saturating_duration_since(now);
        let is_due = self.warns && left <= WARNING;
        self.warns &= !is_due;
        is_due.then_some(left)
    }

    /// Returns why the stream ends now; `None` if its moment has not come.
    pub(super) fn due_end(&self, now: Instant) -> Option<CloseReason> {
        self.ends_at.is_over(now).then_some(self.end_reason)
    }

    fn report(&self, event: StreamEvent) {
        if let Some(target) = &self.target {
            target.admission.metrics().record_stream_event(event);
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.set_behind(false);
        let Some(target) = &self.target else {
            return;
        };
        target.admission.release();
        let reason = self.close_reason.map(CloseReason::as_str);
        self.report(StreamEvent::Closed { reason });
        target.record_close(reason);
        if let Some(record) = &target.details.record {
            record.record_end(reason);
        }
    }
}

mod incidents;
#[cfg(test)]
mod tests;
