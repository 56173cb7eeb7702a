//! Lines of the access log and of the audit log that were dropped.

use prometheus_client::registry::Registry;

use super::{Count, Metrics};

/// The metrics.
#[derive(Debug, Default)]
pub(super) struct DroppedLines {
    access_log: Count,
    audit_log: Count,
}

impl DroppedLines {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "access_log_dropped",
            "Lines of the access log that were dropped",
            self.access_log.clone(),
        );
        registry.register(
            "audit_log_dropped",
            "Lines of the audit log that were dropped",
            self.audit_log.clone(),
        );
    }
}

impl Metrics {
    /// Counts lines of the access log that were dropped.
    pub fn access_lines_dropped(&self, lines: usize) {
        self.0.dropped_lines.access_log.inc_by(lines as u64);
    }

    /// Counts lines of the audit log that were dropped.
    pub fn audit_lines_dropped(&self, lines: usize) {
        self.0.dropped_lines.audit_log.inc_by(lines as u64);
    }
}
