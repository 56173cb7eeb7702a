//! Eras: the times between two moments at which Redis may have lost events.
//!
//! Each slot has its own era, because slots move between primaries, and one primary can fail alone.
//! A new era begins when the session with the primary of the slot begins, when the replication id of
//! that primary changes, and when another primary takes over the slot. The numbers only grow, so an
//! era that has ended never comes back.

use std::sync::atomic::{AtomicU64, Ordering};

use super::slots::{Slot, Slots};

/// The present era of each slot.
#[derive(Debug)]
pub(super) struct Eras {
    last: AtomicU64,
    of_slots: Box<[AtomicU64]>,
    /// The last era in which all known ids of the slot were verified.
    verified: Box<[AtomicU64]>,
}

/// An id was marked as unverified since.
const NEVER: u64 = u64::MAX;

impl Eras {
    pub(super) fn new(slots: Slots) -> Self {
        Self {
            last: AtomicU64::new(0),
            of_slots: (0..slots.count()).map(|_| AtomicU64::new(0)).collect(),
            verified: (0..slots.count()).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Returns the number of the era that began last, in any slot.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }

    /// Returns the present era of `slot`.
    pub(super) fn of(&self, slot: Slot) -> u64 {
        self.of_slots
            .get(slot.index())
            .map_or(0, |era| era.load(Ordering::SeqCst))
    }

    /// Begins a new era in these slots. Their ids are unverified from now on.
    pub(super) fn begin_era(&self, slots: &[Slot]) {
        let era = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        for slot in slots {
            if let Some(present) = self.of_slots.get(slot.index()) {
                // Another task may have begun a later one meanwhile.
                present.fetch_max(era, Ordering::SeqCst);
            }
        }
    }

    /// Whether ids of `slot` may be unverified.
    pub(super) fn is_pending(&self, slot: Slot) -> bool {
        let verified = self.verified.get(slot.index());
        verified.is_some_and(|era| era.load(Ordering::SeqCst) != self.of(slot))
    }

    /// Records that an id of `slot` is unverified.
    pub(super) fn set_pending(&self, slot: Slot) {
        self.set_verified(slot, NEVER);
    }

    /// Records that all known ids of `slot` were verified in this era of it.
    pub(super) fn set_verified(&self, slot: Slot, era: u64) {
        if let Some(verified) = self.verified.get(slot.index()) {
            verified.store(era, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_era_begins_in_its_own_slots_only() {
        let eras = Eras::new(Slots::Cluster);
        let (one, other) = (Slot::new(1), Slot::new(2));
        eras.begin_era(&[one]);
        assert_eq!((eras.of(one), eras.of(other), eras.last()), (1, 0, 1));
        eras.begin_era(&[one, other]);
        assert_eq!((eras.of(one), eras.of(other)), (2, 2));
        eras.set_verified(one, 1);
        assert!(eras.is_pending(one) && eras.is_pending(other));
        eras.set_verified(one, 2);
        assert!(!eras.is_pending(one));
        eras.set_pending(one);
        assert!(eras.is_pending(one));
    }
}
