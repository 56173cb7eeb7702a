//! The channels of the log as of the last commit, and the orders in which the writer searches them.
//!
//! The writer creates channels, forgets idle ones and trims the oldest events of all. None of these
//! looks at every channel:
//!
//! | order | channels | id |
//! |---|---|---|
//! | `idle` | those with at most one event and without keys | the last id |
//! | `with_events` | those with events | the oldest event |
//! | `noted` | forgotten ones | the last id |
//! | `buried` | deleted ones | the deletion |

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use sse_proto::{Channel, EventId};

use super::{key_record::KeyCount, record::ChannelRow, staged_channels::ChannelChanges};
use crate::broker::{
    id_order::IdOrder,
    lifecycle::{ChannelLife, Tombstone},
};

/// All channels of the log.
#[derive(Debug, Default)]
pub(super) struct Channels {
    rows: HashMap<Channel, ChannelRow>,
    /// Number of events in all channels.
    events: u64,
    /// Number of keys per channel, by the channel's number. Channels without keys have no entry.
    key_counts: HashMap<u32, KeyCount>,
    /// Number of keys in all channels.
    keys: u64,
    /// The last ids of forgotten channels. A channel that is created again begins there.
    forgotten: HashMap<Channel, EventId>,
    by_number: HashMap<u32, Channel>,
    idle: IdOrder,
    with_events: IdOrder,
    noted: IdOrder,
    /// The lives of channels that have one.
    lives: HashMap<Channel, Arc<ChannelLife>>,
    tombstones: HashMap<Channel, Tombstone>,
    buried: IdOrder,
    /// The numbers of deleted channels whose events are still in the file.
    deleted: BTreeSet<u32>,
}

impl Channels {
    /// Applies changes. `None` removes an entry, and so does a count of zero.
    pub(super) fn apply(
        &mut self,
        changes: ChannelChanges,
        key_counts: impl IntoIterator<Item = (u32, KeyCount)>,
    ) {
        for (channel, row) in changes.rows {
            self.set_row(channel, row);
        }
        for (number, key_count) in key_counts {
            self.set_key_count(number, key_count);
        }
        for (channel, last) in changes.last_ids {
            self.set_forgotten(channel, last);
        }
        for (channel, life) in changes.lives {
            set_entry(&mut self.lives, channel, life);
        }
        for (channel, tombstone) in changes.tombstones {
            let old = self.tombstones.get(&channel).map(|old| old.at);
            let new = tombstone.map(|tombstone| tombstone.at);
            self.buried.replace(&channel, old, new);
            set_entry(&mut self.tombstones, channel, tombstone);
        }
        for (number, is_left) in changes.deleted {
            if is_left {
                self.deleted.insert(number);
            } else {
                self.deleted.remove(&number);
            }
        }
    }

    pub(super) const fn lives(&self) -> &HashMap<Channel, Arc<ChannelLife>> {
        &self.lives
    }

    pub(super) const fn tombstones(&self) -> &HashMap<Channel, Tombstone> {
        &self.tombstones
    }

    pub(super) const fn buried(&self) -> &IdOrder {
        &self.buried
    }

    pub(super) const fn deleted(&self) -> &BTreeSet<u32> {
        &self.deleted
    }

    pub(super) const fn rows(&self) -> &HashMap<Channel, ChannelRow> {
        &self.rows
    }

    /// The number of events in all channels.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// The number of idempotency keys in all channels.
    pub(super) const fn keys(&self) -> u64 {
        self.keys
    }

    pub(super) const fn key_counts(&self) -> &HashMap<u32, KeyCount> {
        &self.key_counts
    }

    pub(super) const fn forgotten(&self) -> &HashMap<Channel, EventId> {
        &self.forgotten
    }

    pub(super) const fn idle(&self) -> &IdOrder {
        &self.idle
    }

    pub(super) const fn with_events(&self) -> &IdOrder {
        &self.with_events
    }

    pub(super) const fn noted(&self) -> &IdOrder {
        &self.noted
    }

    fn set_row(&mut self, channel: Channel, row: Option<ChannelRow>) {
        let old = self.rows.get(&channel).copied();
        let count = |row: Option<ChannelRow>| row.map_or(0, |row| row.count);
        self.events = self.events + count(row) - count(old);
        self.with_events.replace(
            &channel,
            old.and_then(oldest_event),
            row.and_then(oldest_event),
        );
        let idle_since = row.and_then(|row| self.idle_since(&row));
        self.idle
            .replace(&channel, old.map(|row| row.last), idle_since);
        if let Some(old) = old {
            self.by_number.remove(&old.number);
        }
        if let Some(row) = row {
            self.by_number.insert(row.number, channel.clone());
        }
        set_entry(&mut self.rows, channel, row);
    }

    fn set_key_count(&mut self, number: u32, key_count: KeyCount) {
        let old = self.key_counts.get(&number).map_or(0, |old| old.count);
        self.keys = (self.keys + key_count.count).saturating_sub(old);
        set_entry(&mut self.key_counts, number, key_count.if_any());
        let Some(channel) = self.by_number.get(&number) else {
            return;
        };
        let row = self.rows.get(channel);
        let idle_since = row.and_then(|row| self.idle_since(row));
        let last = row.map(|row| row.last);
        self.idle.replace(channel, last, idle_since);
    }

    fn set_forgotten(&mut self, channel: Channel, last: Option<EventId>) {
        let old = self.forgotten.get(&channel).copied();
        self.noted.replace(&channel, old, last);
        set_entry(&mut self.forgotten, channel, last);
    }

    /// The last id of a channel that is idle once that id is too old.
    ///
    /// A publish with a key may be sent again, and must find its channel then.
    fn idle_since(&self, row: &ChannelRow) -> Option<EventId> {
        let is_idle = row.count <= 1 && !self.key_counts.contains_key(&row.number);
        is_idle.then_some(row.last)
    }
}

/// The oldest event of a channel.
pub(super) fn oldest_event(row: ChannelRow) -> Option<EventId> {
    (row.count > 0).then_some(row.oldest)
}

fn set_entry<K: Eq + std::hash::Hash, V>(entries: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(entries.insert(key, value)),
        None => drop(entries.remove(&key)),
    }
}
