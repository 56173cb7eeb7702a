//! What the writer knows about the log: the contents of the small tables, as of the last commit.
//!
//! The state in memory changes only after a transaction is on disk. A commit batch collects its
//! changes in a [`CommittedChange`]. The writer applies the change after the commit, or drops it if
//! the commit failed.

use std::{collections::HashMap, sync::Arc};

use sse_proto::{Channel, EventId, api::Lost};

use super::{committed_channels::Channels, key_record::KeyCount, staged_channels::ChannelChanges};
use crate::{broker::clock::Clock, metrics::LogSize};

/// The state of the log as of the last commit.
#[derive(Debug)]
pub(super) struct CommittedState {
    pub(super) channels: Channels,
    pub(super) clock: Clock,
    /// The number of the next new channel.
    pub(super) next_number: u32,
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
    pub(super) next_number: u32,
    pub(super) origin: EventId,
    pub(super) bytes: u64,
    /// Channels that may be due, each from a time on.
    pub(super) due: Vec<(u64, Channel)>,
    /// True if the batch did not trim everything, because it had reached the limit of one commit.
    pub(super) more_to_trim: bool,
}

impl CommittedState {
    /// Applies a change that is on disk.
    pub(super) fn apply(&mut self, change: CommittedChange) {
        self.channels.apply(change.channels, change.key_counts);
        self.clock = change.clock;
        self.next_number = change.next_number;
        self.origin = change.origin;
        self.bytes = change.bytes;
    }

    /// Returns how much the log holds.
    pub(super) fn size(&self) -> LogSize {
        LogSize {
            channels: self.channels.rows().len(),
            events: self.channels.events(),
            bytes: self.bytes,
            keys: self.channels.keys(),
        }
    }

    /// Returns the last ids of all channels, including forgotten ones.
    pub(super) fn last_ids(&self) -> HashMap<Channel, EventId> {
        let mut last_ids = self.channels.forgotten().clone();
        for (channel, row) in self.channels.rows() {
            last_ids.insert(channel.clone(), row.last);
        }
        last_ids
    }
}

impl CommittedChange {
    /// A change of `state` that changes nothing yet.
    pub(super) fn new(state: &CommittedState) -> Self {
        Self {
            channels: ChannelChanges::default(),
            key_counts: HashMap::new(),
            due: Vec::new(),
            clock: state.clock,
            next_number: state.next_number,
            origin: state.origin,
            bytes: state.bytes,
            more_to_trim: false,
        }
    }

    /// Returns the channels whose last id changed, with that id. The id is `None` if nothing is
    /// known about the channel any more.
    pub(super) fn last_ids(&self) -> impl Iterator<Item = (&Channel, Option<EventId>)> {
        let (rows, last_ids) = (&self.channels.rows, &self.channels.last_ids);
        let changed = rows
            .iter()
            .filter(|(channel, row)| row.is_some() || !last_ids.contains_key(*channel))
            .map(|(channel, row)| (channel, row.map(|row| row.last)));
        let forgotten = last_ids
            .iter()
            .filter(|(channel, _)| !rows.get(*channel).is_some_and(Option::is_some));
        changed.chain(forgotten.map(|(channel, last)| (channel, *last)))
    }
}
