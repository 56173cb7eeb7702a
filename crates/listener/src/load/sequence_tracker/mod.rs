//! Tracks the numbered events of one publisher on one connection, and finds exactly which were
//! lost, received twice or received out of order. Pure.
//!
//! ```text
//! received: 5 9 7 7 3
//!
//!   number   2    3    4  |  5    6    7    8    9  | 10
//!            –  early  –  |      hole      hole     | next
//!                           first
//! ```
//!
//! A tracker begins with the first number that the connection receives. A number above `next` opens
//! a [`Hole`], which a late event fills. Numbers below `first` are missing only if the connection
//! was open early enough to be entitled to them (`expected_from`).
//!
//! A hole keeps its circumstance: a gap announced by the server, a reconnection, or neither.
//!
//! Memory is bounded. If there are too many holes, the lowest ones are counted as lost and
//! forgotten; a later event below them counts as [`unjudged`](Verdict::unjudged). Nothing is
//! allocated as long as all events arrive once and in order.

mod anomalies;
mod interruptions;
mod number_ranges;
#[cfg(test)]
mod tests;
mod verdict;

use self::anomalies::Anomalies;
pub(crate) use self::{
    interruptions::{Circumstance, Hole, Interruptions},
    verdict::{LostCounts, Verdict},
};

/// The events of one publisher on one connection.
#[derive(Debug, Clone)]
pub(crate) struct SequenceTracker {
    /// The first number received.
    first: u64,
    /// The interruptions before the first number.
    first_after: Interruptions,
    /// The number after the highest one received.
    next: u64,
    /// The interruptions before the highest number.
    highest_after: Interruptions,
    /// Boxed, because most connections have none.
    anomalies: Option<Box<Anomalies>>,
}

impl SequenceTracker {
    /// Begins with the first number received, which must be less than `u64::MAX`.
    pub(crate) fn new(number: u64, interruptions: Interruptions) -> Self {
        Self {
            first: number,
            first_after: interruptions,
            next: number.saturating_add(1),
            highest_after: interruptions,
            anomalies: None,
        }
    }

    /// Records a number received, which must be less than `u64::MAX`.
    pub(crate) fn record(&mut self, number: u64, interruptions: Interruptions) {
        if number >= self.next {
            if number > self.next {
                let hole = Hole {
                    numbers: self.next..number,
                    circumstance: self.highest_after.circumstance_until(interruptions),
                };
                self.anomalies_mut().open_hole(hole);
            }
            self.next = number.saturating_add(1);
            self.highest_after = interruptions;
        } else if number >= self.first {
            self.anomalies_mut().record_late(number);
        } else {
            self.anomalies_mut().record_early(number);
        }
    }

    /// Returns `true` if an event up to and including `target` is missing and can still arrive.
    ///
    /// `expected_from` is the lowest number that the connection is entitled to; `None` means the
    /// first one received.
    pub(crate) fn is_behind(&self, expected_from: Option<u64>, target: u64) -> bool {
        let lowest_hole = self.anomalies.as_ref().and_then(|all| all.lowest_hole());
        let end = target.saturating_add(1);
        self.next <= target
            || lowest_hole.is_some_and(|hole| hole.numbers.start <= target)
            || !self.missing_before_first(expected_from, end).is_empty()
    }

    /// Judges the events from `expected_from` (or the first one received) to `target` (or the
    /// highest one received), both included.
    pub(crate) fn assess(
        &self,
        expected_from: Option<u64>,
        target: Option<u64>,
        interruptions: Interruptions,
    ) -> Verdict {
        let end = target.map_or(self.next, |target| target.saturating_add(1));
        let before_first = self.missing_before_first(expected_from, end);
        let after_last = Hole {
            numbers: self.next..end,
            circumstance: self.highest_after.circumstance_until(interruptions),
        }
        .clip_to(end);
        match &self.anomalies {
            Some(anomalies) => anomalies.to_verdict(before_first, after_last, end),
            None => Anomalies::default().to_verdict(before_first, after_last, end),
        }
    }

    /// The holes between `expected_from` and the first number received, below `end`.
    fn missing_before_first(&self, expected_from: Option<u64>, end: u64) -> Vec<Hole> {
        let end = end.min(self.first);
        let Some(from) = expected_from.filter(|from| *from < end) else {
            return Vec::new();
        };
        let missing = match &self.anomalies {
            Some(anomalies) => anomalies.missing_early(from, end),
            None => std::iter::once(from..end).collect(),
        };
        let circumstance = Interruptions::FIRST_OPEN.circumstance_until(self.first_after);
        let hole = |numbers| Hole {
            numbers,
            circumstance,
        };
        missing.into_iter().map(hole).collect()
    }

    fn anomalies_mut(&mut self) -> &mut Anomalies {
        self.anomalies.get_or_insert_default()
    }
}
