//! The orders in which an in-process log searches its channels, so that no search looks at every
//! channel.
//!
//! | search | channels | time |
//! |---|---|---|
//! | the oldest event of all | those with events | that of the oldest event |
//! | the channel that is idle for longest | those with at most one event and without keys | that of the last id |
//!
//! The only event of a channel is its oldest one, and its id is the last one. So a channel is in one
//! order at most, and a quiet channel pays for one entry.

use super::{
    slot_order::{Entry, SlotOrder},
    table::Slot,
};

/// Where a channel is in the orders. Times are in milliseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Rank {
    /// In none: a channel without events that has keys, or no channel.
    #[default]
    Absent,
    /// A channel without events, by its last id. It can be idle.
    Empty(u64),
    /// A channel with one event, by that event. It can be idle.
    Single(u64),
    /// Another channel with events, by the oldest one.
    Busy(u64),
}

impl Rank {
    /// Ranks a channel. `oldest_ms` is the time of the oldest of its events.
    ///
    /// A channel with keys cannot be idle: a publish with a key may be sent again, and must find its
    /// channel then.
    pub(in crate::broker) const fn new(
        events: u64,
        oldest_ms: u64,
        last_ms: u64,
        has_keys: bool,
    ) -> Self {
        match (events, has_keys) {
            (0, false) => Self::Empty(last_ms),
            (0, true) => Self::Absent,
            (1, false) => Self::Single(last_ms),
            _ => Self::Busy(oldest_ms),
        }
    }
}

/// The orders.
#[derive(Debug, Default)]
pub(in crate::broker) struct ChannelOrders {
    pub(in crate::broker) empty: SlotOrder,
    pub(in crate::broker) single: SlotOrder,
    pub(in crate::broker) busy: SlotOrder,
}

impl ChannelOrders {
    /// Moves a channel.
    pub(in crate::broker) fn replace(&mut self, slot: Slot, old: Rank, new: Rank) {
        if old == new {
            return;
        }
        match old {
            Rank::Absent => {}
            Rank::Empty(ms) => self.empty.replace(slot, Some(ms), None),
            Rank::Single(ms) => self.single.replace(slot, Some(ms), None),
            Rank::Busy(ms) => self.busy.replace(slot, Some(ms), None),
        }
        match new {
            Rank::Absent => {}
            Rank::Empty(ms) => self.empty.replace(slot, None, Some(ms)),
            Rank::Single(ms) => self.single.replace(slot, None, Some(ms)),
            Rank::Busy(ms) => self.busy.replace(slot, None, Some(ms)),
        }
    }

    /// Returns the channel with the oldest event of all.
    pub(in crate::broker) fn with_oldest_event(&self) -> Option<Slot> {
        earliest(self.single.first(), self.busy.first()).map(|(_, slot)| slot)
    }

    /// Returns the channel that is idle for longest, and since when.
    pub(in crate::broker) fn idlest(&self) -> Option<Entry> {
        earliest(self.empty.first(), self.single.first())
    }

    /// Counts the channels that are idle since a time before `ms`.
    pub(in crate::broker) fn count_idle_before(&self, ms: u64) -> usize {
        self.empty.count_before(ms) + self.single.count_before(ms)
    }

    /// Whether a channel is idle since this time.
    pub(in crate::broker) fn is_idle_since(&self, slot: Slot, ms: u64) -> bool {
        self.empty.contains(slot, ms) || self.single.contains(slot, ms)
    }
}

/// Returns the earlier of two entries.
pub(in crate::broker) fn earliest<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_search_finds_the_channel_with_the_earliest_time() {
        let slots: Vec<Slot> = std::iter::successors(Some(Slot::FIRST), |slot| slot.next())
            .take(4)
            .collect();
        let mut orders = ChannelOrders::default();
        let ranks = [
            Rank::new(0, 0, 1, false),
            Rank::new(1, 5, 5, false),
            Rank::new(3, 2, 9, false),
            Rank::new(0, 0, 0, true),
        ];
        for (slot, rank) in slots.iter().zip(ranks) {
            orders.replace(*slot, Rank::Absent, rank);
        }
        assert_eq!(orders.with_oldest_event(), Some(slots[2]));
        assert_eq!(orders.idlest(), Some((1, slots[0])));
        assert_eq!(orders.count_idle_before(6), 2);
        assert!(orders.is_idle_since(slots[1], 5) && !orders.is_idle_since(slots[2], 9));
        // Trimmed to its newest event.
        orders.replace(slots[2], ranks[2], Rank::new(1, 9, 9, false));
        assert_eq!(orders.with_oldest_event(), Some(slots[1]));
        // A channel with a key is not idle.
        orders.replace(slots[0], ranks[0], Rank::new(0, 0, 1, true));
        assert_eq!(orders.idlest(), Some((5, slots[1])));
    }
}
