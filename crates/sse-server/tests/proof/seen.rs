//! Events and gaps that a reader received from a channel over all connections, and a check that
//! they are complete.

use proptest::{prelude::*, test_runner::TestCaseError};
use sse_proto::{
    EventId, Position,
    api::{Gap, Lost},
};

use sse_server::broker::Stored;

use crate::model::Log;

/// Everything that a reader received.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    got: Vec<EventId>,
    /// Ranges reported as trimmed or as unknown to this log: after one id, before another.
    gaps: Vec<(EventId, Option<EventId>)>,
    /// Ranges reported as lost.
    losses: Vec<Lost>,
}

impl Seen {
    /// Records an event.
    pub(crate) fn event(&mut self, id: EventId) {
        self.got.push(id);
    }

    /// Records a gap that moves the reader to `position`.
    pub(crate) fn gap(&mut self, gap: &Gap, position: Position) {
        if let Some(lost) = gap.lost {
            self.losses.push(lost);
            return;
        }
        let after = gap.after.parse::<Position>().unwrap().floor();
        let until = gap.oldest.or(match position {
            Position::After(id) => Some(EventId::new(id.ms, id.seq + 1)),
            Position::At(id) => Some(id),
        });
        self.gaps.push((after, until));
    }

    /// Returns true in a residual case (docs/design/lost-events.md, "Residual cases"). The reader
    /// stopped among the events published before the loss was detected, and stayed away until the
    /// gap record was trimmed. Its gap then reports only what was trimmed from there on.
    fn stopped_within(&self, event: &Stored, log: &Log) -> bool {
        let within =
            |lost: &Lost| lost.has(event.id) && self.gaps.iter().any(|(after, _)| lost.has(*after));
        log.losses.iter().any(within)
    }

    /// Checks that each event of these types arrived once and in order, or lies in a true gap.
    /// Without types, all events are checked.
    pub(crate) fn judge(&self, kinds: &[&str], log: &Log) -> Result<(), TestCaseError> {
        prop_assert!(
            self.got.is_sorted_by(|one, next| one < next),
            "not once and in order: {:?}",
            self.got
        );
        for lost in &self.losses {
            prop_assert!(log.losses.contains(lost), "{lost:?} was never recorded");
        }
        for event in &log.all {
            let wanted = kinds.is_empty() || kinds.contains(&&*event.kind);
            let in_gap = |(after, until): &(EventId, Option<EventId>)| {
                event.id > *after && until.is_none_or(|until| event.id < until)
            };
            let is_lost = log.lost.contains(&event.id);
            let in_some_gap = self.gaps.iter().any(in_gap);
            let loss_is_reported = is_lost
                && (self.losses.iter().any(|lost| lost.has(event.id))
                    || self.stopped_within(event, log));
            let got = self.got.binary_search(&event.id).is_ok();
            prop_assert!(!got || wanted, "{} is not of its types", event.id);
            prop_assert!(
                got || !wanted || in_some_gap || loss_is_reported,
                "{} is missing and in no gap",
                event.id
            );
            // A gap is true if every event that it reports as missing is really gone.
            let is_gone = is_lost
                || log.trimmed.is_some_and(|through| event.id <= through)
                || log.damaged.contains(&event.id);
            prop_assert!(
                !in_some_gap || is_gone,
                "{} is kept, but a gap reports it as missing",
                event.id
            );
        }
        Ok(())
    }
}
