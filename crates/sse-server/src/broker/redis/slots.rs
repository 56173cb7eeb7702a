//! Hash slots: the parts into which a Redis Cluster divides all keys.
//!
//! A single Redis has one slot, which contains everything. So there is one way to find the primary
//! of a channel, whatever the topology is.

use std::sync::LazyLock;

use crc::{CRC_16_XMODEM, Crc};
use sse_proto::Channel;

/// Slots of a Redis Cluster.
pub(super) const SLOT_COUNT: u16 = 16_384;

const HASH: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// Per slot, a number whose digits lie in that slot as a hash tag.
static TAGS: LazyLock<Vec<u32>> = LazyLock::new(find_tags);

/// A hash slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u16);

impl Slot {
    /// The slot with this number; returns `None` if no cluster has it.
    pub(super) fn new(number: u16) -> Option<Self> {
        (number < SLOT_COUNT).then_some(Self(number))
    }

    /// Returns its number, from 0 on.
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the hash tag of keys that belong to the slot itself.
    pub(super) fn tag(self) -> u32 {
        TAGS.get(self.index()).copied().unwrap_or_default()
    }
}

/// How keys are divided into slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slots {
    /// One slot has all keys.
    One,
    /// Redis Cluster divides the keys by their hash tags.
    Cluster,
}

impl Slots {
    /// Returns how many slots there are.
    pub(super) const fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Cluster => SLOT_COUNT as usize,
        }
    }

    /// Returns all slots.
    pub(super) fn all(self) -> impl Iterator<Item = Slot> {
        let count = match self {
            Self::One => 1,
            Self::Cluster => SLOT_COUNT,
        };
        (0..count).map(Slot)
    }

    /// Returns the slot of all keys of `channel`. Its name is their hash tag.
    pub(super) fn of_channel(self, channel: &Channel) -> Slot {
        self.of_tag(channel.as_str())
    }

    /// Returns the slot of a key.
    pub(super) fn of_key(self, key: &str) -> Slot {
        self.of_tag(hash_tag(key))
    }

    fn of_tag(self, tag: &str) -> Slot {
        match self {
            Self::One => Slot(0),
            Self::Cluster => Slot(HASH.checksum(tag.as_bytes()) % SLOT_COUNT),
        }
    }
}

/// The part of a key that determines its slot: the first text in braces, if it is not empty.
fn hash_tag(key: &str) -> &str {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

fn find_tags() -> Vec<u32> {
    let mut tags = vec![None; Slots::Cluster.count()];
    let mut missing = tags.len();
    // About 170 000 numbers are enough.
    for number in 0..u32::MAX {
        if missing == 0 {
            break;
        }
        let slot = Slots::Cluster.of_tag(&number.to_string());
        let tag = &mut tags[slot.index()];
        if tag.is_none() {
            *tag = Some(number);
            missing -= 1;
        }
    }
    tags.into_iter().map(Option::unwrap_or_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_lies_in_the_slot_that_redis_computes() {
        // By `CLUSTER KEYSLOT`.
        for (key, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("sse:{foo}", 12_182),
            ("sse:{foo}:gaps", 12_182),
            ("{}foo", Slots::Cluster.of_tag("{}foo").0),
        ] {
            assert_eq!(Slots::Cluster.of_key(key), Slot(slot), "{key}");
        }
        assert_eq!(Slots::One.of_key("foo"), Slot(0));
        let channel: Channel = "foo".parse().unwrap();
        assert_eq!(Slots::Cluster.of_channel(&channel), Slot(12_182));
    }

    #[test]
    fn every_slot_has_a_tag_of_its_own() {
        for slot in Slots::Cluster.all() {
            let key = format!("sse:channels:{{{}}}", slot.tag());
            assert_eq!(Slots::Cluster.of_key(&key), slot);
        }
        assert_eq!(Slots::One.all().count(), Slots::One.count());
        assert_eq!(
            (Slot::new(16_383).is_some(), Slot::new(16_384)),
            (true, None)
        );
    }
}
