//! What memory holds of the log: the contents of the small tables, as of the last commit.
//!
//! The state in memory changes only after a transaction is on disk. A commit batch collects its
//! changes in a [`CommittedChange`]. The writer applies the change after the commit, or drops it if
//! the commit failed. Readers get the last ids of channels from the same state, without a
//! transaction.

use std::{collections::HashMap, ops::Range, sync::Arc};

use sse_proto::{Channel, EventId, Position, api::Lost};

use super::{committed_channels::Channels, key_record::KeyCount, staged_channels::ChannelChanges};
use crate::{broker::clock::Clock, metrics::LogSize};

/// The state of the log as of the last commit.
#[derive(Debug)]
pub(super) struct CommittedState {
    pub(super) channels: Channels,
    pub(super) clock: Clock,
    /// The numbers of the next new channels.
    pub(super) numbers: Range<u32>,
    /// Where all other new channels begin: after every channel whose last id is no longer known.
    pub(super) origin: EventId,
    /// Bytes of all events.
    pub(super) bytes: u64,
    /// The ranges of ids that restores have lost. They do not change while the log is open.
    pub(super) lost_ranges: Arc<[Lost]>,
}

/// The changes of one commit batch. `None` removes an entry.
#[derive(Debug)]
pub(super) struct CommittedChange {
    pub(super) channels: ChannelChanges,
    /// The key counts that changed. A count of zero removes the entry.
    pub(super) key_counts: HashMap<u32, KeyCount>,
    pub(super) clock: Clock,
    pub(super) numbers: Range<u32>,
    pub(super) origin: EventId,
    pub(super) bytes: u64,
    /// True if the batch did not trim everything, because it had reached the limit of one commit.
    pub(super) more_to_trim: bool,
}

impl CommittedState {
    /// Applies a change that is on disk.
    pub(super) fn apply(&mut self, change: CommittedChange) {
        self.channels.apply(change.channels, change.key_counts);
        self.clock = change.clock;
        self.numbers = change.numbers;
        self.origin = change.origin;
        self.bytes = change.bytes;
    }

    /// Returns how much the log holds.
    pub(super) const fn size(&self) -> LogSize {
        LogSize {
            channels: self.channels.count(),
            events: self.channels.events(),
            bytes: self.bytes,
            keys: self.channels.keys().total(),
        }
    }

    /// Returns the last id of `channel`. A channel without events has the id after which it begins.
    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        let last = self.channels.row(channel).map(|row| row.last);
        let forgotten = || self.channels.forgotten().get(channel);
        let tombstone = || {
            self.channels
                .tombstones()
                .get(channel)
                .map(|tombstone| tombstone.at)
        };
        last.or_else(forgotten)
            .or_else(tombstone)
            .unwrap_or(self.origin)
    }

    /// Returns the last id of `channel`, that of its end included.
    pub(super) fn newest(&self, channel: &Channel) -> EventId {
        let end = self
            .channels
            .life(channel)
            .and_then(|life| life.end.as_ref());
        end.map_or_else(|| self.last_id(channel), |end| end.id)
    }

    /// Whether a client at `position` has seen the end of `channel`.
    pub(super) fn is_ended(&self, channel: &Channel, position: Position) -> bool {
        // The lost part may have had another incarnation of the channel.
        if self.is_lost(position) {
            return false;
        }
        let end = self
            .channels
            .life(channel)
            .and_then(|life| life.end.as_ref());
        let tombstone = self.channels.tombstones().get(channel);
        end.is_some_and(|end| end.is_seen_at(position))
            || tombstone.is_some_and(|tombstone| tombstone.is_ended(position))
    }

    /// Whether the position is in a range that a restore has lost.
    fn is_lost(&self, position: Position) -> bool {
        let (Position::After(id) | Position::At(id)) = position;
        let mut ranges = self.lost_ranges.iter();
        ranges.any(|lost| lost.after < id && id < lost.before)
    }

    /// Whether the channel has, or had, events.
    pub(super) fn contains(&self, channel: &Channel) -> bool {
        self.channels.row(channel).is_some() || self.channels.forgotten().contains(channel)
    }

    /// Returns the highest assigned or passed id. No id up to it will be assigned.
    pub(super) const fn highest(&self) -> EventId {
        self.clock.highest()
    }
}

impl CommittedChange {
    /// A change of `state` that changes nothing yet.
    pub(super) fn new(state: &CommittedState) -> Self {
        Self {
            channels: ChannelChanges::default(),
            key_counts: HashMap::new(),
            clock: state.clock,
            numbers: state.numbers.clone(),
            origin: state.origin,
            bytes: state.bytes,
            more_to_trim: false,
        }
    }
}
