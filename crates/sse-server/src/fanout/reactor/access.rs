//! Ends the streams whose callers may no longer read them.
//!
//! Twice a second the thread asks each [`StreamCaller`](crate::fanout::stream_caller::StreamCaller)
//! in slices, like all other work. Without access rules streams have no caller, and nothing is done.

use std::time::{Duration, Instant};

use super::Reactor;

/// Pause between the starts of two sweeps. A revocation takes effect within a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// A sweep over the streams that have a caller.
#[derive(Debug, Default)]
pub(super) struct AccessSweep {
    /// When the next sweep starts; `None` while no stream has had a caller.
    due: Option<Instant>,
    /// Streams that are not checked yet. Another stream may have a key by now.
    keys: Vec<usize>,
}

impl AccessSweep {
    /// Returns when there is something to check; `None` if there never was.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.keys.is_empty() {
            self.due
        } else {
            Some(now)
        }
    }

    /// Starts the sweeps with the first stream that has a caller.
    pub(super) fn start(&mut self, now: Instant) {
        self.due.get_or_insert(now + INTERVAL);
    }
}

impl Reactor<'_> {
    /// Checks the next stream. Returns `false` if none is left in this sweep.
    pub(super) fn check_next_caller(&mut self, _: Instant) -> bool {
        if self.access_sweep.keys.is_empty() && !self.start_access_sweep() {
            return false;
        }
        let Some(key) = self.access_sweep.keys.pop() else {
            return false;
        };
        let Some(connection) = self.connections.get(key) else {
            return true;
        };
        let channels = connection.state.subscription.channels();
        let reason = connection
            .guard
            .caller()
            .and_then(|caller| caller.end_reason(channels));
        match reason {
            // The rest of its block must not arrive either.
            Some(reason) if connection.is_blocked() => self.close_stream(key, reason),
            Some(reason) => self.end_stream(key, reason),
            None => {}
        }
        true
    }

    fn start_access_sweep(&mut self) -> bool {
        let now = self.now;
        if self.access_sweep.due.is_none_or(|due| due > now) {
            return false;
        }
        let connections = self.connections.iter();
        let with_caller = connections.filter(|(_, connection)| connection.guard.caller().is_some());
        self.access_sweep = AccessSweep {
            due: Some(now + INTERVAL),
            keys: with_caller.map(|(key, _)| key).collect(),
        };
        true
    }
}
