//! The agenda of a node: slots by the earliest due time of their channels.

use std::collections::{BTreeSet, HashMap};

use crate::broker::redis::slots::Slot;

/// Slots by their earliest due time, at most one entry per slot.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    by_time: BTreeSet<(u64, Slot)>,
    times: HashMap<Slot, u64>,
}

impl Agenda {
    /// Sets the earliest due time of a slot in milliseconds; `None` removes the slot.
    pub(super) fn set(&mut self, slot: Slot, due_ms: Option<u64>) {
        if let Some(earlier) = self.times.remove(&slot) {
            self.by_time.remove(&(earlier, slot));
        }
        if let Some(due_ms) = due_ms {
            self.times.insert(slot, due_ms);
            self.by_time.insert((due_ms, slot));
        }
    }

    /// Removes and returns up to `count` slots that are due at `now_ms`, the earliest first.
    pub(super) fn take_due(&mut self, now_ms: u64, count: usize) -> Vec<Slot> {
        let due: Vec<Slot> = self
            .by_time
            .iter()
            .take_while(|(due_ms, _)| *due_ms <= now_ms)
            .take(count)
            .map(|(_, slot)| *slot)
            .collect();
        for slot in &due {
            self.set(*slot, None);
        }
        due
    }

    /// Removes the slots that another node maintains.
    pub(super) fn keep_slots(&mut self, is_kept: impl Fn(Slot) -> bool) {
        self.times.retain(|slot, _| is_kept(*slot));
        self.by_time.retain(|(_, slot)| is_kept(*slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_due_in_the_order_of_their_newest_times() {
        let mut agenda = Agenda::default();
        let [a, b, c] = [1, 2, 3].map(Slot::new);
        for (slot, due_ms) in [(a, 30), (b, 20), (c, 10)] {
            agenda.set(slot, Some(due_ms));
        }
        agenda.set(c, Some(40));
        agenda.set(a, Some(15));
        assert_eq!(agenda.take_due(9, 9), []);
        assert_eq!(agenda.take_due(30, 1), [a]);
        assert_eq!(agenda.take_due(30, 9), [b]);
        agenda.set(a, Some(1));
        agenda.set(a, None);
        agenda.set(b, Some(2));
        agenda.keep_slots(|slot| slot != b);
        assert_eq!(agenda.take_due(100, 9), [c]);
    }
}
