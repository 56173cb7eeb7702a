//! End of a subscription: the last id that the client wants (`until=`).
//!
//! A subscription ends only when two things are known: it has read everything up to the bound, and
//! no event up to the bound can be added any more. The broker promises the latter with a
//! [`Settlement`].
//!
//! The bound can lie inside a loss whose gap record comes after it. The client wanted some of the
//! lost events, so it gets the record before the stream ends:
//!
//! ```text
//! log       4  ╳5  ╳6  ╳7  [8: gap record, 5 to 7 are lost]  9
//! until=5       ↑ bound
//! stream    4, gap, end
//! ```

use sse_proto::{EventId, Position, api::Gap};

/// The end of a subscription, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Until {
    bound: EventId,
    /// The first event beyond the bound, once the subscription has read so far. The log is in
    /// order, so it has nothing more to send after that event.
    first_beyond: Option<EventId>,
    settlement: Option<Settlement>,
}

/// How a log ends at the bound of a subscription, once no event up to there can be added any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The last id of the log, read after no more events could be added.
    pub last: EventId,
    /// A loss that overlaps the bound, although its record comes after the bound in the log.
    pub loss: Option<Gap>,
}

impl Settlement {
    /// Returns the id of the record of the loss, if a client at `position` does not know the loss.
    ///
    /// A client that got the loss from the end of an earlier stream is *at* the first event beyond
    /// the bound, and not after the record. It then gets that event if it resumes without an end.
    #[must_use]
    pub fn unreported(&self, position: Position, bound: EventId) -> Option<EventId> {
        let record = self.loss.as_ref()?.lost?.before;
        let is_reported = match position {
            Position::After(id) => id >= record,
            Position::At(id) => id > bound,
        };
        (!is_reported).then_some(record)
    }
}

/// What the end requires of a subscription at its current position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EndStep<'a> {
    /// More events up to the bound may follow: read on.
    Read,
    /// Everything is sent, but more events up to the bound may be added.
    Wait,
    /// Report this loss, and move to `position`.
    ReportLoss {
        record: EventId,
        position: Position,
        gap: &'a Gap,
    },
    /// Nothing more can follow.
    End,
}

impl Until {
    pub(super) const fn new(bound: EventId) -> Self {
        Self {
            bound,
            first_beyond: None,
            settlement: None,
        }
    }

    pub(super) fn set_settlement(&mut self, settlement: Settlement) {
        self.settlement = Some(settlement);
    }

    /// Whether the event `id` is beyond the end, and so the first that must not be sent.
    ///
    /// `is_within(bound)` returns whether the entry counts as up to `bound`. A gap record with a
    /// higher id can count.
    pub(super) fn is_beyond(
        &mut self,
        id: EventId,
        is_within: impl FnOnce(EventId) -> bool,
    ) -> bool {
        let is_beyond = !is_within(self.bound);
        if is_beyond {
            self.first_beyond.get_or_insert(id);
        }
        is_beyond
    }

    /// Decides how a subscription at `position` proceeds.
    pub(super) fn step(&self, position: Position) -> EndStep<'_> {
        match (&self.settlement, self.first_beyond) {
            (None, None) => EndStep::Read,
            (None, Some(_)) => EndStep::Wait,
            (Some(settlement), None) => self.step_within(position, settlement),
            (Some(settlement), Some(beyond)) => self.step_beyond(position, settlement, beyond),
        }
    }

    /// The subscription has met no event beyond the bound: it ends at the last id that can exist.
    fn step_within(&self, position: Position, settlement: &Settlement) -> EndStep<'static> {
        // A record that follows without an event in between is read in its place.
        let last = settlement
            .unreported(position, self.bound)
            .unwrap_or_else(|| self.bound.min(settlement.last));
        if position.floor() >= last {
            EndStep::End
        } else {
            EndStep::Read
        }
    }

    fn step_beyond<'a>(
        &self,
        position: Position,
        settlement: &'a Settlement,
        beyond: EventId,
    ) -> EndStep<'a> {
        let record = settlement.unreported(position, self.bound);
        match (record, &settlement.loss) {
            (Some(record), Some(gap)) => EndStep::ReportLoss {
                record,
                position: Position::At(beyond),
                gap,
            },
            _ => EndStep::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use sse_proto::api::{GapReason, Lost};

    use super::*;

    const fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    const fn after(ms: u64) -> Position {
        Position::After(id(ms))
    }

    /// Events 5 to 7 are lost; 8 is the record; 9 is the last id.
    fn settlement_with_loss() -> Settlement {
        let lost = Lost {
            after: id(4),
            before: id(8),
        };
        Settlement {
            last: id(9),
            loss: Some(Gap {
                channel: "a".parse().unwrap(),
                after: "4-0".to_owned(),
                oldest: Some(id(8)),
                reason: GapReason::LostTail,
                lost: Some(lost),
            }),
        }
    }

    const fn settlement(last: u64) -> Settlement {
        Settlement {
            last: id(last),
            loss: None,
        }
    }

    #[test]
    fn without_a_settlement_it_never_ends() {
        let mut until = Until::new(id(5));
        assert_eq!(until.step(after(5)), EndStep::Read);
        assert!(!until.is_beyond(id(5), |bound| id(5) <= bound));
        assert_eq!(until.step(after(5)), EndStep::Read);
        assert!(until.is_beyond(id(6), |bound| id(6) <= bound));
        assert_eq!(until.step(after(5)), EndStep::Wait);
    }

    #[test]
    fn it_ends_at_the_bound_or_at_the_last_id_below_it() {
        let mut until = Until::new(id(5));
        until.set_settlement(settlement(9));
        assert_eq!(until.step(after(4)), EndStep::Read);
        assert_eq!(until.step(after(5)), EndStep::End);
        until.set_settlement(settlement(3));
        assert_eq!(until.step(after(2)), EndStep::Read);
        assert_eq!(until.step(after(3)), EndStep::End);
    }

    #[test]
    fn it_ends_before_the_first_event_beyond_the_bound() {
        let mut until = Until::new(id(5));
        assert!(until.is_beyond(id(7), |bound| id(7) <= bound));
        until.set_settlement(settlement(9));
        assert_eq!(until.step(after(4)), EndStep::End);
    }

    #[test]
    fn a_loss_that_overlaps_the_bound_is_reported_before_the_end() {
        let mut until = Until::new(id(5));
        until.set_settlement(settlement_with_loss());
        assert_eq!(until.step(after(4)), EndStep::Read, "the record is next");
        assert_eq!(until.step(after(8)), EndStep::End);
        assert!(until.is_beyond(id(6), |bound| id(6) <= bound));
        let gap = settlement_with_loss().loss.unwrap();
        let report = EndStep::ReportLoss {
            record: id(8),
            position: Position::At(id(6)),
            gap: &gap,
        };
        assert_eq!(until.step(after(4)), report);
        assert_eq!(until.step(Position::At(id(6))), EndStep::End);
    }

    #[test]
    fn a_reported_loss_is_not_reported_again() {
        let settlement = settlement_with_loss();
        let unreported = |position| settlement.unreported(position, id(5)).is_some();
        assert!(unreported(after(4)) && unreported(Position::At(id(4))) && unreported(after(6)));
        assert!(!unreported(Position::At(id(6))));
        assert!(!unreported(after(8)) && !unreported(after(9)));
    }
}
