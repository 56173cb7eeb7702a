//! How many idempotency keys each channel has, as of the last commit, and when the next of them
//! expire. Channels are identified by their numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::key_record::KeyCount;
use crate::broker::channel_index::Slot;

/// The keys of all channels. Channels without keys have no entry.
#[derive(Debug, Default)]
pub(super) struct CommittedKeys {
    counts: BTreeMap<u32, KeyCount>,
    /// The channels by when the first of their keys expires.
    expiries: BTreeSet<(u64, u32)>,
    /// The slots of the channels that exist. The keys of a deleted channel remain until they expire.
    slots: BTreeMap<u32, Slot>,
    /// Number of keys in all channels.
    total: u64,
}

impl CommittedKeys {
    /// Returns the count of a channel that has keys.
    pub(super) fn get(&self, number: u32) -> Option<KeyCount> {
        self.counts.get(&number).copied()
    }

    /// The number of keys in all channels.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The numbers of the channels that have keys.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.counts.keys().copied()
    }

    /// Returns the channels that have keys that expire up to `log_ms`, the first ones first.
    pub(super) fn expired(&self, log_ms: u64) -> impl Iterator<Item = u32> + use<'_> {
        let expired = self.expiries.range(..=(log_ms, u32::MAX));
        expired.map(|(_, number)| *number)
    }

    /// Sets the count of a channel. A count of zero removes the channel.
    pub(super) fn set(&mut self, number: u32, key_count: KeyCount) {
        let old = match key_count.if_any() {
            Some(key_count) => self.counts.insert(number, key_count),
            None => self.counts.remove(&number),
        };
        if let Some(old) = old {
            self.expiries.remove(&(old.first_expiry_ms, number));
        }
        self.total = (self.total + key_count.count).saturating_sub(old.map_or(0, |old| old.count));
        if key_count.count > 0 {
            self.expiries.insert((key_count.first_expiry_ms, number));
        } else {
            self.slots.remove(&number);
        }
    }

    /// Returns the slot of a channel that exists and has keys.
    pub(super) fn slot(&self, number: u32) -> Option<Slot> {
        self.slots.get(&number).copied()
    }

    /// Records where a channel is; `None` if it exists no more.
    pub(super) fn set_slot(&mut self, number: u32, slot: Option<Slot>) {
        match slot {
            Some(slot) => drop(self.slots.insert(number, slot)),
            None => drop(self.slots.remove(&number)),
        }
    }

    /// All counts.
    #[cfg(test)]
    pub(super) const fn counts(&self) -> &BTreeMap<u32, KeyCount> {
        &self.counts
    }
}
