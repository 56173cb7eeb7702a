//! The last id of each channel, as of the last commit, and the log's clock. Readers get them without
//! a transaction.

use std::collections::HashMap;

use sse_proto::{Channel, EventId};

use super::committed_state::{CommittedChange, CommittedState};

/// The last ids of all channels.
#[derive(Debug)]
pub(super) struct LastIds {
    by_channel: HashMap<Channel, EventId>,
    /// The last id of every channel that is not in `by_channel`.
    origin: EventId,
    /// The highest id that the log's clock has assigned or passed.
    highest: EventId,
}

impl LastIds {
    pub(super) fn new(state: &CommittedState) -> Self {
        Self {
            by_channel: state.last_ids(),
            origin: state.origin,
            highest: state.clock.highest(),
        }
    }

    /// Applies a change that is on disk.
    pub(super) fn apply(&mut self, change: &CommittedChange) {
        self.origin = change.origin;
        self.highest = change.clock.highest();
        for (channel, last) in change.last_ids() {
            match last {
                Some(last) => drop(self.by_channel.insert(channel.clone(), last)),
                None => drop(self.by_channel.remove(channel)),
            }
        }
    }

    /// Shows that the log's clock has passed `highest`.
    pub(super) const fn set_highest(&mut self, highest: EventId) {
        self.highest = highest;
    }

    /// Returns the last id of `channel`. A channel without events has the id after which it begins.
    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        self.by_channel.get(channel).copied().unwrap_or(self.origin)
    }

    /// Whether the channel has, or had, events.
    pub(super) fn contains(&self, channel: &Channel) -> bool {
        self.by_channel.contains_key(channel)
    }

    /// Returns the highest assigned or passed id. No id up to it will be assigned.
    pub(super) const fn highest(&self) -> EventId {
        self.highest
    }
}
