//! What a reader got of a channel, over all of its connections, and whether that is all that it was owed.

use proptest::{prelude::*, test_runner::TestCaseError};
use sse_proto::{
    EventId, Position,
    api::{Gap, Lost},
};

use sse_server::broker::Stored;

use crate::model::Log;

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    got: Vec<EventId>,
    /// Ranges that are said to be trimmed, or to be no part of this log: after one id, before another.
    gaps: Vec<(EventId, Option<EventId>)>,
    /// Ranges that are said to be lost.
    losses: Vec<Lost>,
}

impl Seen {
    /// Takes an event.
    pub(crate) fn event(&mut self, id: EventId) {
        self.got.push(id);
    }

    /// Takes a gap, after which the reader stands at `position`.
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

    /// Left over, and stated in the README: a reader that stopped among the events that were published before the loss was
    /// found, until its record was trimmed, is told of what was trimmed from there on.
    fn stopped_within(&self, event: &Stored, log: &Log) -> bool {
        let within =
            |lost: &Lost| lost.has(event.id) && self.gaps.iter().any(|(after, _)| lost.has(*after));
        log.losses.iter().any(within)
    }

    /// Each event of these types (or of all, without any) once and in order, or told by a gap that is true.
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
            let told = self.gaps.iter().any(in_gap);
            let told_lost = is_lost
                && (self.losses.iter().any(|lost| lost.has(event.id))
                    || self.stopped_within(event, log));
            let got = self.got.binary_search(&event.id).is_ok();
            prop_assert!(!got || wanted, "{} is not of its types", event.id);
            prop_assert!(got || !wanted || told || told_lost, "{} was lost", event.id);
            // A gap is true: what it names as missing is not there any more.
            let is_gone = is_lost
                || log.trimmed.is_some_and(|through| event.id <= through)
                || log.damaged.contains(&event.id);
            prop_assert!(!told || is_gone, "{} is kept", event.id);
        }
        Ok(())
    }
}
