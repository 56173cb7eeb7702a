//! The order of channels as a batch has it: that of the last commit, with the changes of the batch
//! on top.
//!
//! ```text
//! committed   2-0 a   3-0 b   7-0 c
//! staged      9-0 a                     this batch has changed a
//! first               3-0 b             the committed entry of a does not count any more
//! ```

use std::{collections::btree_set, iter::Peekable};

use sse_proto::{Channel, EventId};

use crate::broker::id_order::{Entry, IdOrder};

/// The order as a batch has it.
///
/// A channel that has changed stays changed until the end of the batch, so each committed entry is
/// skipped at most once.
#[derive(Debug)]
pub(super) struct StagedOrder<'a> {
    committed: Peekable<btree_set::Iter<'a, Entry>>,
    staged: IdOrder,
}

impl<'a> StagedOrder<'a> {
    pub(super) fn new(committed: &'a IdOrder) -> Self {
        Self {
            committed: committed.iter().peekable(),
            staged: IdOrder::default(),
        }
    }

    /// Replaces the staged entry of a channel. `old` has no effect if it is not staged.
    pub(super) fn replace(
        &mut self,
        channel: &Channel,
        old: Option<EventId>,
        new: Option<EventId>,
    ) {
        self.staged.replace(channel, old, new);
    }

    /// Returns the first entry. `is_changed` returns whether the batch has changed a channel.
    pub(super) fn first(&mut self, is_changed: impl Fn(&Channel) -> bool) -> Option<Entry> {
        let committed = self.first_unchanged(is_changed);
        let staged = self.staged.first();
        committed.into_iter().chain(staged).min().cloned()
    }

    /// Returns the first committed entry of a channel that the batch has not changed.
    pub(super) fn first_unchanged(
        &mut self,
        is_changed: impl Fn(&Channel) -> bool,
    ) -> Option<&'a Entry> {
        while self
            .committed
            .next_if(|(_, channel)| is_changed(channel))
            .is_some()
        {}
        self.committed.peek().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::HashSet};

    use super::*;

    fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    fn channel(number: u64) -> Channel {
        format!("c{number}").parse().unwrap()
    }

    fn order(numbers: impl IntoIterator<Item = u64>) -> IdOrder {
        let mut order = IdOrder::default();
        for number in numbers {
            order.replace(&channel(number), None, Some(id(number)));
        }
        order
    }

    #[test]
    fn a_staged_entry_replaces_the_committed_one() {
        let committed = order([2, 3, 7]);
        let mut staged = StagedOrder::new(&committed);
        let mut changed = HashSet::new();
        let mut change = |staged: &mut StagedOrder<'_>, number, old, new| {
            staged.replace(&channel(number), Some(id(old)), Some(id(new)));
            changed.insert(channel(number));
            let (first, _) = staged.first(|channel| changed.contains(channel)).unwrap();
            first.ms
        };
        assert_eq!(change(&mut staged, 2, 2, 9), 3);
        assert_eq!(change(&mut staged, 3, 3, 8), 7);
        assert_eq!(change(&mut staged, 7, 7, 10), 8);
        assert_eq!(change(&mut staged, 3, 8, 11), 9);
        // An entry that is older than every committed one.
        assert_eq!(change(&mut staged, 2, 9, 1), 1);
    }

    #[test]
    fn a_batch_looks_at_each_committed_entry_a_bounded_number_of_times() {
        const CHANNELS: u64 = 1000;
        let committed = order(0..CHANNELS);
        let mut staged = StagedOrder::new(&committed);
        let (mut changed, lookups) = (HashSet::new(), Cell::new(0));
        for number in 0..CHANNELS {
            let (first, oldest) = staged
                .first(|channel| {
                    lookups.set(lookups.get() + 1);
                    changed.contains(channel)
                })
                .unwrap();
            assert_eq!(first, id(number));
            staged.replace(&oldest, Some(first), Some(id(CHANNELS + number)));
            changed.insert(oldest);
        }
        assert!(lookups.get() <= 2 * CHANNELS, "{} lookups", lookups.get());
    }
}
