//! Lanes: a run publishes in several at once, and in each one event after the other.
//!
//! With many requests under way a server may well store the second before the first. So that numbers can prove an
//! order, events are numbered within a lane, and a lane's next request waits for the answer to the one before. In a
//! record and in a stamp each lane is a publisher of its own.
//!
//! What was refused is not in the log, and its numbers are given out again: a lane has no holes that are not losses. After
//! a request of unknown outcome, which may be stored later than the next one, the lane is given up.

use crate::{payload::lane::Lane, publisher::Outcome};

/// The lanes of a run that are free. As many exist as requests were ever under way together.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// The one that was used last is last: few are used as long as few will do.
    free: Vec<Lane>,
    opened: u32,
}

impl Lanes {
    /// A lane for the next request. There are more than a run can use.
    pub(crate) fn acquire(&mut self) -> Lane {
        self.free.pop().unwrap_or_else(|| {
            let number = self.opened;
            self.opened = self.opened.wrapping_add(1);
            Lane { number, next: 0 }
        })
    }

    /// A lane in which nothing was sent is free again.
    pub(crate) fn release_unused(&mut self, lane: Lane) {
        self.free.push(lane);
    }

    /// The request with so many events in this lane has ended.
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
    fn a_lane_goes_on_after_what_was_acknowledged_only() {
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
