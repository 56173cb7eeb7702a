//! What the dashboard and traces show about streams: gaps that they were sent, and why they ended.

use super::GuardTarget;
use crate::{
    metrics::recent::{Description, IncidentKind},
    trace::Happening,
};

impl GuardTarget {
    /// Records that the client was sent a gap.
    pub(super) fn record_gap(&self, reason: &'static str) {
        let recent = self.admission.metrics().recent();
        recent.problem(IncidentKind::Gap, reason, || self.description());
        if let Some(trace) = &self.details.trace {
            trace.record(&Happening::Gap { reason });
        }
    }

    /// Records the end of the stream; `None` if it was rejected, or over before its first byte.
    pub(super) fn record_close(&self, reason: Option<&'static str>) {
        if let Some(reason) = reason {
            let recent = self.admission.metrics().recent();
            recent.stream(IncidentKind::Closed, reason, || self.description());
            if let Some(trace) = &self.details.trace {
                trace.record(&Happening::StreamEnded { reason });
            }
        }
    }

    fn description(&self) -> Description {
        let caller = self.details.caller.as_ref();
        Description {
            caller: caller.map(|caller| caller.describe()),
            detail: None,
        }
    }
}
