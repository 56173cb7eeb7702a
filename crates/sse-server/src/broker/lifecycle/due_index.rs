//! The index of channels that may be due.
//!
//! An entry is a lower bound: a write moves the due time of a channel further, and leaves the entry.
//! A channel that comes up is checked, and is done with or indexed again. A channel has one entry at
//! most, which is removed with it. So the index has no more entries than there are channels, however
//! many are created and deleted.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::channel_index::{Entry, Slot};

/// Channels in the order of the time, in milliseconds, from which they may be due.
#[derive(Debug, Default)]
pub(in crate::broker) struct DueIndex {
    entries: BTreeSet<Entry>,
    by_slot: BTreeMap<Slot, u64>,
}

impl DueIndex {
    /// Adds a channel that is not due before `due_ms`. An earlier entry stays.
    pub(in crate::broker) fn add(&mut self, slot: Slot, due_ms: u64) {
        if self.by_slot.get(&slot).is_none_or(|ms| *ms > due_ms) {
            self.set(slot, Some(due_ms));
        }
    }

    /// Replaces the entry of a channel. `None` is no entry.
    pub(in crate::broker) fn set(&mut self, slot: Slot, due_ms: Option<u64>) {
        let old = match due_ms {
            Some(due_ms) => self.by_slot.insert(slot, due_ms),
            None => self.by_slot.remove(&slot),
        };
        if let Some(old) = old {
            self.entries.remove(&(old, slot));
        }
        if let Some(due_ms) = due_ms {
            self.entries.insert((due_ms, slot));
        }
    }

    /// Returns when the first channel may be due; `None` if no channel can be.
    pub(in crate::broker) fn first_ms(&self) -> Option<u64> {
        self.entries.first().map(|(due_ms, _)| *due_ms)
    }

    /// Whether a channel may be due at `log_ms`.
    pub(in crate::broker) fn is_any_due(&self, log_ms: u64) -> bool {
        self.first_ms().is_some_and(|due_ms| due_ms <= log_ms)
    }

    /// Returns the channels that may be due at `log_ms`, the earliest first.
    pub(in crate::broker) fn due(&self, log_ms: u64) -> impl Iterator<Item = Slot> {
        let entries = self.entries.iter();
        entries
            .take_while(move |(due_ms, _)| *due_ms <= log_ms)
            .map(|(_, slot)| *slot)
    }

    /// Removes and returns a channel that may be due at `log_ms`.
    pub(in crate::broker) fn pop(&mut self, log_ms: u64) -> Option<Slot> {
        let slot = self.due(log_ms).next()?;
        self.set(slot, None);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_one_entry_the_earliest_unless_it_is_replaced() {
        let (mut index, a) = (DueIndex::default(), Slot::FIRST);
        let b = a.next().unwrap();
        index.add(a, 5);
        index.add(a, 9);
        index.add(b, 7);
        index.add(b, 6);
        assert_eq!(index.due(6).collect::<Vec<_>>(), [a, b]);
        index.set(a, Some(9));
        assert_eq!(index.first_ms(), Some(6));
        assert_eq!(
            (index.pop(5), index.pop(6), index.pop(8)),
            (None, Some(b), None)
        );
        index.set(a, None);
        assert!(!index.is_any_due(u64::MAX));
    }
}
