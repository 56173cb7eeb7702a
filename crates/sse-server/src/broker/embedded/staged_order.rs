//! The order of channels as a batch has it: that of the last commit, with the changes of the batch
//! on top.
//!
//! ```text
//! committed   2 a   3 b   7 c
//! staged      9 a                 this batch has changed a
//! first             3 b           the committed entry of a does not count any more
//! ```

use std::{
    collections::{BTreeSet, btree_set},
    iter::Peekable,
};

use sse_proto::Channel;

use crate::broker::channel_index::{Entry, Slot, SlotOrder, earliest};

/// The committed entries of an order, without those of channels that the batch has changed.
///
/// A channel that has changed stays changed until the end of the batch, so each entry is skipped at
/// most once.
#[derive(Debug)]
pub(super) struct Unchanged<'a>(Peekable<btree_set::Iter<'a, Entry>>);

impl<'a> Unchanged<'a> {
    pub(super) fn new(committed: &'a SlotOrder) -> Self {
        Self(committed.iter().peekable())
    }

    /// Returns the first entry. `name` returns the channel in a slot, and `is_changed` whether the
    /// batch has changed a channel.
    pub(super) fn first(
        &mut self,
        name: impl Fn(Slot) -> Option<&'a Channel>,
        is_changed: impl Fn(&Channel) -> bool,
    ) -> Option<(u64, &'a Channel)> {
        while let Some((ms, slot)) = self.0.peek() {
            match name(*slot) {
                Some(channel) if !is_changed(channel) => return Some((*ms, channel)),
                _ => drop(self.0.next()),
            }
        }
        None
    }
}

/// The order as a batch has it.
#[derive(Debug)]
pub(super) struct StagedOrder<'a> {
    committed: Unchanged<'a>,
    staged: StagedEntries,
}

impl<'a> StagedOrder<'a> {
    pub(super) fn new(committed: &'a SlotOrder) -> Self {
        Self {
            committed: Unchanged::new(committed),
            staged: StagedEntries::default(),
        }
    }

    /// Replaces the staged entry of a channel. `old` has no effect if it is not staged.
    pub(super) fn replace(&mut self, channel: &Channel, old: Option<u64>, new: Option<u64>) {
        self.staged.replace(channel, old, new);
    }

    /// Returns the first entry, as [`Unchanged::first`].
    pub(super) fn first(
        &mut self,
        name: impl Fn(Slot) -> Option<&'a Channel>,
        is_changed: impl Fn(&Channel) -> bool,
    ) -> Option<Channel> {
        self.staged
            .first_with(self.committed.first(name, is_changed))
    }
}

/// The entries of channels that a batch has changed. They may have no slot yet.
#[derive(Debug, Default)]
pub(super) struct StagedEntries(BTreeSet<(u64, Channel)>);

impl StagedEntries {
    /// Replaces the entry of a channel. `old` has no effect if it is not staged.
    pub(super) fn replace(&mut self, channel: &Channel, old: Option<u64>, new: Option<u64>) {
        if let Some(old) = old {
            self.0.remove(&(old, channel.clone()));
        }
        if let Some(new) = new {
            self.0.insert((new, channel.clone()));
        }
    }

    /// Returns the first channel of these entries and `committed`.
    pub(super) fn first_with(&self, committed: Option<(u64, &Channel)>) -> Option<Channel> {
        let staged = self.0.first().map(|(ms, channel)| (*ms, channel));
        earliest(committed, staged).map(|(_, channel)| channel.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::HashSet};

    use super::*;
    use crate::broker::channel_index::ChannelTable;

    fn channel(number: u64) -> Channel {
        format!("c{number}").parse().unwrap()
    }

    fn order(numbers: impl IntoIterator<Item = u64>) -> (ChannelTable<()>, SlotOrder) {
        let (mut table, mut order) = (ChannelTable::default(), SlotOrder::default());
        for number in numbers {
            let slot = table.insert(&channel(number), ());
            order.replace(slot, None, Some(number));
        }
        (table, order)
    }

    fn name(table: &ChannelTable<()>, slot: Slot) -> Option<&Channel> {
        table.at(slot).map(|(channel, ())| channel)
    }

    #[test]
    fn a_staged_entry_replaces_the_committed_one() {
        let (table, committed) = order([2, 3, 7]);
        let mut staged = StagedOrder::new(&committed);
        let mut changed = HashSet::new();
        let mut change = |number, old, new| {
            staged.replace(&channel(number), Some(old), Some(new));
            changed.insert(channel(number));
            let name = |slot| name(&table, slot);
            staged.first(name, |channel| changed.contains(channel))
        };
        assert_eq!(change(2, 2, 9), Some(channel(3)));
        assert_eq!(change(3, 3, 8), Some(channel(7)));
        assert_eq!(change(7, 7, 10), Some(channel(3)));
        assert_eq!(change(3, 8, 11), Some(channel(2)));
        // An entry that is older than every committed one.
        assert_eq!(change(7, 10, 1), Some(channel(7)));
    }

    #[test]
    fn a_batch_looks_at_each_committed_entry_a_bounded_number_of_times() {
        const CHANNELS: u64 = 1000;
        let (table, committed) = order(0..CHANNELS);
        let mut staged = StagedOrder::new(&committed);
        let (mut changed, lookups) = (HashSet::new(), Cell::new(0));
        for number in 0..CHANNELS {
            let oldest = staged
                .first(
                    |slot| name(&table, slot),
                    |channel| {
                        lookups.set(lookups.get() + 1);
                        changed.contains(channel)
                    },
                )
                .unwrap();
            assert_eq!(oldest, channel(number));
            staged.replace(&oldest, Some(number), Some(CHANNELS + number));
            changed.insert(oldest);
        }
        assert!(lookups.get() <= 2 * CHANNELS, "{} lookups", lookups.get());
    }
}
