//! The log's clock. It assigns ids that only grow, whatever the system's clock does.

use std::time::SystemTime;

use sse_proto::EventId;

use crate::epoch::milliseconds;

/// Assigns event ids.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct Clock {
    highest: EventId,
    /// The sequence number of the first event in a millisecond.
    ///
    /// A log on disk starts at zero. A log in memory starts at a random number, so that after a
    /// restart it cannot take an id of its former self for one of its own.
    first_seq: u64,
}

impl Clock {
    /// Creates a clock whose ids start above `highest`.
    pub(in crate::broker) const fn new(highest: EventId, first_seq: u64) -> Self {
        Self { highest, first_seq }
    }

    /// Returns the highest id that was assigned or passed. No id up to it will be assigned.
    pub(in crate::broker) const fn highest(&self) -> EventId {
        self.highest
    }

    /// Returns the log's time: `now_ms`, or the time of the highest id if the system's clock went
    /// back.
    pub(in crate::broker) fn log_ms(&self, now_ms: u64) -> u64 {
        now_ms.max(self.highest.ms)
    }

    /// Passes `bound` without assigning an id, if the time `now_ms` is later than `bound`.
    ///
    /// The clock never assigns an id up to `bound` then, even if the system's clock goes back.
    pub(in crate::broker) fn advance_past(&mut self, bound: EventId, now_ms: u64) {
        if now_ms > bound.ms {
            self.highest = self.highest.max(bound);
        }
    }

    /// Assigns the next id, at the time `now_ms`.
    pub(in crate::broker) fn next_id(&mut self, now_ms: u64) -> EventId {
        self.highest = if now_ms > self.highest.ms {
            self.first_id(now_ms)
        } else {
            self.id_after_highest()
        };
        self.highest
    }

    /// Returns the first id of the millisecond `ms`.
    const fn first_id(&self, ms: u64) -> EventId {
        EventId::new(ms, self.first_seq)
    }

    /// Returns the next id if the time is not past the millisecond of the highest id.
    fn id_after_highest(&self) -> EventId {
        let EventId { ms, seq } = self.highest;
        seq.checked_add(1)
            .map_or_else(|| self.first_id(ms + 1), |seq| EventId::new(ms, seq))
    }
}

/// Returns the system's time in milliseconds since the Unix epoch.
pub(in crate::broker) fn now_ms() -> u64 {
    milliseconds(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_when_the_clock_stops_or_goes_back() {
        let mut clock = Clock::new(EventId::ZERO, 0);
        let ids = [1000, 1000, 400, 1001, 1000].map(|now| clock.next_id(now).to_string());
        assert_eq!(ids, ["1000-0", "1000-1", "1000-2", "1001-0", "1001-1"]);
        assert_eq!(
            Clock::new(EventId::new(9000, 3), 0).next_id(1000),
            EventId::new(9000, 4)
        );
    }

    #[test]
    fn a_passed_id_is_never_assigned_even_if_the_clock_goes_back() {
        let mut clock = Clock::new(EventId::new(1000, 0), 7);
        let bound = EventId::new(2000, u64::MAX);
        clock.advance_past(EventId::new(900, 0), 1000);
        clock.advance_past(bound, 2000);
        assert_eq!(clock.highest(), EventId::new(1000, 0));
        clock.advance_past(bound, 2001);
        assert_eq!(clock.next_id(1500), EventId::new(2001, 7));
        assert_eq!(clock.next_id(1500), EventId::new(2001, 8));
    }

    #[test]
    fn a_log_in_memory_starts_every_millisecond_at_its_own_sequence_number() {
        let mut clock = Clock::new(EventId::new(0, 77), 77);
        let ids = [5, 5, 6].map(|now| clock.next_id(now).to_string());
        assert_eq!(ids, ["5-77", "5-78", "6-77"]);
    }
}
