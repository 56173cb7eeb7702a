//! Tests of the ids that a node knows.

use super::*;
use crate::broker::redis::slots::Slots;

fn detector(channels_max: usize) -> LossDetector {
    let age_max = Duration::from_hours(1);
    LossDetector::new(
        Names::new("sse:", Slots::One),
        age_max,
        channels_max,
        Metrics::new(),
    )
}

impl LossDetector {
    fn era(&self) -> u64 {
        self.eras.last()
    }

    /// Begins a new era everywhere.
    fn mark_all_unverified(&self) {
        let slots: Vec<Slot> = self.names.slots().all().collect();
        self.eras.begin_era(&slots);
        let all = slots.into_iter().map(|slot| (slot, 0)).collect();
        self.unverified_ids(&all);
    }
}

fn channel(number: u64) -> Channel {
    format!("c{number}").parse().unwrap()
}

fn id(number: u64) -> EventId {
    EventId::new(number, 0)
}

fn reply(words: &[&str]) -> Value {
    let words = words.iter().map(|word| Value::SimpleString((*word).into()));
    Value::Array(words.collect())
}

/// The milliseconds of the unverified ids of the first channel.
fn unverified(detector: &LossDetector) -> Vec<u64> {
    detector.known()[&channel(1)]
        .unverified_ids()
        .map(|unverified| unverified.id.ms)
        .collect()
}

#[test]
fn the_newest_channels_are_remembered_and_never_more_than_the_limit() {
    let detector = detector(10);
    for number in 1..=1000 {
        detector.observe(&channel(number), id(number), 0);
        assert!(detector.known().len() <= 10);
    }
    detector.observe(&channel(2000), EventId::ZERO, 0);
    assert!(
        detector.known().contains_key(&channel(1000))
            && !detector.known().contains_key(&channel(2000))
    );
}

#[test]
fn an_unverified_id_is_neither_overwritten_nor_forgotten() {
    let detector = detector(4);
    detector.observe(&channel(1), id(1), detector.era());
    detector.mark_all_unverified();
    for number in 1..100 {
        detector.observe(&channel(number), id(100 + number), detector.era());
    }
    detector.mark_all_unverified();
    assert_eq!(unverified(&detector), [1, 101]);
    let recorded = reply(&["recorded", "200-0", "0-0"]);
    assert!(detector.apply_reply(&channel(1), id(1), recorded));
    assert_eq!(detector.known()[&channel(1)].newest_id(), id(200));
    assert_eq!(unverified(&detector), [101]);
}

#[test]
fn a_reply_that_arrives_after_the_verification_is_unverified() {
    let detector = detector(4);
    let era = detector.era();
    detector.observe(&channel(1), id(1), era);
    detector.mark_all_unverified();
    assert!(!detector.apply_reply(&channel(1), id(1), reply(&["present"])));
    detector.observe(&channel(1), id(2), era);
    detector.observe(&channel(1), id(3), detector.era());
    let known = detector.known()[&channel(1)].clone();
    let unverified = known.unverified_ids().next().unwrap();
    assert_eq!((known.newest_id(), unverified.id), (id(3), id(2)));
    assert_eq!(unverified.older, [id(1); 3]);
}

#[test]
fn every_era_that_is_not_verified_has_its_own_unverified_id() {
    let detector = detector(4);
    for number in 1..=3 {
        detector.observe(&channel(1), id(number), detector.era());
        detector.mark_all_unverified();
    }
    assert!(!detector.apply_reply(&channel(1), id(1), reply(&["present"])));
    assert_eq!(unverified(&detector), [2, 3]);
    for number in 4..100 {
        detector.observe(&channel(1), id(number), detector.era());
        detector.mark_all_unverified();
    }
    assert_eq!(unverified(&detector), [2, 93, 94, 95, 96, 97, 98, 99]);
    // An id that is not older is not listed as older.
    detector.observe(&channel(2), id(5), detector.era());
    detector.observe(&channel(2), id(4), detector.era() - 1);
    let known = detector.known()[&channel(2)].clone();
    assert_eq!(
        known.unverified_ids().next().unwrap().older,
        [EventId::ZERO; 3]
    );
}

#[test]
fn an_id_that_redis_cannot_verify_stays_unverified() {
    let detector = detector(4);
    detector.observe(&channel(1), id(1), 0);
    detector.mark_all_unverified();
    assert!(!detector.apply_reply(&channel(1), id(1), Value::Nil));
    assert_eq!(unverified(&detector), [1]);
    assert!(!detector.apply_reply(&channel(1), id(1), reply(&["trimmed"])));
    assert!(unverified(&detector).is_empty());
}
