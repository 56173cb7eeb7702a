//! What a connection got of a publisher's numbered events, exactly: what it lost, got twice or out of order. Pure.
//!
//! A [`SequenceTracker`] begins with the first event that the connection gets, unless the connection is known to be expected_from earlier ones:
//! those are missing at its head. From then on a number that is skipped is a hole, which a late event fills. Holes know why they may be there. Memory is bounded: when
//! there are too many holes the lowest are closed for good, and a still later event that could have filled one is
//! counted as [`unjudged`](Verdict::unjudged).

use std::ops::Range;

use serde::Serialize;

/// Holes, and runs of events before the first one, that a track can keep.
const RANGES_MAX: usize = 256;
/// Runs of doubled events that are listed.
const LISTED_TWICE_MAX: usize = 16;

/// How often a connection was opened, and how often a gap was announced on it: holes are told apart by these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Interruptions {
    /// Streams opened so far.
    pub(crate) opens: u32,
    /// Gaps announced so far.
    pub(crate) gaps: u32,
}

impl Interruptions {
    /// The first stream has just opened.
    const FIRST_OPEN: Self = Self { opens: 1, gaps: 0 };

    /// What happened up to `now`.
    const fn circumstance(self, now: Self) -> Circumstance {
        if now.gaps != self.gaps {
            Circumstance::Announced
        } else if now.opens != self.opens {
            Circumstance::AcrossReconnect
        } else {
            Circumstance::WhileOpen
        }
    }
}

/// What happened where events are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Circumstance {
    /// The server said that events may be missing here.
    Announced,
    /// The connection was cut and came back here.
    AcrossReconnect,
    /// The stream went on as if nothing were missing.
    WhileOpen,
}

/// A run of numbers that did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) numbers: Range<u64>,
    pub(crate) circumstance: Circumstance,
}

/// The events of one publisher on one connection.
#[derive(Debug, Clone)]
pub(crate) struct SequenceTracker {
    /// The number of the first event that came.
    first: u64,
    /// When that came.
    began: Interruptions,
    /// The number after the highest that came.
    next: u64,
    /// When the highest came.
    interruptions: Interruptions,
    /// Nothing is allocated for a connection on which nothing ever goes wrong.
    anomalies: Option<Box<Anomalies>>,
}

#[derive(Debug, Clone, Default)]
struct Anomalies {
    /// Missing between `first` and `next`, ascending, disjoint.
    holes: Vec<Hole>,
    /// Came, but are below `first`: ascending, disjoint.
    early: Vec<Range<u64>>,
    /// Some came for which `early` had no room: what is missing below `first` cannot be told.
    early_is_incomplete: bool,
    twice: u64,
    /// The first doubled ones.
    twice_listed: Vec<Range<u64>>,
    out_of_order: u64,
    /// Closed holes.
    closed: LostCounts,
    closed_holes: u64,
    /// Below this no hole is known any more.
    closed_below: u64,
    unjudged: u64,
}

/// How many events are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LostCounts {
    /// All together.
    pub(crate) total: u64,
    /// Of these, where the server said that events may be missing.
    pub(crate) announced: u64,
    /// Of these, between a cut and the resumption.
    pub(crate) across_reconnect: u64,
    /// Of these, in the middle of a stream.
    pub(crate) while_open: u64,
}

/// What became of a publisher's events on a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) lost: LostCounts,
    /// The runs that are missing, as far as they are known one by one.
    pub(crate) holes: Vec<Hole>,
    /// Runs that are missing and are not in `holes`.
    pub(crate) holes_unlisted: u64,
    /// Events that came although they had come before.
    pub(crate) twice: u64,
    /// The first runs of these.
    pub(crate) twice_listed: Vec<Range<u64>>,
    /// Events that came for the first time, but after a higher one.
    pub(crate) out_of_order: u64,
    /// Events that came so late that it is not known any more whether they had come before.
    pub(crate) unjudged: u64,
}

impl Verdict {
    /// Nothing came of what was expected_from, from a number up to and with `target`.
    pub(crate) fn nothing_received(from: u64, target: u64, interruptions: Interruptions) -> Self {
        let numbers = from..target.saturating_add(1);
        let holes = vec![Hole {
            numbers,
            circumstance: Interruptions::FIRST_OPEN.circumstance(interruptions),
        }];
        Self {
            lost: add_holes(LostCounts::default(), &holes),
            holes,
            ..Self::default()
        }
    }

    /// Every event came once and in order.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.total == 0 && self.twice == 0 && self.out_of_order == 0 && self.unjudged == 0
    }
}

impl LostCounts {
    /// Adds a hole, or what another connection lost.
    fn add_hole(&mut self, hole: &Hole) {
        let count = hole.numbers.end - hole.numbers.start;
        let of_its_kind = match hole.circumstance {
            Circumstance::Announced => &mut self.announced,
            Circumstance::AcrossReconnect => &mut self.across_reconnect,
            Circumstance::WhileOpen => &mut self.while_open,
        };
        *of_its_kind = of_its_kind.saturating_add(count);
        self.total = self.total.saturating_add(count);
    }

    /// Adds what another connection lost.
    pub(crate) fn add_counts(&mut self, other: &Self) {
        self.total = self.total.saturating_add(other.total);
        self.announced = self.announced.saturating_add(other.announced);
        self.across_reconnect = self.across_reconnect.saturating_add(other.across_reconnect);
        self.while_open = self.while_open.saturating_add(other.while_open);
    }
}

impl SequenceTracker {
    /// Begins with an event. Its number is less than the largest there is.
    pub(crate) fn new(number: u64, interruptions: Interruptions) -> Self {
        Self {
            first: number,
            began: interruptions,
            next: number.saturating_add(1),
            interruptions,
            anomalies: None,
        }
    }

    /// Something up to and with `target` has not come yet, and could still be told. The connection is expected_from what is from
    /// `expected_from` on, or only what follows its first event.
    pub(crate) fn is_behind(&self, expected_from: Option<u64>, target: u64) -> bool {
        let first_hole = self
            .anomalies
            .as_ref()
            .and_then(|anomalies| anomalies.holes.first());
        self.next <= target
            || first_hole.is_some_and(|hole| hole.numbers.start <= target)
            || !self
                .missing_before_first(expected_from, target.saturating_add(1))
                .is_empty()
    }

    /// What is expected_from, below `end`, but was before the first event that came, and has not come after it either.
    fn missing_before_first(&self, expected_from: Option<u64>, end: u64) -> Vec<Hole> {
        let end = end.min(self.first);
        let Some(mut at) = expected_from.filter(|expected_from| *expected_from < end) else {
            return Vec::new();
        };
        let (early, incomplete) = self
            .anomalies
            .as_ref()
            .map_or((&[][..], false), |anomalies| {
                (&anomalies.early[..], anomalies.early_is_incomplete)
            });
        if incomplete {
            return Vec::new();
        }
        let mut missing = Vec::new();
        for came in early.iter().chain([&(end..end)]) {
            missing.push(at..came.start.min(end));
            at = at.max(came.end);
        }
        let circumstance = Interruptions::FIRST_OPEN.circumstance(self.began);
        let holes = missing.into_iter().filter(|numbers| !numbers.is_empty());
        holes
            .map(|numbers| Hole {
                numbers,
                circumstance,
            })
            .collect()
    }

    /// Takes an event. Its number is less than the largest there is.
    pub(crate) fn record(&mut self, number: u64, interruptions: Interruptions) {
        if number >= self.next {
            if number > self.next {
                let numbers = self.next..number;
                let hole = Hole {
                    numbers,
                    circumstance: self.interruptions.circumstance(interruptions),
                };
                self.anomalies().open_hole(hole);
            }
            self.next = number.saturating_add(1);
            self.interruptions = interruptions;
        } else if number >= self.first {
            self.anomalies().record_late(number);
        } else {
            self.anomalies().record_early(number);
        }
    }

    /// What became of the events from `expected_from`, or from the first that came, up to and with `target`, or up to the highest
    /// that came.
    pub(crate) fn assess(
        &self,
        expected_from: Option<u64>,
        target: Option<u64>,
        interruptions: Interruptions,
    ) -> Verdict {
        let anomalies = self.anomalies.as_deref();
        let end = target.map_or(self.next, |target| target.saturating_add(1));
        let known = anomalies
            .map(|anomalies| anomalies.holes.as_slice())
            .unwrap_or_default();
        let tail = Hole {
            numbers: self.next..end,
            circumstance: self.interruptions.circumstance(interruptions),
        };
        let clipped = known.iter().chain([&tail]).map(|hole| Hole {
            numbers: hole.numbers.start..hole.numbers.end.min(end),
            circumstance: hole.circumstance,
        });
        let mut holes = self.missing_before_first(expected_from, end);
        holes.extend(clipped.filter(|hole| !hole.numbers.is_empty()));
        let Some(anomalies) = anomalies else {
            return Verdict {
                lost: add_holes(LostCounts::default(), &holes),
                holes,
                ..Verdict::default()
            };
        };
        Verdict {
            lost: add_holes(anomalies.closed, &holes),
            holes,
            holes_unlisted: anomalies.closed_holes,
            twice: anomalies.twice,
            twice_listed: anomalies.twice_listed.clone(),
            out_of_order: anomalies.out_of_order,
            unjudged: anomalies.unjudged,
        }
    }

    fn anomalies(&mut self) -> &mut Anomalies {
        self.anomalies.get_or_insert_default()
    }
}

fn add_holes(closed: LostCounts, holes: &[Hole]) -> LostCounts {
    holes.iter().fold(closed, |mut lost, hole| {
        lost.add_hole(hole);
        lost
    })
}

impl Anomalies {
    fn open_hole(&mut self, hole: Hole) {
        if self.holes.len() == RANGES_MAX {
            self.close_lowest_hole();
        }
        self.holes.push(hole);
    }

    fn close_lowest_hole(&mut self) {
        let hole = self.holes.remove(0);
        self.closed.add_hole(&hole);
        self.closed_holes += 1;
        self.closed_below = hole.numbers.end;
    }

    /// An event between the first and the highest.
    fn record_late(&mut self, number: u64) {
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

    fn fill_hole(&mut self, at: usize, number: u64) {
        let Hole {
            numbers: Range { start, end },
            circumstance,
        } = self.holes[at].clone();
        let left = [start..number, number + 1..end]
            .into_iter()
            .filter(|numbers| !numbers.is_empty());
        self.holes.splice(
            at..=at,
            left.map(|numbers| Hole {
                numbers,
                circumstance,
            }),
        );
        if self.holes.len() > RANGES_MAX {
            self.close_lowest_hole();
        }
    }

    /// An event from before the first.
    fn record_early(&mut self, number: u64) {
        let at = self.early.partition_point(|numbers| numbers.end <= number);
        if self
            .early
            .get(at)
            .is_some_and(|numbers| numbers.contains(&number))
        {
            self.count_twice(number);
        } else if insert_number(&mut self.early, at, number, RANGES_MAX) {
            self.out_of_order += 1;
        } else {
            self.early_is_incomplete = true;
            self.unjudged += 1;
        }
    }

    fn count_twice(&mut self, number: u64) {
        self.twice += 1;
        let at = self
            .twice_listed
            .partition_point(|numbers| numbers.end <= number);
        if !self
            .twice_listed
            .get(at)
            .is_some_and(|numbers| numbers.contains(&number))
        {
            insert_number(&mut self.twice_listed, at, number, LISTED_TWICE_MAX);
        }
    }
}

/// Adds a number, which none of the ranges has, before the range `at`; false if there is no room for a range of its own.
fn insert_number(ranges: &mut Vec<Range<u64>>, at: usize, number: u64, ranges_max: usize) -> bool {
    let after = at > 0 && ranges[at - 1].end == number;
    let before = ranges
        .get(at)
        .is_some_and(|numbers| numbers.start == number + 1);
    match (after, before) {
        (true, true) => {
            ranges[at - 1].end = ranges[at].end;
            ranges.remove(at);
        }
        (true, false) => ranges[at - 1].end = number + 1,
        (false, true) => ranges[at].start = number,
        (false, false) if ranges.len() < ranges_max => ranges.insert(at, number..number + 1),
        (false, false) => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const OPEN: Interruptions = Interruptions { opens: 1, gaps: 0 };

    fn track(numbers: &[u64]) -> SequenceTracker {
        let mut track = SequenceTracker::new(numbers[0], OPEN);
        numbers[1..]
            .iter()
            .for_each(|number| track.record(*number, OPEN));
        track
    }

    fn holes(verdict: &Verdict) -> Vec<(u64, u64)> {
        verdict
            .holes
            .iter()
            .map(|hole| (hole.numbers.start, hole.numbers.end - 1))
            .collect()
    }

    #[test]
    fn in_order_nothing_is_wrong_and_nothing_is_kept() {
        let track = track(&[5, 6, 7]);
        assert!(track.anomalies.is_none() && track.assess(None, Some(7), OPEN).is_clean());
        assert_eq!(track.assess(None, None, OPEN), Verdict::default());
    }

    #[test]
    fn a_late_event_fills_its_hole_and_a_repeated_one_is_counted() {
        let verdict = track(&[5, 9, 7, 7, 5, 3, 3]).assess(None, None, OPEN);
        assert_eq!(holes(&verdict), [(6, 6), (8, 8)]);
        assert_eq!(
            (verdict.lost.total, verdict.twice, verdict.out_of_order),
            (2, 3, 2)
        );
        assert_eq!(verdict.twice_listed, [3..4, 5..6, 7..8]);
    }

    #[test]
    fn what_is_missing_up_to_the_target_is_lost_and_what_is_beyond_is_not_judged() {
        assert_eq!(holes(&track(&[5, 6]).assess(None, Some(9), OPEN)), [(7, 9)]);
        assert_eq!(
            holes(&track(&[5, 8, 12]).assess(None, Some(6), OPEN)),
            [(6, 6)]
        );
        assert!(track(&[5, 6]).assess(None, Some(3), OPEN).is_clean());
    }

    #[test]
    fn it_is_behind_until_the_last_hole_is_filled() {
        let mut track = track(&[5, 6]);
        assert!(track.is_behind(None, 8));
        track.record(8, OPEN);
        assert!(track.is_behind(None, 8) && track.is_behind(None, 7) && !track.is_behind(None, 6));
        track.record(7, OPEN);
        assert!(!track.is_behind(None, 8));
    }

    #[test]
    fn holes_know_what_happened() {
        let mut track = SequenceTracker::new(0, Interruptions { opens: 1, gaps: 0 });
        track.record(2, Interruptions { opens: 1, gaps: 0 });
        track.record(5, Interruptions { opens: 2, gaps: 0 });
        track.record(9, Interruptions { opens: 3, gaps: 1 });
        let lost = track
            .assess(None, Some(13), Interruptions { opens: 4, gaps: 1 })
            .lost;
        assert_eq!(
            lost,
            LostCounts {
                total: 10,
                announced: 3,
                across_reconnect: 6,
                while_open: 1
            }
        );
    }

    #[test]
    fn what_is_owed_before_the_first_event_is_missing_until_it_comes() {
        let mut track = track(&[5, 6, 2]);
        let verdict = track.assess(Some(0), Some(6), OPEN);
        assert_eq!(
            (holes(&verdict), verdict.lost.while_open),
            (vec![(0, 1), (3, 4)], 4)
        );
        assert_eq!(
            holes(&track.assess(Some(1), Some(3), OPEN)),
            [(1, 1), (3, 3)]
        );
        assert_eq!(holes(&track.assess(Some(5), Some(6), OPEN)), []);
        assert!(
            track.is_behind(Some(0), 6)
                && !track.is_behind(Some(2), 2)
                && !track.is_behind(None, 6)
        );
        for number in [0, 1, 3, 4] {
            track.record(number, OPEN);
        }
        assert!(
            !track.is_behind(Some(0), 6) && track.assess(Some(0), Some(6), OPEN).lost.total == 0
        );
    }

    #[test]
    fn what_is_missing_at_the_head_knows_what_happened() {
        let circumstance = |interruptions| {
            SequenceTracker::new(3, interruptions)
                .assess(Some(0), None, interruptions)
                .holes[0]
                .circumstance
        };
        assert_eq!(circumstance(OPEN), Circumstance::WhileOpen);
        assert_eq!(
            circumstance(Interruptions { opens: 2, gaps: 0 }),
            Circumstance::AcrossReconnect
        );
        assert_eq!(
            circumstance(Interruptions { opens: 2, gaps: 1 }),
            Circumstance::Announced
        );
        let nothing = Verdict::nothing_received(2, 4, OPEN);
        assert_eq!(
            (holes(&nothing), nothing.lost.while_open),
            (vec![(2, 4)], 3)
        );
    }

    #[test]
    fn with_too_many_early_ones_the_head_is_not_judged() {
        let first = 2 * RANGES_MAX as u64 + 10;
        let mut track = SequenceTracker::new(first, OPEN);
        (0..=RANGES_MAX as u64).for_each(|n| track.record(2 * n, OPEN));
        let verdict = track.assess(Some(0), None, OPEN);
        assert_eq!((verdict.lost.total, verdict.unjudged), (0, 1));
    }

    #[test]
    fn too_many_holes_are_closed_but_counted() {
        let count = 2 * RANGES_MAX as u64;
        let mut track = SequenceTracker::new(0, OPEN);
        (1..=count).for_each(|n| track.record(2 * n, OPEN));
        track.record(1, OPEN);
        track.record(2 * count - 1, OPEN);
        let verdict = track.assess(None, None, OPEN);
        assert_eq!(
            (verdict.lost.total, verdict.unjudged, verdict.out_of_order),
            (count - 1, 1, 1)
        );
        assert_eq!(
            verdict.holes.len() as u64 + verdict.holes_unlisted,
            count - 1
        );
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut track = SequenceTracker::new(0, OPEN);
        track.record(u64::MAX - 1, OPEN);
        assert_eq!(
            track.assess(None, Some(u64::MAX - 1), OPEN).lost.total,
            u64::MAX - 2
        );
    }

    /// The same from a set of all that came.
    fn naive(numbers: &[u64], target: Option<u64>) -> (Vec<u64>, u64, u64) {
        let (mut came, mut twice, mut late, mut highest) = (BTreeSet::new(), 0, 0, None);
        for number in numbers {
            if !came.insert(*number) {
                twice += 1;
            } else if highest.is_some_and(|highest| *number < highest) {
                late += 1;
            }
            highest = highest.max(Some(*number));
        }
        let end = target.or(highest).unwrap_or_default();
        (
            (numbers[0]..=end)
                .filter(|number| !came.contains(number))
                .collect(),
            twice,
            late,
        )
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_all_numbers(
            numbers in prop::collection::vec(0_u64..60, 1..80),
            target in prop::option::of(0_u64..80),
        ) {
            let verdict = track(&numbers).assess(None, target, OPEN);
            let (lost, twice, late) = naive(&numbers, target);
            let found: Vec<u64> = verdict.holes.iter().flat_map(|hole| hole.numbers.clone()).collect();
            prop_assert_eq!(verdict.lost.total, lost.len() as u64);
            prop_assert_eq!(verdict.lost.while_open, lost.len() as u64);
            prop_assert_eq!((found, verdict.twice, verdict.out_of_order), (lost, twice, late));
            prop_assert_eq!((verdict.holes_unlisted, verdict.unjudged), (0, 0));
        }

        #[test]
        fn it_agrees_when_all_are_owed(numbers in prop::collection::vec(0_u64..60, 1..80), target in 0_u64..80) {
            let came: BTreeSet<_> = numbers.iter().copied().collect();
            let lost: Vec<u64> = (0..=target).filter(|number| !came.contains(number)).collect();
            let track = track(&numbers);
            let verdict = track.assess(Some(0), Some(target), OPEN);
            let found: Vec<u64> = verdict.holes.iter().flat_map(|hole| hole.numbers.clone()).collect();
            prop_assert_eq!((verdict.lost.total, track.is_behind(Some(0), target)), (lost.len() as u64, !lost.is_empty()));
            prop_assert_eq!(found, lost);
        }

        #[test]
        fn it_agrees_when_most_come_in_order(
            swaps in prop::collection::vec((0_usize..400, 1_usize..6), 0..20),
            missing in prop::collection::btree_set(0_u64..400, 0..40),
        ) {
            let mut numbers: Vec<u64> = (0..400).filter(|number| !missing.contains(number)).collect();
            for (at, by) in swaps {
                let last = numbers.len() - 1;
                numbers.swap(at.min(last), (at + by).min(last));
            }
            let verdict = track(&numbers).assess(None, Some(420), OPEN);
            let (lost, twice, late) = naive(&numbers, Some(420));
            prop_assert_eq!((verdict.lost.total, verdict.twice, verdict.out_of_order), (lost.len() as u64, twice, late));
        }
    }
}
