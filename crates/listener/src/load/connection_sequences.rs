//! The numbered events of one connection: a sequence tracker per publisher.

use std::time::Instant;

use super::{
    publishers::{FirstOpen, NumberedEvent, Publisher, Publishers},
    sequence_tracker::{Interruptions, SequenceTracker, Verdict},
};

/// What one connection received of all publishers.
#[derive(Debug, Default)]
pub(crate) struct ConnectionSequences {
    /// By index of the publisher, ascending.
    trackers: Vec<(usize, SequenceTracker)>,
    /// Index of the tracker used last. The next event is mostly of the same publisher.
    last: usize,
}

impl ConnectionSequences {
    /// Records an event that the connection received.
    pub(crate) fn record(
        &mut self,
        publishers: &mut Publishers,
        event: NumberedEvent<'_>,
        interruptions: Interruptions,
        now: Instant,
    ) {
        let likely = self
            .trackers
            .get(self.last)
            .map(|(publisher, _)| *publisher);
        let Some(publisher) = publishers.observe(likely, event, now) else {
            return;
        };
        match self.find_tracker(publisher) {
            Ok(at) => {
                self.last = at;
                self.trackers[at].1.record(event.number, interruptions);
            }
            Err(at) => {
                self.last = at;
                let tracker = SequenceTracker::new(event.number, interruptions);
                self.trackers.insert(at, (publisher, tracker));
            }
        }
    }

    /// Returns `true` if an event up to the target of a publisher is missing and can still arrive.
    pub(crate) fn is_behind(&self, publishers: &Publishers, opened: Option<FirstOpen>) -> bool {
        let mut trackers = self.trackers.iter().peekable();
        publishers
            .list()
            .iter()
            .enumerate()
            .any(|(index, publisher)| {
                let tracker = trackers
                    .next_if(|(of, _)| *of == index)
                    .map(|(_, tracker)| tracker);
                let expected_from = publisher.expected_from(opened, tracker.is_some());
                publisher.target.is_some_and(|target| match tracker {
                    Some(tracker) => tracker.is_behind(expected_from, target),
                    None => expected_from.is_some_and(|from| from <= target),
                })
            })
    }

    /// Judges what the connection received of a publisher, up to `target`.
    ///
    /// Returns `None` if the connection received nothing and is entitled to nothing.
    pub(crate) fn assess(
        &self,
        (index, publisher): (usize, &Publisher),
        opened: Option<FirstOpen>,
        target: Option<u64>,
        interruptions: Interruptions,
    ) -> Option<Verdict> {
        let tracker = self.find_tracker(index).ok().map(|at| &self.trackers[at].1);
        let expected_from = publisher.expected_from(opened, tracker.is_some());
        if let Some(tracker) = tracker {
            return Some(tracker.assess(expected_from, target, interruptions));
        }
        let (first, last) = expected_from
            .zip(target)
            .filter(|(first, last)| first <= last)?;
        Some(Verdict::nothing_received(first, last, interruptions))
    }

    /// The index of a publisher's tracker, or else the index to insert it at.
    fn find_tracker(&self, publisher: usize) -> Result<usize, usize> {
        match self.trackers.get(self.last) {
            Some((last, _)) if *last == publisher => Ok(self.last),
            _ => self
                .trackers
                .binary_search_by_key(&publisher, |(known, _)| *known),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::publishers::PUBLISHERS_MAX;

    const OPEN: Interruptions = Interruptions { opens: 1, gaps: 0 };

    fn event(publisher: &str, number: u64) -> NumberedEvent<'_> {
        NumberedEvent {
            publisher,
            number,
            sent_us: None,
        }
    }

    #[test]
    fn publishers_are_judged_separately_and_the_furthest_connection_sets_the_target() {
        let (mut publishers, now) = (Publishers::default(), Instant::now());
        let (mut one, mut other) = (
            ConnectionSequences::default(),
            ConnectionSequences::default(),
        );
        for (name, number) in [("a", 0), ("b", 7), ("a", 1), ("b", 8), ("a", 2)] {
            one.record(&mut publishers, event(name, number), OPEN, now);
        }
        other.record(&mut publishers, event("a", 1), OPEN, now);
        assert!(!other.is_behind(&publishers, None));
        publishers.set_targets();
        assert!(!one.is_behind(&publishers, None) && other.is_behind(&publishers, None));
        let lost = |sequences: &ConnectionSequences, publisher: usize| {
            let of = &publishers.list()[publisher];
            sequences
                .assess((publisher, of), None, of.target, OPEN)
                .map(|verdict| verdict.lost.total)
        };
        assert_eq!(
            [
                lost(&one, 0),
                lost(&one, 1),
                lost(&other, 0),
                lost(&other, 1)
            ],
            [Some(0), Some(0), Some(1), None]
        );
        other.record(&mut publishers, event("a", 2), OPEN, now);
        assert!(!other.is_behind(&publishers, None));
    }

    #[test]
    fn a_connection_opened_before_the_lowest_event_was_sent_is_entitled_to_it() {
        let (mut publishers, start) = (Publishers::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        let opened = |ms: u64| {
            Some(FirstOpen {
                at: at(ms),
                at_us: ms * 1_000,
            })
        };
        let (mut one, mut late, none) = (
            ConnectionSequences::default(),
            ConnectionSequences::default(),
            ConnectionSequences::default(),
        );
        let sent = |number, ms: u64| NumberedEvent {
            sent_us: Some(ms * 1_000),
            ..event("p", number)
        };
        // The lowest event is not the first one received.
        one.record(&mut publishers, sent(6, 102), OPEN, at(110));
        one.record(&mut publishers, sent(5, 100), OPEN, at(120));
        late.record(&mut publishers, sent(7, 104), OPEN, at(130));
        publishers.set_targets();
        let lost = |sequences: &ConnectionSequences, opened| {
            let publisher = &publishers.list()[0];
            let verdict = sequences.assess((0, publisher), opened, publisher.target, OPEN);
            assert_eq!(
                sequences.is_behind(&publishers, opened),
                verdict.as_ref().is_some_and(|one| one.lost.total > 0)
            );
            verdict.map(|verdict| verdict.lost.total)
        };
        assert_eq!(
            [lost(&late, opened(99)), lost(&none, opened(99))],
            [Some(2), Some(3)]
        );
        // The stream opened after the lowest event was sent, or never: Flask-SSE opens a stream
        // with its first event.
        assert_eq!(
            [
                lost(&late, opened(101)),
                lost(&none, opened(101)),
                lost(&none, None)
            ],
            [Some(0), None, None]
        );
        // The publisher's clock is far ahead, but the stream opened after the event was received.
        let ahead = Some(FirstOpen {
            at: at(140),
            at_us: 1_000,
        });
        assert_eq!([lost(&late, ahead), lost(&none, ahead)], [Some(0), None]);
    }

    #[test]
    fn without_a_stamp_only_a_connection_that_received_nothing_is_entitled_to_the_lowest_event() {
        let (mut publishers, start) = (Publishers::default(), Instant::now());
        let opened = Some(FirstOpen {
            at: start,
            at_us: 0,
        });
        let (mut one, mut late, none) = (
            ConnectionSequences::default(),
            ConnectionSequences::default(),
            ConnectionSequences::default(),
        );
        let later = start + Duration::from_millis(1);
        for number in [0, 1] {
            one.record(&mut publishers, event("p", number), OPEN, later);
        }
        late.record(&mut publishers, event("p", 1), OPEN, later);
        publishers.set_targets();
        assert!(!late.is_behind(&publishers, opened) && none.is_behind(&publishers, opened));
    }

    #[test]
    fn too_many_publishers_are_counted_and_not_judged() {
        let (mut publishers, mut sequences, now) = (
            Publishers::default(),
            ConnectionSequences::default(),
            Instant::now(),
        );
        for nth in 0..PUBLISHERS_MAX + 3 {
            sequences.record(&mut publishers, event(&nth.to_string(), 0), OPEN, now);
        }
        assert_eq!(
            (publishers.list().len(), publishers.unjudged_events),
            (PUBLISHERS_MAX, 3)
        );
    }
}
