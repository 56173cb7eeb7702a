//! Lost tail: what a connection has sent before the log lost its newest events.
//!
//! After a failover the log can lack events that a subscriber already has, and the subscriber is
//! served again from an older position. This type keeps the connection from sending an event twice:
//!
//! ```text
//! sent         1  2  5                                  the log loses 5 and gets 7
//! page         gap (after 5, oldest 1)   1  2  7        read from the oldest event
//! sent now     gap                             7        1 and 2 are skipped: LostTail { sent: 5 }
//! ```

use sse_proto::{
    EventId,
    api::{Gap, GapReason},
};

/// What a subscriber was sent before a loss, and is not sent again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LostTail {
    /// Every event up to this id was sent.
    sent: EventId,
    /// The record of the loss, which was reported before the events between position and record.
    record: EventId,
}

impl LostTail {
    /// Updates the state by a gap that the subscriber gets.
    ///
    /// `newest_sent` is the newest event that this connection has sent. Returns `None` if the gap
    /// is no loss of the newest events, so that the state does not change.
    pub(super) fn after_gap(
        previous: Option<&Self>,
        gap: &Gap,
        newest_sent: EventId,
    ) -> Option<Self> {
        let sent = previous.map_or(EventId::ZERO, |previous| previous.sent);
        match gap.lost {
            // The page continues where the loss begins, so none of its events was sent.
            Some(lost) => Some(Self {
                sent: sent.min(lost.after),
                record: lost.before,
            }),
            // The page begins at the oldest event, of which this connection has sent many.
            None if gap.reason == GapReason::LostTail => Some(Self {
                sent: sent.max(newest_sent),
                record: EventId::ZERO,
            }),
            None => None,
        }
    }

    /// Whether the event or gap record with this id was sent.
    pub(super) fn was_sent(&self, id: EventId) -> bool {
        id <= self.sent || id == self.record
    }
}

#[cfg(test)]
mod tests {
    use sse_proto::api::Lost;

    use super::*;

    const fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    fn gap(reason: GapReason, lost: Option<(u64, u64)>) -> Gap {
        Gap {
            channel: "a".parse().unwrap(),
            after: "5-0".to_owned(),
            oldest: None,
            reason,
            lost: lost.map(|(after, before)| Lost {
                after: id(after),
                before: id(before),
            }),
        }
    }

    #[test]
    fn a_loss_without_a_record_skips_every_event_that_was_sent() {
        let lost = gap(GapReason::LostTail, None);
        let state = LostTail::after_gap(None, &lost, id(5)).unwrap();
        assert!(state.was_sent(id(1)) && state.was_sent(id(5)) && !state.was_sent(id(6)));
        let again = LostTail::after_gap(Some(&state), &lost, id(3)).unwrap();
        assert!(again.was_sent(id(5)), "an older state is not forgotten");
    }

    #[test]
    fn a_recorded_loss_skips_its_record_and_nothing_after_the_loss() {
        let recorded = gap(GapReason::LostTail, Some((4, 8)));
        let state = LostTail::after_gap(None, &recorded, id(7)).unwrap();
        assert!(state.was_sent(id(8)) && !state.was_sent(id(6)) && !state.was_sent(id(9)));
        let before = LostTail::after_gap(None, &gap(GapReason::LostTail, None), id(7)).unwrap();
        let state = LostTail::after_gap(Some(&before), &recorded, id(7)).unwrap();
        assert!(state.was_sent(id(4)) && !state.was_sent(id(6)));
    }

    #[test]
    fn another_gap_changes_nothing() {
        for reason in [GapReason::Trimmed, GapReason::Unknown] {
            assert_eq!(LostTail::after_gap(None, &gap(reason, None), id(5)), None);
        }
    }
}
