//! Anomalies of one sequence: missing, early, repeated and late events, in bounded memory.

use std::ops::Range;

use super::{
    interruptions::Hole,
    number_ranges::{find_range, insert_number},
    verdict::{LostCounts, Verdict},
};

/// Limit of known holes, and of ranges of early events.
pub(super) const RANGES_MAX: usize = 256;
/// Limit of listed ranges of repeated events.
const TWICE_LISTED_MAX: usize = 16;

/// Everything that differs from "each event once and in order".
#[derive(Debug, Clone, Default)]
pub(super) struct Anomalies {
    /// Numbers missing between the first and the highest received one: ascending, disjoint.
    holes: Vec<Hole>,
    /// Numbers received below the first one: ascending, disjoint.
    early: Vec<Range<u64>>,
    /// `early` had no room for some numbers, so it is unknown what is missing below the first.
    early_is_incomplete: bool,
    twice: u64,
    /// The first ranges of repeated numbers.
    twice_listed: Vec<Range<u64>>,
    out_of_order: u64,
    /// Counts of the holes that were closed because there were too many.
    closed: LostCounts,
    closed_holes: u64,
    /// All holes below this number are closed.
    closed_below: u64,
    unjudged: u64,
}

impl Anomalies {
    /// Adds a hole above all others.
    pub(super) fn open_hole(&mut self, hole: Hole) {
        if self.holes.len() == RANGES_MAX {
            self.close_lowest_hole();
        }
        self.holes.push(hole);
    }

    pub(super) fn lowest_hole(&self) -> Option<&Hole> {
        self.holes.first()
    }

    /// Records a number between the first and the highest received one.
    pub(super) fn record_late(&mut self, number: u64) {
        if number < self.closed_below {
            self.unjudged += 1;
            return;
        }
        let at = self
            .holes
            .partition_point(|hole| hole.numbers.end <= number);
        match self.holes.get(at) {
            Some(hole) if hole.numbers.contains(&number) => {
                self.out_of_order += 1;
                self.fill_hole(at, number);
            }
            _ => self.count_twice(number),
        }
    }

    /// Records a number below the first received one.
    pub(super) fn record_early(&mut self, number: u64) {
        match find_range(&self.early, number) {
            Ok(_) => self.count_twice(number),
            Err(at) if insert_number(&mut self.early, at, number, RANGES_MAX) => {
                self.out_of_order += 1;
            }
            Err(_) => {
                self.early_is_incomplete = true;
                self.unjudged += 1;
            }
        }
    }

    /// The ranges of `from..end`, a range below the first received number, that were not received.
    ///
    /// Returns nothing if that is unknown.
    pub(super) fn missing_early(&self, from: u64, end: u64) -> Vec<Range<u64>> {
        if self.early_is_incomplete {
            return Vec::new();
        }
        let mut missing = Vec::new();
        let mut at = from;
        for received in self.early.iter().chain([&(end..end)]) {
            missing.push(at..received.start.min(end));
            at = at.max(received.end);
        }
        missing.retain(|numbers| !numbers.is_empty());
        missing
    }

    /// Completes a verdict, given the holes outside of this sequence's range.
    ///
    /// `before_first` and `after_last` are the holes below the first and above the highest received
    /// number. Numbers from `end` on are not expected.
    pub(super) fn to_verdict(
        &self,
        before_first: Vec<Hole>,
        after_last: Option<Hole>,
        end: u64,
    ) -> Verdict {
        let mut holes = before_first;
        holes.extend(self.holes.iter().filter_map(|hole| hole.clip_to(end)));
        holes.extend(after_last);
        Verdict {
            lost: self.closed.with_holes(&holes),
            holes,
            holes_unlisted: self.closed_holes,
            twice: self.twice,
            twice_listed: self.twice_listed.clone(),
            out_of_order: self.out_of_order,
            unjudged: self.unjudged,
        }
    }

    /// Removes `number` from a hole, which splits a hole in its middle in two.
    fn fill_hole(&mut self, at: usize, number: u64) {
        let Hole {
            numbers: Range { start, end },
            circumstance,
        } = self.holes[at].clone();
        let rest = [start..number, number + 1..end]
            .into_iter()
            .filter(|numbers| !numbers.is_empty())
            .map(|numbers| Hole {
                numbers,
                circumstance,
            });
        self.holes.splice(at..=at, rest);
        if self.holes.len() > RANGES_MAX {
            self.close_lowest_hole();
        }
    }

    /// Counts the lowest hole as lost for good, to bound the memory.
    fn close_lowest_hole(&mut self) {
        let hole = self.holes.remove(0);
        self.closed.add_hole(&hole);
        self.closed_holes += 1;
        self.closed_below = hole.numbers.end;
    }

    fn count_twice(&mut self, number: u64) {
        self.twice += 1;
        if let Err(at) = find_range(&self.twice_listed, number) {
            insert_number(&mut self.twice_listed, at, number, TWICE_LISTED_MAX);
        }
    }
}
