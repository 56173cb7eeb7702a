//! The ledgers of all connections: who publishes, how far each publisher was seen, and a [`Track`] for each pair.

use std::{collections::HashMap, time::Instant};

use super::ledger::{Moment, Track, Verdict};

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
    /// When any connection saw its first event.
    pub(crate) first_seen: Instant,
    /// When that event was sent, if it says so, in microseconds since the Unix epoch.
    pub(crate) first_sent_us: Option<u64>,
    /// What every connection has to reach, once the time is up.
    pub(crate) target: Option<u64>,
}

/// A numbered event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbered<'a> {
    pub(crate) publisher: &'a str,
    pub(crate) number: u64,
    /// When it was sent, if it says so.
    pub(crate) sent_us: Option<u64>,
}

/// What one connection got of all publishers.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// By publisher, ascending.
    tracks: Vec<(usize, Track)>,
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
        self.known.iter_mut().for_each(|publisher| publisher.target = Some(publisher.highest));
    }

    fn find_or_add(&mut self, event: Numbered<'_>, now: Instant) -> Option<usize> {
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
            first_seen: now,
            first_sent_us: event.sent_us,
            target: None,
        });
        Some(self.known.len() - 1)
    }
}

impl Book {
    /// Enters an event.
    pub(crate) fn take(&mut self, publishers: &mut Publishers, event: Numbered<'_>, moment: Moment, now: Instant) {
        let same = |(at, _): &&(usize, Track)| &*publishers.known[*at].name == event.publisher;
        let publisher = match self.tracks.get(self.last).filter(same) {
            Some((publisher, _)) => *publisher,
            None => match publishers.find_or_add(event, now) {
                Some(publisher) => publisher,
                None => return publishers.unjudged_events += 1,
            },
        };
        let number = event.number;
        let highest = &mut publishers.known[publisher].highest;
        *highest = number.max(*highest);
        if self.tracks.get(self.last).is_none_or(|(last, _)| *last != publisher) {
            self.last = match self.find(publisher) {
                Ok(at) => at,
                Err(at) => {
                    self.tracks.insert(at, (publisher, Track::starting_with(number, moment)));
                    self.last = at;
                    return;
                }
            };
        }
        self.tracks[self.last].1.take(number, moment);
    }

    /// It has not yet seen what it has to see.
    pub(crate) fn is_behind(&self, publishers: &Publishers) -> bool {
        let behind = |(publisher, track): &(usize, Track)| {
            publishers.known[*publisher].target.is_some_and(|target| track.is_behind(target))
        };
        self.tracks.iter().any(behind)
    }

    /// What became of a publisher's events; none if there was not one.
    pub(crate) fn verdict(&self, publisher: usize, target: Option<u64>, moment: Moment) -> Option<Verdict> {
        let (_, track) = &self.tracks[self.find(publisher).ok()?];
        Some(track.verdict(target, moment))
    }

    /// Where its track is, or would be.
    fn find(&self, publisher: usize) -> Result<usize, usize> {
        self.tracks.binary_search_by_key(&publisher, |(known, _)| *known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Moment = Moment { opens: 1, gaps: 0 };

    fn event(publisher: &str, number: u64) -> Numbered<'_> {
        Numbered { publisher, number, sent_us: None }
    }

    #[test]
    fn publishers_are_judged_apart_and_the_furthest_connection_sets_the_target() {
        let (mut publishers, now) = (Publishers::default(), Instant::now());
        let (mut one, mut other) = (Book::default(), Book::default());
        for (name, number) in [("a", 0), ("b", 7), ("a", 1), ("b", 8), ("a", 2)] {
            one.take(&mut publishers, event(name, number), OPEN, now);
        }
        other.take(&mut publishers, event("a", 1), OPEN, now);
        assert!(!other.is_behind(&publishers));
        publishers.set_targets();
        assert!(!one.is_behind(&publishers) && other.is_behind(&publishers));
        let lost = |book: &Book, publisher: usize| {
            book.verdict(publisher, publishers.list()[publisher].target, OPEN).map(|verdict| verdict.lost.total)
        };
        assert_eq!([lost(&one, 0), lost(&one, 1), lost(&other, 0), lost(&other, 1)], [Some(0), Some(0), Some(1), None]);
        other.take(&mut publishers, event("a", 2), OPEN, now);
        assert!(!other.is_behind(&publishers));
    }

    #[test]
    fn too_many_publishers_are_counted_and_not_judged() {
        let (mut publishers, mut book, now) = (Publishers::default(), Book::default(), Instant::now());
        for nth in 0..PUBLISHERS_MAX + 3 {
            book.take(&mut publishers, event(&nth.to_string(), 0), OPEN, now);
        }
        assert_eq!((publishers.list().len(), publishers.unjudged_events), (PUBLISHERS_MAX, 3));
    }
}
