//! Lanes: sequences of requests in which each waits for the response to the one before.
//!
//! With several requests in flight, a server may store the second before the first. To prove an
//! order by numbers, events are numbered within a lane. In a record and in a stamp, each lane is a
//! publisher.
//!
//! The numbers of events that were not stored are used again, so that each missing number in a lane
//! is a loss. After an unknown outcome the lane is abandoned: its request may still be stored after
//! a later one.

use crate::{payload::lane::Lane, publisher::Outcome};

/// The free lanes of a run. The number of lanes is the highest number of requests that were in
/// flight together, plus the abandoned ones.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// The lane that was used last is last, so that few lanes are used.
    free: Vec<Lane>,
    opened: u32,
}

impl Lanes {
    /// Returns a lane for the next request. There are more lanes than a run can use.
    pub(crate) fn acquire(&mut self) -> Lane {
        self.free.pop().unwrap_or_else(|| {
            let number = self.opened;
            self.opened = self.opened.wrapping_add(1);
            Lane { number, next: 0 }
        })
    }

    /// Returns a lane in which nothing was sent.
    pub(crate) fn release_unused(&mut self, lane: Lane) {
        self.free.push(lane);
    }

    /// Releases the lane of a finished request with this number of events.
    pub(crate) fn release_after(&mut self, lane: Lane, events: u64, outcome: &Outcome) {
        match outcome {
            Outcome::Acknowledged(_) => self.free.push(Lane {
                next: lane.next + events,
                ..lane
            }),
            Outcome::NotStored(_) => self.free.push(lane),
            Outcome::Unknown(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::{Failure, Ids};

    #[test]
    fn a_lane_continues_after_acknowledged_events_only() {
        let mut lanes = Lanes::default();
        let (first, second) = (lanes.acquire(), lanes.acquire());
        assert_eq!(
            (first, second),
            (Lane { number: 0, next: 0 }, Lane { number: 1, next: 0 })
        );
        lanes.release_after(first, 3, &Outcome::Acknowledged(Ids::NotReported));
        assert_eq!(lanes.acquire(), Lane { number: 0, next: 3 });
        lanes.release_after(
            Lane { number: 0, next: 3 },
            2,
            &Outcome::NotStored(Failure::Stopped),
        );
        assert_eq!(lanes.acquire(), Lane { number: 0, next: 3 });
        lanes.release_after(second, 1, &Outcome::Unknown(Failure::Stopped));
        assert_eq!(
            lanes.acquire(),
            Lane { number: 2, next: 0 },
            "the second may still be stored"
        );
    }
}
