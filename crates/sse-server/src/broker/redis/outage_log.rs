//! Pairs the log lines of an outage: one when a connection breaks, and one when it works again.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether an outage was logged that has not ended yet.
#[derive(Debug, Default)]
pub(super) struct OutageLog {
    is_logged: AtomicBool,
}

impl OutageLog {
    /// Records a failure. Returns true if it must be logged, because it begins an outage.
    pub(super) fn record_failure(&self) -> bool {
        !self.is_logged.swap(true, Ordering::Relaxed)
    }

    /// Records a success. Returns true if it must be logged, because it ends an outage that was
    /// logged.
    pub(super) fn record_success(&self) -> bool {
        self.is_logged.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_one_line_at_its_beginning_and_one_at_its_end() {
        let outage = OutageLog::default();
        assert!(!outage.record_success());
        assert!(outage.record_failure() && !outage.record_failure());
        assert!(outage.record_success() && !outage.record_success());
        assert!(outage.record_failure());
    }
}
