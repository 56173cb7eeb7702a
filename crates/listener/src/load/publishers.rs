//! The ledgers of all connections: who publishes, how far each publisher was seen, and a [`SequenceTracker`] for each pair.

use std::{collections::HashMap, time::Instant};

use super::sequence_tracker::{Interruptions, SequenceTracker, Verdict};

/// Publishers that are told apart; the events of further ones are counted and not judged. (`event-generator` is as many
/// as it has requests under way.)
const PUBLISHERS_MAX: usize = 4096;

/// Everybody who publishes numbered events.
#[derive(Debug, Default)]
pub(crate) struct Publishers {
    known: Vec<Publisher>,
    by_name: HashMap<Box<str>, usize>,
    /// Events of publishers for whom there was no room.
    pub(crate) unjudged_events: u64,
}

/// Who publishes numbered events.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) name: Box<str>,
    /// The highest number that any connection saw.
    pub(crate) highest: u64,
    /// The lowest-numbered event that any connection saw.
    lowest: LowestEvent,
    /// What every connection has to reach, once the time is up.
    pub(crate) target: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct LowestEvent {
    number: u64,
    /// When any connection saw it first.
    seen: Instant,
    /// When it was sent, if it says so, in microseconds since the Unix epoch.
    sent_us: Option<u64>,
}

/// When a connection's stream opened for the first time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FirstOpen {
    pub(crate) at: Instant,
    /// The same by the clock, in microseconds since the Unix epoch.
    pub(crate) at_us: u64,
}

/// A numbered event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberedEvent<'a> {
    pub(crate) publisher: &'a str,
    pub(crate) number: u64,
    /// When it was sent, if it says so.
    pub(crate) sent_us: Option<u64>,
}

/// What one connection got of all publishers.
#[derive(Debug, Default)]
pub(crate) struct ConnectionSequences {
    /// By publisher, ascending.
    tracks: Vec<(usize, SequenceTracker)>,
    /// Where the last event was entered: the next one is mostly of the same publisher.
    last: usize,
}

impl Publishers {
    /// All of them.
    pub(crate) fn list(&self) -> &[Publisher] {
        &self.known
    }

    /// The time is up: what any connection has seen now is what every one has to see.
    pub(crate) fn set_targets(&mut self) {
        self.known
            .iter_mut()
            .for_each(|publisher| publisher.target = Some(publisher.highest));
    }

    fn find_or_add_publisher(&mut self, event: NumberedEvent<'_>, now: Instant) -> Option<usize> {
        if let Some(at) = self.by_name.get(event.publisher) {
            return Some(*at);
        }
        if self.known.len() == PUBLISHERS_MAX {
            return None;
        }
        let name = event.publisher;
        self.by_name.insert(name.into(), self.known.len());
        self.known.push(Publisher {
            name: name.into(),
            highest: 0,
            lowest: LowestEvent {
                number: event.number,
                seen: now,
                sent_us: event.sent_us,
            },
            target: None,
        });
        Some(self.known.len() - 1)
    }
}

impl Publisher {
    /// The number from which on a connection is expected_from everything: it was open before the lowest that is known was sent.
    ///
    /// Both clocks have to say so, as the sender's may be ahead of ours. If the event does not say when it was sent, it may
    /// have been before the stream opened; then only whoever got nothing at all is expected_from it.
    fn expected_from(&self, opened: Option<FirstOpen>, got_some: bool) -> Option<u64> {
        let (opened, lowest) = (opened?, self.lowest);
        let by_the_clock = lowest
            .sent_us
            .map_or(!got_some, |sent_us| opened.at_us < sent_us);
        (by_the_clock && opened.at < lowest.seen).then_some(lowest.number)
    }

    fn observe(&mut self, event: NumberedEvent<'_>, now: Instant) {
        self.highest = self.highest.max(event.number);
        if event.number < self.lowest.number {
            self.lowest = LowestEvent {
                number: event.number,
                seen: now,
                sent_us: event.sent_us,
            };
        }
    }
}

impl ConnectionSequences {
    /// Enters an event.
    pub(crate) fn record(
        &mut self,
        publishers: &mut Publishers,
        event: NumberedEvent<'_>,
        interruptions: Interruptions,
        now: Instant,
    ) {
        let same =
            |(at, _): &&(usize, SequenceTracker)| &*publishers.known[*at].name == event.publisher;
        let publisher = match self.tracks.get(self.last).filter(same) {
            Some((publisher, _)) => *publisher,
            None => match publishers.find_or_add_publisher(event, now) {
                Some(publisher) => publisher,
                None => return publishers.unjudged_events += 1,
            },
        };
        let number = event.number;
        publishers.known[publisher].observe(event, now);
        if self
            .tracks
            .get(self.last)
            .is_none_or(|(last, _)| *last != publisher)
        {
            self.last = match self.find_track(publisher) {
                Ok(at) => at,
                Err(at) => {
                    self.tracks
                        .insert(at, (publisher, SequenceTracker::new(number, interruptions)));
                    self.last = at;
                    return;
                }
            };
        }
        self.tracks[self.last].1.record(number, interruptions);
    }

    /// It has not yet seen what it has to see, since its stream opened.
    pub(crate) fn is_behind(&self, publishers: &Publishers, opened: Option<FirstOpen>) -> bool {
        let mut tracks = self.tracks.iter().peekable();
        publishers.known.iter().enumerate().any(|(nth, publisher)| {
            let track = tracks.next_if(|(of, _)| *of == nth).map(|(_, track)| track);
            let expected_from = publisher.expected_from(opened, track.is_some());
            publisher.target.is_some_and(|target| match track {
                Some(track) => track.is_behind(expected_from, target),
                None => expected_from.is_some_and(|expected_from| expected_from <= target),
            })
        })
    }

    /// What became of a publisher's events up to a target; none if nothing came and nothing is expected_from.
    pub(crate) fn assess(
        &self,
        (nth, publisher): (usize, &Publisher),
        opened: Option<FirstOpen>,
        target: Option<u64>,
        interruptions: Interruptions,
    ) -> Option<Verdict> {
        let track = self.find_track(nth).ok().map(|at| &self.tracks[at].1);
        let expected_from = publisher.expected_from(opened, track.is_some());
        if let Some(track) = track {
            return Some(track.assess(expected_from, target, interruptions));
        }
        let (expected_from, target) = expected_from
            .zip(target)
            .filter(|(expected_from, target)| expected_from <= target)?;
        Some(Verdict::nothing_received(
            expected_from,
            target,
            interruptions,
        ))
    }

    /// Where its track is, or would be.
    fn find_track(&self, publisher: usize) -> Result<usize, usize> {
        self.tracks
            .binary_search_by_key(&publisher, |(known, _)| *known)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OPEN: Interruptions = Interruptions { opens: 1, gaps: 0 };

    fn event(publisher: &str, number: u64) -> NumberedEvent<'_> {
        NumberedEvent {
            publisher,
            number,
            sent_us: None,
        }
    }

    #[test]
    fn publishers_are_judged_apart_and_the_furthest_connection_sets_the_target() {
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
    fn whoever_was_open_before_the_lowest_event_was_sent_is_owed_it() {
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
        // The lowest is not the first to be seen.
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
        // It opened after the lowest was sent, or never: Flask-SSE opens a stream with its first event.
        assert_eq!(
            [
                lost(&late, opened(101)),
                lost(&none, opened(101)),
                lost(&none, None)
            ],
            [Some(0), None, None]
        );
        // A sender whose clock is far ahead accuses nobody who opened after the event was seen.
        let ahead = Some(FirstOpen {
            at: at(140),
            at_us: 1_000,
        });
        assert_eq!([lost(&late, ahead), lost(&none, ahead)], [Some(0), None]);
    }

    #[test]
    fn without_a_time_only_whoever_got_nothing_is_owed_something() {
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
