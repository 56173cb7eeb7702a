//! The log's clock: gives out ids that only grow, whatever the system's clock does.

use std::time::{SystemTime, UNIX_EPOCH};

use sse_proto::EventId;

/// Gives out event ids.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct Clock {
    highest: EventId,
    /// The sequence number of the first event in a millisecond.
    ///
    /// Zero for a log on disk. A log in memory starts at a random number, so that after a restart it cannot take
    /// an id of its former self for one of its own.
    first_seq: u64,
}

impl Clock {
    /// A clock that has given out every id up to `highest`.
    pub(in crate::broker) const fn new(highest: EventId, first_seq: u64) -> Self {
        Self { highest, first_seq }
    }

    /// The highest id given out.
    pub(in crate::broker) const fn highest(&self) -> EventId {
        self.highest
    }

    /// Goes past `bound` without giving out an id, if the time `now_ms` is past it: none up to it is given out then.
    pub(in crate::broker) fn pass(&mut self, bound: EventId, now_ms: u64) {
        if now_ms > bound.ms {
            self.highest = self.highest.max(bound);
        }
    }

    /// The next id, at the time `now_ms`.
    pub(in crate::broker) fn next(&mut self, now_ms: u64) -> EventId {
        self.highest = if now_ms > self.highest.ms {
            EventId::new(now_ms, self.first_seq)
        } else if let Some(seq) = self.highest.seq.checked_add(1) {
            EventId::new(self.highest.ms, seq)
        } else {
            EventId::new(self.highest.ms + 1, self.first_seq)
        };
        self.highest
    }
}

/// Milliseconds since the Unix epoch.
pub(in crate::broker) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_when_the_clock_stands_still_or_steps_back() {
        let mut clock = Clock::new(EventId::ZERO, 0);
        let ids = [1000, 1000, 400, 1001, 1000].map(|now| clock.next(now).to_string());
        assert_eq!(ids, ["1000-0", "1000-1", "1000-2", "1001-0", "1001-1"]);
        assert_eq!(
            Clock::new(EventId::new(9000, 3), 0).next(1000),
            EventId::new(9000, 4)
        );
    }

    #[test]
    fn what_was_passed_is_never_given_out_even_if_the_clock_steps_back() {
        let mut clock = Clock::new(EventId::new(1000, 0), 7);
        let bound = EventId::new(2000, u64::MAX);
        clock.pass(EventId::new(900, 0), 1000);
        clock.pass(bound, 2000);
        assert_eq!(clock.highest(), EventId::new(1000, 0));
        clock.pass(bound, 2001);
        assert_eq!(clock.next(1500), EventId::new(2001, 7));
        assert_eq!(clock.next(1500), EventId::new(2001, 8));
    }

    #[test]
    fn a_log_in_memory_starts_every_millisecond_at_its_own_number() {
        let mut clock = Clock::new(EventId::new(0, 77), 77);
        let ids = [5, 5, 6].map(|now| clock.next(now).to_string());
        assert_eq!(ids, ["5-77", "5-78", "6-77"]);
    }
}
