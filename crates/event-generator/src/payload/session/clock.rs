//! Virtual time as timestamps.

use chrono::{DateTime, SecondsFormat};

/// Maps virtual time to time since the Unix epoch.
#[derive(Debug, Default)]
pub(super) struct VirtualClock {
    /// Unix time and virtual time of the first event, both in microseconds.
    start: Option<(u64, u64)>,
    last_us: u64,
}

impl VirtualClock {
    /// Returns the time of an event in microseconds since the Unix epoch.
    ///
    /// The first event has the time `due_us`. Each timestamp is later than the one before, although
    /// two users may act in the same microsecond.
    pub(super) fn timestamp_us(&mut self, virtual_us: u64, due_us: u64) -> u64 {
        let (start_us, start) = *self.start.get_or_insert((due_us, virtual_us));
        let time_us = start_us.saturating_add(virtual_us.saturating_sub(start));
        self.last_us = time_us.max(self.last_us.saturating_add(1));
        self.last_us
    }
}

/// Formats a time as RFC 3339, in UTC, with microseconds.
pub(super) fn format_timestamp(unix_us: u64) -> String {
    let time = i64::try_from(unix_us)
        .ok()
        .and_then(DateTime::from_timestamp_micros)
        .unwrap_or(DateTime::UNIX_EPOCH);
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
