//! A table of channels that stays small with a million of them, and that never stops to grow.
//!
//! Each name is stored once, in an entry with a number of its own, its [`Slot`]. Everything else
//! refers to a channel by its slot, in four bytes:
//!
//! ```text
//! shards   hash → slot            chunks   slot → name, value        orders   (ms, slot)
//! ```
//!
//! A plain hash map moves all its entries when it grows. With a million channels, a caller would
//! wait for that with a lock in its hands. Here the map has many small parts that grow one by one,
//! and the entries are in chunks that never move.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;
use sse_proto::Channel;

/// Parts of the index, so that one of them has a thousand slots if there are a million channels.
const SHARDS: usize = 1024;
/// Entries of a chunk.
const CHUNK: usize = 1024;

/// The place of a channel in its table. A slot whose channel was removed is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::broker) struct Slot(u32);

impl Slot {
    /// The lowest slot.
    pub(in crate::broker) const FIRST: Self = Self(0);

    /// Returns the slot after this one; the last one has none.
    pub(in crate::broker) const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(next) => Some(Self(next)),
            None => None,
        }
    }

    const fn place(self) -> (usize, usize) {
        (self.0 as usize / CHUNK, self.0 as usize % CHUNK)
    }
}

/// Channels with a value each.
#[derive(Debug)]
pub(in crate::broker) struct ChannelTable<V> {
    hasher: RandomState,
    shards: Box<[HashTable<Slot>]>,
    entries: Entries<V>,
    count: usize,
}

#[derive(Debug)]
struct Entries<V> {
    chunks: Vec<Vec<Option<(Channel, V)>>>,
    /// Slots whose channels were removed.
    free: Vec<Slot>,
}

impl<V> Default for ChannelTable<V> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            entries: Entries {
                chunks: Vec::new(),
                free: Vec::new(),
            },
            count: 0,
        }
    }
}

impl<V> ChannelTable<V> {
    /// The number of channels.
    pub(in crate::broker) const fn len(&self) -> usize {
        self.count
    }

    /// Returns the slot of a channel.
    pub(in crate::broker) fn slot_of(&self, channel: &Channel) -> Option<Slot> {
        let hash = self.hash(channel);
        let is_channel = |slot: &Slot| self.entries.has(*slot, channel);
        self.shards[shard_of(hash)].find(hash, is_channel).copied()
    }

    /// Returns the value of a channel.
    pub(in crate::broker) fn get(&self, channel: &Channel) -> Option<&V> {
        let (_, value) = self.entries.get(self.slot_of(channel)?)?;
        Some(value)
    }

    /// Whether the table has a channel.
    pub(in crate::broker) fn contains(&self, channel: &Channel) -> bool {
        self.slot_of(channel).is_some()
    }

    /// Returns the channel in a slot, and its value.
    pub(in crate::broker) fn at(&self, slot: Slot) -> Option<(&Channel, &V)> {
        let (channel, value) = self.entries.get(slot)?;
        Some((channel, value))
    }

    /// Returns the value in a slot.
    pub(in crate::broker) fn at_mut(&mut self, slot: Slot) -> Option<&mut V> {
        let (_, value) = self.entries.get_mut(slot)?.as_mut()?;
        Some(value)
    }

    /// Adds a channel that is not in the table. Returns its slot.
    pub(in crate::broker) fn insert(&mut self, channel: &Channel, value: V) -> Slot {
        let hash = self.hash(channel);
        let slot = self.entries.add((channel.clone(), value));
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash_of = |slot: &Slot| {
            entries
                .get(*slot)
                .map_or(0, |(name, _)| hash_of(hasher, name))
        };
        self.shards[shard_of(hash)].insert_unique(hash, slot, hash_of);
        self.count += 1;
        slot
    }

    /// Sets the value of a channel; `None` removes the channel. Returns the old value.
    pub(in crate::broker) fn set(&mut self, channel: &Channel, value: Option<V>) -> Option<V> {
        let slot = self.slot_of(channel);
        match (slot, value) {
            (Some(slot), Some(value)) => self.at_mut(slot).map(|old| std::mem::replace(old, value)),
            (Some(slot), None) => self.remove(slot),
            (None, Some(value)) => {
                self.insert(channel, value);
                None
            }
            (None, None) => None,
        }
    }

    /// Removes the channel in a slot.
    pub(in crate::broker) fn remove(&mut self, slot: Slot) -> Option<V> {
        let hash = self.hash(self.at(slot)?.0);
        let shard = &mut self.shards[shard_of(hash)];
        if let Ok(found) = shard.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        let (_, value) = self.entries.get_mut(slot)?.take()?;
        self.entries.free.push(slot);
        self.count -= 1;
        Some(value)
    }

    /// Returns the channels from a slot on.
    pub(in crate::broker) fn iter_from(
        &self,
        first: Slot,
    ) -> impl Iterator<Item = (Slot, &Channel, &V)> {
        let slots = std::iter::successors(Some(first), |slot| slot.next());
        slots
            .take_while(move |slot| self.entries.is_within(*slot))
            .filter_map(move |slot| self.at(slot).map(|(channel, value)| (slot, channel, value)))
    }

    /// Returns all channels.
    pub(in crate::broker) fn iter(&self) -> impl Iterator<Item = (Slot, &Channel, &V)> {
        self.iter_from(Slot::FIRST)
    }

    fn hash(&self, channel: &Channel) -> u64 {
        hash_of(&self.hasher, channel)
    }
}

impl<V> Entries<V> {
    fn get(&self, slot: Slot) -> Option<&(Channel, V)> {
        let (chunk, index) = slot.place();
        self.chunks.get(chunk)?.get(index)?.as_ref()
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut Option<(Channel, V)>> {
        let (chunk, index) = slot.place();
        self.chunks.get_mut(chunk)?.get_mut(index)
    }

    fn has(&self, slot: Slot, channel: &Channel) -> bool {
        self.get(slot).is_some_and(|(name, _)| name == channel)
    }

    /// Whether the slot is, or was, in use.
    fn is_within(&self, slot: Slot) -> bool {
        let (chunk, index) = slot.place();
        self.chunks
            .get(chunk)
            .is_some_and(|chunk| index < chunk.len())
    }

    fn add(&mut self, entry: (Channel, V)) -> Slot {
        if let Some(slot) = self.free.pop()
            && let Some(free) = self.get_mut(slot)
        {
            *free = Some(entry);
            return slot;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        let last = &mut self.chunks[chunk];
        last.push(Some(entry));
        let number = chunk * CHUNK + last.len() - 1;
        Slot(u32::try_from(number).expect("memory has no room for four billion channels"))
    }
}

fn hash_of(hasher: &RandomState, channel: &Channel) -> u64 {
    hasher.hash_one(channel.as_str())
}

/// Returns the part of the index for a hash. The table in a part uses other bits of the hash.
fn shard_of(hash: u64) -> usize {
    usize::try_from(hash >> 40).unwrap_or_default() % SHARDS
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn a_table_behaves_like_a_map(changes in vec((0..40_u8, proptest::option::of(0..9_u8)), 1..300)) {
            let (mut table, mut model) = (ChannelTable::default(), HashMap::new());
            for (name, value) in changes {
                let channel: Channel = format!("c{name}").parse().unwrap();
                let old = match value {
                    Some(value) => model.insert(channel.clone(), value),
                    None => model.remove(&channel),
                };
                prop_assert_eq!(table.set(&channel, value), old);
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.get(&channel), model.get(&channel));
            }
            let all: HashMap<_, _> =
                table.iter().map(|(_, name, value)| (name.clone(), *value)).collect();
            prop_assert_eq!(all, model);
        }
    }

    #[test]
    fn the_slot_of_a_removed_channel_is_used_again() {
        let mut table = ChannelTable::default();
        let names: Vec<Channel> = (0..3000)
            .map(|n| format!("c{n}").parse().unwrap())
            .collect();
        let slots: Vec<Slot> = names.iter().map(|name| table.insert(name, ())).collect();
        table.remove(slots[7]);
        assert_eq!((table.at(slots[7]), table.slot_of(&names[7])), (None, None));
        assert_eq!(table.insert(&names[7], ()), slots[7]);
        assert_eq!(table.slot_of(&names[2999]), Some(slots[2999]));
        assert_eq!(table.iter_from(slots[2990]).count(), 10);
    }
}
