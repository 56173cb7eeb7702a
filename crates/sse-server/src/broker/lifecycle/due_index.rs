//! The index of channels that may be due.
//!
//! An entry is a lower bound: a write moves the due time of a channel further, and leaves the entry.
//! A channel that comes up is checked, and expires or is indexed again.

use std::collections::BTreeSet;

use sse_proto::Channel;

/// Channels in the order of the time from which they may be due.
#[derive(Debug, Default)]
pub(in crate::broker) struct DueIndex(BTreeSet<(u64, Channel)>);

impl DueIndex {
    /// Adds a channel that is not due before `due_ms`.
    pub(in crate::broker) fn add(&mut self, channel: &Channel, due_ms: u64) {
        self.0.insert((due_ms, channel.clone()));
    }

    /// Whether no channel can be due.
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes and returns a channel that may be due at `log_ms`.
    pub(in crate::broker) fn pop(&mut self, log_ms: u64) -> Option<Channel> {
        if self.0.first()?.0 > log_ms {
            return None;
        }
        self.0.pop_first().map(|(_, channel)| channel)
    }
}
