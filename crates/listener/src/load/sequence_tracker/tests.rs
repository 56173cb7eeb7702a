//! Cases of the sequence tracker, and its agreement with a set of all numbers.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{anomalies::RANGES_MAX, *};

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
        track.is_behind(Some(0), 6) && !track.is_behind(Some(2), 2) && !track.is_behind(None, 6)
    );
    for number in [0, 1, 3, 4] {
        track.record(number, OPEN);
    }
    assert!(!track.is_behind(Some(0), 6) && track.assess(Some(0), Some(6), OPEN).lost.total == 0);
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

/// The expected verdict, from a set of all received numbers.
fn naive(numbers: &[u64], target: Option<u64>) -> (Vec<u64>, u64, u64) {
    let (mut received, mut twice, mut late, mut highest) = (BTreeSet::new(), 0, 0, None);
    for number in numbers {
        if !received.insert(*number) {
            twice += 1;
        } else if highest.is_some_and(|highest| *number < highest) {
            late += 1;
        }
        highest = highest.max(Some(*number));
    }
    let end = target.or(highest).unwrap_or_default();
    (
        (numbers[0]..=end)
            .filter(|number| !received.contains(number))
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
        let received: BTreeSet<_> = numbers.iter().copied().collect();
        let lost: Vec<u64> = (0..=target).filter(|number| !received.contains(number)).collect();
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
