//! The last id of each channel, as of the last commit, and the log's clock. Readers get them without
//! a transaction.

use std::{collections::HashMap, sync::Arc};

use sse_proto::{Channel, EventId, Position, api::Lost};

use super::committed_state::{CommittedChange, CommittedState};
use crate::broker::lifecycle::{ChannelLife, Tombstone};

/// The last ids of all channels.
#[derive(Debug)]
pub(super) struct LastIds {
    by_channel: HashMap<Channel, EventId>,
    /// The closed channels and those with settings.
    lives: HashMap<Channel, Arc<ChannelLife>>,
    tombstones: HashMap<Channel, Tombstone>,
    /// The last id of every channel that is not in `by_channel`.
    origin: EventId,
    /// The highest id that the log's clock has assigned or passed.
    highest: EventId,
    /// Bytes of all events.
    bytes: u64,
    lost_ranges: Arc<[Lost]>,
}

impl LastIds {
    pub(super) fn new(state: &CommittedState) -> Self {
        Self {
            by_channel: state.last_ids(),
            lives: state.channels.lives().clone(),
            tombstones: state.channels.tombstones().clone(),
            origin: state.origin,
            highest: state.clock.highest(),
            bytes: state.bytes,
            lost_ranges: state.lost_ranges.clone(),
        }
    }

    /// Applies a change that is on disk.
    pub(super) fn apply(&mut self, change: &CommittedChange) {
        self.origin = change.origin;
        self.highest = change.clock.highest();
        self.bytes = change.bytes;
        for (channel, last) in change.last_ids() {
            match last {
                Some(last) => drop(self.by_channel.insert(channel.clone(), last)),
                None => drop(self.by_channel.remove(channel)),
            }
        }
        apply_changes(&mut self.lives, &change.channels.lives);
        apply_changes(&mut self.tombstones, &change.channels.tombstones);
    }

    /// Shows that the log's clock has passed `highest`.
    pub(super) const fn set_highest(&mut self, highest: EventId) {
        self.highest = highest;
    }

    /// Returns the last id of `channel`. A channel without events has the id after which it begins.
    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        let last = self.by_channel.get(channel).copied();
        let tombstone = || self.tombstones.get(channel).map(|tombstone| tombstone.at);
        last.or_else(tombstone).unwrap_or(self.origin)
    }

    /// Returns the last id of `channel`, that of its end included.
    pub(super) fn newest(&self, channel: &Channel) -> EventId {
        let end = self.lives.get(channel).and_then(|life| life.end.as_ref());
        end.map_or_else(|| self.last_id(channel), |end| end.id)
    }

    /// Whether a client at `position` has seen the end of `channel`.
    pub(super) fn is_ended(&self, channel: &Channel, position: Position) -> bool {
        // The lost part may have had another incarnation of the channel.
        if self.is_lost(position) {
            return false;
        }
        let end = self.lives.get(channel).and_then(|life| life.end.as_ref());
        let tombstone = self.tombstones.get(channel);
        end.is_some_and(|end| end.is_seen_at(position))
            || tombstone.is_some_and(|tombstone| tombstone.is_ended(position))
    }

    /// Whether the position is in a range that a restore has lost.
    fn is_lost(&self, position: Position) -> bool {
        let (Position::After(id) | Position::At(id)) = position;
        let mut ranges = self.lost_ranges.iter();
        ranges.any(|lost| lost.after < id && id < lost.before)
    }

    /// Returns the bytes of all events.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
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

fn apply_changes<V: Clone>(
    entries: &mut HashMap<Channel, V>,
    changes: &HashMap<Channel, Option<V>>,
) {
    for (channel, change) in changes {
        match change {
            Some(value) => drop(entries.insert(channel.clone(), value.clone())),
            None => drop(entries.remove(channel)),
        }
    }
}
