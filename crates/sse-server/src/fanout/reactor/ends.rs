//! Ends the streams whose time is over: those at the end of their life, and during a drain.
//!
//! Streams have a deadline, and no timer. When the earliest deadline is over, the thread visits all
//! of its streams in slices, ends those that are due, and notes the earliest deadline of the
//! others. A stream that is blocked ends when its block is written. A client whose right expires is
//! warned before, if it has notices.

use std::time::{Duration, Instant};

use super::Reactor;
use crate::{
    channel::Chunk,
    fanout::{farewell::expiry_notice, shared_state::EncodedChunk},
};

/// Shortest time between two searches.
const INTERVAL: Duration = Duration::from_millis(100);

/// The search for streams that are due.
#[derive(Debug)]
pub(super) struct EndSearch {
    /// The next key to visit; `None` if no search is under way.
    next_key: Option<usize>,
    /// When the next search begins; `None` if no stream has a deadline.
    next_search: Option<Instant>,
    earliest_search: Instant,
}

impl EndSearch {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            next_key: None,
            next_search: None,
            earliest_search: now,
        }
    }

    /// Begins a search at `deadline`, or at the next opportunity after it.
    pub(super) fn note(&mut self, deadline: Instant) {
        let at = deadline.max(self.earliest_search);
        self.next_search = Some(self.next_search.map_or(at, |next| next.min(at)));
    }

    /// Returns how long no search is needed; `None` if no stream has a deadline.
    pub(super) fn time_until_work(&self, now: Instant) -> Option<Duration> {
        if self.next_key.is_some() {
            return Some(Duration::ZERO);
        }
        self.next_search.map(|at| at.saturating_duration_since(now))
    }

    /// Returns the next of `keys` to visit; `None` if there is nothing to do.
    fn next(&mut self, now: Instant, keys: usize) -> Option<usize> {
        let key = if let Some(key) = self.next_key {
            key
        } else {
            self.next_search.take_if(|at| *at <= now)?;
            self.earliest_search = now + INTERVAL;
            0
        };
        self.next_key = (key < keys).then_some(key + 1);
        (key < keys).then_some(key)
    }
}

impl Reactor<'_> {
    /// Ends the next stream if it is due. Returns `false` if the search is over.
    pub(super) fn end_next_due(&mut self, _: Instant) -> bool {
        let Some(key) = self.ends.next(self.now, self.connections.capacity()) else {
            return false;
        };
        if !self.end_if_due(key) {
            self.warn_if_due(key);
        }
        // One that is due and blocked ends when its block is written.
        if let Some(connection) = self.connections.get(key)
            && let Some(moment) = connection.guard.next_moment()
            && moment > self.now
        {
            self.ends.note(moment);
        }
        true
    }

    /// Ends a stream whose deadline is over. Returns `false` if it is not, or if the stream is
    /// blocked.
    pub(super) fn end_if_due(&mut self, key: usize) -> bool {
        let Some(connection) = self.connections.get(key) else {
            return false;
        };
        let reason = connection.guard.due_end(self.now);
        let Some(reason) = reason.filter(|_| !connection.is_blocked()) else {
            return false;
        };
        self.end_stream(key, reason);
        true
    }

    /// Sends a client with notices that its right is about to expire.
    pub(super) fn warn_if_due(&mut self, key: usize) {
        let connection = self.connections.get_mut(key);
        let Some(connection) = connection.filter(|connection| !connection.is_blocked()) else {
            return;
        };
        let Some(left) = connection.guard.take_warning(self.now) else {
            return;
        };
        if connection.state.subscription.has_notices() {
            self.send_chunk(key, &EncodedChunk::new(Chunk::notice(&expiry_notice(left))));
        }
    }

    /// Gives a stream the deadline of the drain, and notes the earliest deadline.
    pub(super) fn plan_end(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.guard.plan_drain(&self.context.drain, self.now);
        if let Some(moment) = connection.guard.next_moment() {
            self.ends.note(moment);
        }
    }

    /// Gives each stream a deadline within the time of the drain.
    pub(super) fn start_drain(&mut self) {
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.plan_end(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_begins_at_the_earliest_deadline_and_visits_every_key_once() {
        let start = Instant::now();
        let mut search = EndSearch::new(start);
        assert_eq!(search.time_until_work(start), None);
        let at = |ms| start + Duration::from_millis(ms);
        search.note(at(500));
        search.note(at(300));
        search.note(at(400));
        assert_eq!(
            search.time_until_work(start),
            Some(Duration::from_millis(300))
        );
        assert_eq!(search.next(at(299), 2), None);
        let visited: Vec<_> = std::iter::from_fn(|| search.next(at(300), 2)).collect();
        assert_eq!(visited, [0, 1]);
        assert_eq!(search.time_until_work(at(300)), None);
        search.note(at(310));
        assert_eq!(
            search.time_until_work(at(310)),
            Some(Duration::from_millis(90))
        );
    }
}
