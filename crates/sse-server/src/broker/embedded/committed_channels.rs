//! The channels of the log as of the last commit, and the orders in which the writer searches them.
//!
//! The writer creates channels, forgets idle ones, trims and expires. None of these looks at every
//! channel:
//!
//! | order | channels | time |
//! |---|---|---|
//! | `orders` | those with events, and those that can be idle | see [`ChannelOrders`] |
//! | `due` | those with a `ttl` | from when they may expire |
//! | `trims` | those with more than one event | from when they may have events beyond their limits |
//! | `forgotten` | forgotten ones | the last id |
//! | `tombstones` | deleted ones | the deletion |

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use sse_proto::{Channel, EventId};

use super::{
    committed_keys::CommittedKeys,
    key_record::KeyCount,
    packed_row::PackedRow,
    record::ChannelRow,
    staged_channels::{ChannelChanges, DueChange},
};
use crate::broker::{
    channel_index::{ChannelOrders, ChannelTable, DatedChannels, Rank, Slot},
    lifecycle::{ChannelLife, DueIndex, Tombstone},
};

/// All channels of the log.
#[derive(Debug, Default)]
pub(super) struct Channels {
    rows: ChannelTable<PackedRow>,
    orders: ChannelOrders,
    /// The lives of channels that have one.
    lives: BTreeMap<Slot, Arc<ChannelLife>>,
    due: DueIndex,
    trims: DueIndex,
    /// Number of events in all channels.
    events: u64,
    keys: CommittedKeys,
    /// The last ids of forgotten channels. A channel that is created again begins there.
    forgotten: DatedChannels<EventId>,
    tombstones: DatedChannels<Tombstone>,
    /// The numbers of deleted channels whose events are still in the file.
    deleted: BTreeSet<u32>,
}

impl Channels {
    /// Applies changes. `None` removes an entry, and so does a count of zero.
    pub(super) fn apply(&mut self, changes: ChannelChanges, key_counts: HashMap<u32, KeyCount>) {
        for (channel, row) in &changes.rows {
            let slot = self.set_row(channel, *row);
            if let (Some(slot), Some(row)) = (slot, row)
                && key_counts.contains_key(&row.number)
            {
                self.keys.set_slot(row.number, Some(slot));
            }
        }
        for (number, key_count) in key_counts {
            self.set_key_count(number, key_count);
        }
        for (channel, last) in changes.last_ids {
            self.forgotten.set(&channel, last);
        }
        for (channel, life) in changes.lives {
            self.set_life(&channel, life);
        }
        for (channel, tombstone) in changes.tombstones {
            self.tombstones.set(&channel, tombstone);
        }
        for (number, is_left) in changes.deleted {
            self.set_deleted(number, is_left);
        }
        for (channel, change) in changes.due {
            apply_due(&mut self.due, self.rows.slot_of(&channel), change);
        }
        for (channel, change) in changes.trims {
            apply_due(&mut self.trims, self.rows.slot_of(&channel), change);
        }
    }

    /// The number of channels.
    pub(super) const fn count(&self) -> usize {
        self.rows.len()
    }

    /// Returns the row of a channel.
    pub(super) fn row(&self, channel: &Channel) -> Option<ChannelRow> {
        self.rows.get(channel).map(PackedRow::unpack)
    }

    /// Returns the channels from a slot on, with their rows and lives.
    pub(super) fn iter_from(
        &self,
        first: Slot,
    ) -> impl Iterator<Item = (Slot, &Channel, ChannelRow, Option<&ChannelLife>)> {
        self.rows.iter_from(first).map(move |(slot, channel, row)| {
            let life = self.lives.get(&slot).map(|life| &**life);
            (slot, channel, row.unpack(), life)
        })
    }

    /// Returns the channel in a slot.
    pub(super) fn name(&self, slot: Slot) -> Option<&Channel> {
        self.rows.at(slot).map(|(channel, _)| channel)
    }

    /// Returns the life of a channel that has one.
    pub(super) fn life(&self, channel: &Channel) -> Option<&Arc<ChannelLife>> {
        if self.lives.is_empty() {
            return None;
        }
        self.lives.get(&self.rows.slot_of(channel)?)
    }

    pub(super) const fn tombstones(&self) -> &DatedChannels<Tombstone> {
        &self.tombstones
    }

    pub(super) const fn deleted(&self) -> &BTreeSet<u32> {
        &self.deleted
    }

    /// The number of events in all channels.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    pub(super) const fn keys(&self) -> &CommittedKeys {
        &self.keys
    }

    pub(super) const fn forgotten(&self) -> &DatedChannels<EventId> {
        &self.forgotten
    }

    pub(super) const fn orders(&self) -> &ChannelOrders {
        &self.orders
    }

    pub(super) const fn due(&self) -> &DueIndex {
        &self.due
    }

    pub(super) const fn trims(&self) -> &DueIndex {
        &self.trims
    }

    /// Adds a channel to the indexes. `None` is no entry.
    pub(super) fn index(&mut self, slot: Slot, due_ms: Option<u64>, trim_ms: Option<u64>) {
        if let Some(due_ms) = due_ms {
            self.due.add(slot, due_ms);
        }
        if let Some(trim_ms) = trim_ms {
            self.trims.add(slot, trim_ms);
        }
    }

    /// Replaces the times from which channels may be due.
    pub(super) fn set_due(&mut self, due: impl IntoIterator<Item = (Slot, Option<u64>)>) {
        for (slot, due_ms) in due {
            self.due.set(slot, due_ms);
        }
    }

    /// Returns the channel in a slot, with its row and life.
    pub(super) fn at(&self, slot: Slot) -> Option<(&Channel, ChannelRow, Option<&ChannelLife>)> {
        let (channel, row) = self.rows.at(slot)?;
        let life = self.lives.get(&slot).map(|life| &**life);
        Some((channel, row.unpack(), life))
    }

    /// Whether a channel is idle since its last id.
    pub(super) fn is_idle_since(&self, channel: &Channel, last: EventId) -> bool {
        let slot = self.rows.slot_of(channel);
        slot.is_some_and(|slot| self.orders.is_idle_since(slot, last.ms))
    }

    /// Returns the numbers that must not be given to a new channel.
    pub(super) fn used_numbers(&self) -> impl Iterator<Item = u32> {
        let rows = self.rows.iter().map(|(_, _, row)| row.unpack().number);
        let deleted = self.deleted.iter().copied();
        rows.chain(deleted).chain(self.keys.numbers())
    }

    /// Sets the row of a channel. Returns its slot.
    pub(super) fn set_row(&mut self, channel: &Channel, row: Option<ChannelRow>) -> Option<Slot> {
        let slot = self.rows.slot_of(channel);
        let old = slot
            .and_then(|slot| self.rows.at(slot))
            .map(|(_, row)| row.unpack());
        let (old_rank, new_rank) = (self.rank(old), self.rank(row));
        let count = |row: Option<ChannelRow>| row.map_or(0, |row| row.count);
        self.events = self.events + count(row) - count(old);
        if let (Some(slot), Some(old)) = (slot, old)
            && row.is_none_or(|row| row.number != old.number)
        {
            self.end_incarnation(slot, old.number);
        }
        let slot = match (slot, row) {
            (Some(slot), Some(row)) => {
                if let Some(packed) = self.rows.at_mut(slot) {
                    *packed = row.into();
                }
                slot
            }
            (Some(slot), None) => {
                self.rows.remove(slot);
                slot
            }
            (None, Some(row)) => self.rows.insert(channel, row.into()),
            (None, None) => return None,
        };
        self.orders.replace(slot, old_rank, new_rank);
        row.map(|_| slot)
    }

    /// Removes what belongs to an incarnation besides its row.
    fn end_incarnation(&mut self, slot: Slot, number: u32) {
        self.lives.remove(&slot);
        self.due.set(slot, None);
        self.trims.set(slot, None);
        self.keys.set_slot(number, None);
    }

    /// Adds the keys of a channel whose row is loaded afterwards.
    pub(super) fn load_key_count(&mut self, number: u32, key_count: KeyCount) {
        self.keys.set(number, key_count);
    }

    /// Adds a channel. The counts of all keys were loaded before.
    pub(super) fn load_row(&mut self, channel: &Channel, row: ChannelRow) {
        let slot = self.set_row(channel, Some(row));
        if self.keys.get(row.number).is_some() {
            self.keys.set_slot(row.number, slot);
        }
    }

    fn set_key_count(&mut self, number: u32, key_count: KeyCount) {
        let slot = self.keys.slot(number);
        let row = slot.and_then(|slot| self.rows.at(slot));
        let row = row.map(|(_, row)| row.unpack());
        let old_rank = self.rank(row);
        self.keys.set(number, key_count);
        if let Some(slot) = slot {
            let new_rank = self.rank(row);
            self.orders.replace(slot, old_rank, new_rank);
        }
    }

    /// Adds the last id of a forgotten channel.
    pub(super) fn load_forgotten(&mut self, channel: &Channel, last: EventId) {
        self.forgotten.set(channel, Some(last));
    }

    pub(super) fn set_life(&mut self, channel: &Channel, life: Option<Arc<ChannelLife>>) {
        let Some(slot) = self.rows.slot_of(channel) else {
            return;
        };
        match life {
            Some(life) => drop(self.lives.insert(slot, life)),
            None => drop(self.lives.remove(&slot)),
        }
    }

    /// Adds the tombstone of a deleted channel.
    pub(super) fn load_tombstone(&mut self, channel: &Channel, tombstone: Tombstone) {
        self.tombstones.set(channel, Some(tombstone));
    }

    pub(super) fn set_deleted(&mut self, number: u32, is_left: bool) {
        if is_left {
            self.deleted.insert(number);
        } else {
            self.deleted.remove(&number);
        }
    }

    fn rank(&self, row: Option<ChannelRow>) -> Rank {
        row.map_or(Rank::Absent, |row| {
            let has_keys = self.keys.get(row.number).is_some();
            Rank::new(row.count, row.oldest.ms, row.last.ms, has_keys)
        })
    }

    /// The rows and lives of all channels.
    #[cfg(test)]
    pub(super) fn all(&self) -> BTreeMap<Channel, (ChannelRow, Option<ChannelLife>)> {
        let all = self.iter_from(Slot::FIRST);
        all.map(|(_, channel, row, life)| (channel.clone(), (row, life.cloned())))
            .collect()
    }
}

fn apply_due(index: &mut DueIndex, slot: Option<Slot>, change: DueChange) {
    let Some(slot) = slot else {
        return;
    };
    match change {
        DueChange::AtLatest(due_ms) => index.add(slot, due_ms),
        DueChange::Set(due_ms) => index.set(slot, due_ms),
    }
}
