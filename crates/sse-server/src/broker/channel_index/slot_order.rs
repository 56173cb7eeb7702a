//! Channels in the order of a time, which finds the oldest one, and counts the old ones, without a
//! scan.
//!
//! Channels of the same millisecond are in the order of their slots, which means nothing.

use std::{
    collections::{BTreeSet, btree_set},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::table::Slot;

/// A time in milliseconds, and a channel.
pub(in crate::broker) type Entry = (u64, Slot);

/// Channels in the order of a time.
#[derive(Debug, Default)]
pub(in crate::broker) struct SlotOrder {
    entries: BTreeSet<Entry>,
    counted: Mutex<Counted>,
}

/// The number of entries before a time.
#[derive(Debug, Default, Clone, Copy)]
struct Counted {
    before_ms: u64,
    count: usize,
}

impl SlotOrder {
    /// Replaces the entry of a channel. `None` is no entry. `old` may be a time that is not there.
    pub(in crate::broker) fn replace(&mut self, slot: Slot, old: Option<u64>, new: Option<u64>) {
        let counted = self
            .counted
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = old
            && self.entries.remove(&(old, slot))
            && old < counted.before_ms
        {
            counted.count -= 1;
        }
        if let Some(new) = new
            && self.entries.insert((new, slot))
            && new < counted.before_ms
        {
            counted.count += 1;
        }
    }

    /// The entry with the earliest time.
    pub(in crate::broker) fn first(&self) -> Option<Entry> {
        self.entries.first().copied()
    }

    /// All entries, the earliest time first.
    pub(in crate::broker) fn iter(&self) -> btree_set::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// Whether the order has this entry.
    pub(in crate::broker) fn contains(&self, slot: Slot, ms: u64) -> bool {
        self.entries.contains(&(ms, slot))
    }

    /// Returns the number of entries whose time is before `ms`.
    ///
    /// The cost is that of the entries between `ms` and the time of the last call. A caller whose
    /// time only grows therefore counts each entry once.
    pub(in crate::broker) fn count_before(&self, ms: u64) -> usize {
        let mut counted = self.lock();
        counted.count = if ms < counted.before_ms {
            counted.count - self.count_between(ms, counted.before_ms)
        } else {
            counted.count + self.count_between(counted.before_ms, ms)
        };
        counted.before_ms = ms;
        counted.count
    }

    fn count_between(&self, from_ms: u64, to_ms: u64) -> usize {
        let bound = |ms| (ms, Slot::FIRST);
        self.entries.range(bound(from_ms)..bound(to_ms)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        // No code panics while it holds this lock.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_old_entries_follows_the_time_and_the_changes() {
        let (mut order, a) = (SlotOrder::default(), Slot::FIRST);
        let b = a.next().unwrap();
        order.replace(a, None, Some(5));
        order.replace(b, None, Some(5));
        let counts = [4, 5, 6, 9, 5, 6].map(|ms| order.count_before(ms));
        assert_eq!(counts, [0, 0, 2, 2, 0, 2]);
        order.replace(a, Some(5), Some(8));
        assert_eq!(order.count_before(6), 1);
        order.replace(b, Some(4), Some(3));
        assert_eq!(
            order.count_before(6),
            2,
            "a time that is not there is not removed"
        );
        order.replace(b, Some(3), None);
        order.replace(b, Some(5), None);
        assert_eq!((order.count_before(6), order.count_before(9)), (0, 1));
    }
}
