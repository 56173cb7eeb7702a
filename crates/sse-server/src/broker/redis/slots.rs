//! The hash slots of a Redis Cluster, to which a channel and the registry that lists it belong.
//!
//! A key with a hash tag lies in the slot of its tag, and the tag of a channel's keys is its name. The
//! registry of a slot is one key for many channels, so it needs a tag of its own: the smallest decimal
//! number that hashes to the slot. A single Redis has the same keys, although it has no slots: one
//! primary has all of them.

use std::sync::LazyLock;

use sse_proto::Channel;

/// How many slots there are.
pub(super) const SLOTS: u16 = 16_384;

/// A hash slot, below [`SLOTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u16);

impl Slot {
    /// Returns a slot by its number, modulo [`SLOTS`].
    pub(super) const fn new(number: u16) -> Self {
        Self(number % SLOTS)
    }

    /// Returns the slot that a Redis Cluster numbers so; `None` if there is none.
    pub(super) fn from_number(number: u16) -> Option<Self> {
        (number < SLOTS).then_some(Self(number))
    }

    /// Returns the slot of all keys of `channel`.
    pub(super) fn of(channel: &Channel) -> Self {
        Self::of_tag(channel.as_str())
    }

    /// Returns the slot of a key.
    fn of_key(key: &str) -> Self {
        Self::of_tag(hash_tag(key))
    }

    fn of_tag(tag: &str) -> Self {
        Self::new(crc16(tag.as_bytes()))
    }

    /// Returns its number.
    pub(super) const fn number(self) -> u16 {
        self.0
    }

    /// Returns its number as an index.
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the hash tag of the keys that belong to the slot as a whole.
    pub(super) fn tag(self) -> u32 {
        TAGS.get(usize::from(self.0)).copied().unwrap_or_default()
    }
}

/// How the keys are divided among primaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slots {
    /// One primary has all keys, so slot 0 represents all slots on the way to it.
    One,
    /// A Redis Cluster assigns each slot to a primary.
    Cluster,
}

impl Slots {
    /// Returns how many slots have a primary of their own.
    pub(super) const fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Cluster => SLOTS as usize,
        }
    }

    /// Returns the slots that have a primary of their own.
    pub(super) fn all(self) -> impl Iterator<Item = Slot> {
        let count = match self {
            Self::One => 1,
            Self::Cluster => SLOTS,
        };
        (0..count).map(Slot)
    }

    /// Returns the slot by which the primary of `slot` is found.
    pub(super) const fn route(self, slot: Slot) -> Slot {
        match self {
            Self::One => Slot(0),
            Self::Cluster => slot,
        }
    }

    /// Returns the slot by which the primary of `channel` is found.
    pub(super) fn of_channel(self, channel: &Channel) -> Slot {
        match self {
            Self::One => Slot(0),
            Self::Cluster => Slot::of(channel),
        }
    }

    /// Returns the slot by which the primary of a key is found.
    pub(super) fn of_key(self, key: &str) -> Slot {
        match self {
            Self::One => Slot(0),
            Self::Cluster => Slot::of_key(key),
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

/// The tag of each slot.
static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut tags = vec![None; usize::from(SLOTS)];
    let mut missing = tags.len();
    let mut number = 0;
    while missing > 0 {
        let slot = Slot::of_tag(&number.to_string());
        if let Some(tag @ None) = tags.get_mut(usize::from(slot.0)) {
            *tag = Some(number);
            missing -= 1;
        }
        number += 1;
    }
    tags.into_iter().flatten().collect()
});

/// CRC-16 with the polynomial 0x1021 and the initial value 0, as Redis computes slots.
fn crc16(bytes: &[u8]) -> u16 {
    let step = |crc: u16, byte: &u8| {
        let index = usize::from((crc >> 8) ^ u16::from(*byte));
        (crc << 8) ^ CRC_TABLE[index & 0xff]
    };
    bytes.iter().fold(0, step)
}

/// The CRC of each byte.
static CRC_TABLE: LazyLock<[u16; 256]> = LazyLock::new(|| {
    std::array::from_fn(|byte| {
        let shift = |crc: u16| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 };
        let start = u16::try_from(byte << 8).unwrap_or_default();
        (0..8).fold(start, |crc, _| shift(crc))
    })
});

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // `CLUSTER KEYSLOT` of a Redis 7.0.
        for (tag, slot) in [
            ("123456789", 12739),
            ("foo", 12182),
            ("orders", 105),
            ("0", 13907),
        ] {
            assert_eq!(Slot::of_tag(tag).number(), slot, "{tag}");
        }
    }

    #[test]
    fn every_slot_has_a_tag_of_its_own_that_leads_to_it() {
        let mut tags = HashSet::new();
        for number in 0..SLOTS {
            let slot = Slot::new(number);
            assert_eq!(Slot::of_tag(&slot.tag().to_string()), slot);
            assert!(tags.insert(slot.tag()));
        }
        assert_eq!(tags.len(), usize::from(SLOTS));
    }
    #[test]
    fn a_key_lies_in_the_slot_of_the_first_text_in_braces() {
        for (key, slot) in [
            ("foo", 12_182),
            ("sse:{foo}", 12_182),
            ("sse:{foo}:gaps", 12_182),
            ("{}foo", Slot::of_tag("{}foo").0),
        ] {
            assert_eq!(Slots::Cluster.of_key(key), Slot(slot), "{key}");
        }
        let channel: Channel = "foo".parse().unwrap();
        assert_eq!(Slots::Cluster.of_channel(&channel), Slot(12_182));
    }

    #[test]
    fn all_slots_of_a_single_redis_have_one_primary() {
        assert_eq!(Slots::One.of_key("foo"), Slot(0));
        assert_eq!(Slots::One.route(Slot(7)), Slot(0));
        assert_eq!(Slots::Cluster.route(Slot(7)), Slot(7));
        assert_eq!(Slots::One.all().count(), Slots::One.count());
        assert_eq!(
            (Slot::from_number(16_383), Slot::from_number(16_384)),
            (Some(Slot(16_383)), None)
        );
    }
}
