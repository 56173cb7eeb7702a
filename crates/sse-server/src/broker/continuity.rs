//! Decides whether the events after a position are complete. Completeness is proved, not assumed.
//!
//! A position *after an id* is complete if one of these proofs holds:
//!
//! - The id is still in the log.
//! - The id is the last id ever assigned in the channel.
//! - The id is the newest trimmed id, if the log knows that id.
//!
//! A position *at an id* is complete if the id is still in the log. The server writes such a
//! position only for an event of the log. If the event is missing, it was lost or belongs to
//! another log, even if nothing was ever trimmed.
//!
//! Every other position is a gap. The reason depends on where the position lies:
//!
//! ```text
//!            newest trimmed   oldest                  last
//! ────────────────┼─────────────┼───────────────────────┼──────────────
//!      Trimmed    proof         │ LostTail, if absent   proof  LostTail
//! ```
//!
//! In a channel that was never trimmed, a position before the oldest event is `Unknown`.

use sse_proto::{EventId, Position, api::GapReason};

use super::Continuity;

/// What a log knows about one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The oldest event of the history.
    pub oldest: Option<EventId>,
    /// The last id ever assigned; the origin of the channel if it never had an event.
    pub last: EventId,
    /// The events that were trimmed.
    pub trimmed: Trimmed,
}

impl Extent {
    /// Returns the gap of a read that continues with the oldest event.
    const fn gap(&self, reason: GapReason) -> Continuity {
        Continuity::Gap {
            reason,
            oldest: self.oldest,
            lost: None,
        }
    }

    /// Returns true if no event with the id `id` or a later one was ever trimmed.
    fn is_complete_from(&self, id: EventId) -> bool {
        match self.trimmed {
            Trimmed::NothingSince(_) => true,
            Trimmed::Through(mark) => id > mark,
            Trimmed::Somewhere => self.is_untrimmed_from(id),
        }
    }

    /// Returns true if the other events prove that none from `id` on was trimmed.
    ///
    /// Trimming starts with the oldest event, so an older event that is still there is a proof.
    fn is_untrimmed_from(&self, id: EventId) -> bool {
        self.oldest.is_some_and(|oldest| oldest <= id) || id > self.last
    }
}

/// What a log knows about the trimmed events of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trimmed {
    /// Nothing was ever trimmed: the log holds everything after this id.
    ///
    /// The id is `0-0`, or the origin of a log in memory.
    NothingSince(EventId),
    /// Events up to this id were trimmed.
    Through(EventId),
    /// Events were trimmed, and the log does not know up to which id (Redis).
    Somewhere,
}

impl Trimmed {
    /// Returns the state of a channel that began after `origin` and was trimmed up to `mark`.
    ///
    /// `mark` equals `origin` until the first trim.
    #[must_use]
    pub fn through(mark: EventId, origin: EventId) -> Self {
        // A channel that was forgotten and created again begins at its last id, so its events
        // before that id count as trimmed.
        let began_empty = origin.ms == 0;
        if began_empty && mark == origin {
            Self::NothingSince(origin)
        } else {
            Self::Through(mark)
        }
    }

    /// Returns the id after which the log holds everything, if the log knows it.
    const fn mark(self) -> Option<EventId> {
        match self {
            Self::NothingSince(id) | Self::Through(id) => Some(id),
            Self::Somewhere => None,
        }
    }
}

/// Decides whether `position` can be continued. `present` states whether its own event is still in
/// the log.
#[must_use]
pub fn judge(position: Position, present: bool, extent: &Extent) -> Continuity {
    if present || is_proof(position, extent) {
        Continuity::Contiguous
    } else {
        extent.gap(reason(position, extent))
    }
}

/// Returns true if `position` is complete although its own event is not in the log.
fn is_proof(position: Position, extent: &Extent) -> bool {
    match position {
        Position::After(id) => id == extent.last || Some(id) == extent.trimmed.mark(),
        Position::At(_) => false,
    }
}

/// Decides whether the events from the millisecond `ms` on are complete.
///
/// They are complete if no event of that millisecond or later was ever trimmed.
#[must_use]
pub fn judge_time(ms: u64, extent: &Extent) -> Continuity {
    if extent.is_complete_from(EventId::new(ms, 0)) {
        Continuity::Contiguous
    } else {
        extent.gap(GapReason::Trimmed)
    }
}

fn reason(position: Position, extent: &Extent) -> GapReason {
    let (Position::After(id) | Position::At(id)) = position;
    let nothing_trimmed = matches!(extent.trimmed, Trimmed::NothingSince(_));
    let never_used = nothing_trimmed && extent.oldest.is_none();
    if never_used {
        GapReason::Unknown
    } else if extent.is_untrimmed_from(id) {
        GapReason::LostTail
    } else if nothing_trimmed {
        // The id is older than every event although nothing is missing: it belongs to another log.
        GapReason::Unknown
    } else {
        GapReason::Trimmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    fn after(ms: u64, present: bool, extent: Extent) -> Option<GapReason> {
        match judge(Position::After(id(ms)), present, &extent) {
            Continuity::Contiguous => None,
            Continuity::Gap { reason, oldest, .. } => {
                assert_eq!(oldest, extent.oldest);
                Some(reason)
            }
        }
    }

    #[test]
    fn an_id_in_the_log_the_last_id_and_the_newest_trimmed_id_are_proofs() {
        let kept = Extent {
            oldest: Some(id(5)),
            last: id(9),
            trimmed: Trimmed::Through(id(4)),
        };
        assert_eq!(after(7, true, kept), None);
        assert_eq!(after(9, false, kept), None);
        assert_eq!(after(4, false, kept), None);
        let somewhere = Extent {
            trimmed: Trimmed::Somewhere,
            ..kept
        };
        assert_eq!(after(4, false, somewhere), Some(GapReason::Trimmed));
        let emptied = Extent {
            oldest: None,
            last: id(9),
            trimmed: Trimmed::Through(id(9)),
        };
        assert_eq!(after(9, false, emptied), None);
    }

    #[test]
    fn zero_is_a_proof_only_while_nothing_was_trimmed() {
        let whole = Extent {
            oldest: Some(id(5)),
            last: id(9),
            trimmed: Trimmed::NothingSince(EventId::ZERO),
        };
        assert_eq!(after(0, false, whole), None);
        let cut = Extent {
            trimmed: Trimmed::Through(id(4)),
            ..whole
        };
        assert_eq!(after(0, false, cut), Some(GapReason::Trimmed));
        let elsewhere = Extent {
            trimmed: Trimmed::NothingSince(EventId::new(0, 77)),
            ..whole
        };
        assert_eq!(after(0, false, elsewhere), Some(GapReason::Unknown));
    }

    #[test]
    fn the_reason_depends_on_the_position() {
        let kept = Extent {
            oldest: Some(id(5)),
            last: id(9),
            trimmed: Trimmed::Through(id(4)),
        };
        assert_eq!(after(3, false, kept), Some(GapReason::Trimmed));
        assert_eq!(after(6, false, kept), Some(GapReason::LostTail));
        assert_eq!(after(10, false, kept), Some(GapReason::LostTail));
        let never = Extent {
            oldest: None,
            last: id(0),
            trimmed: Trimmed::NothingSince(EventId::ZERO),
        };
        assert_eq!(after(3, false, never), Some(GapReason::Unknown));
        let wiped = Extent {
            oldest: Some(id(5)),
            last: id(9),
            trimmed: Trimmed::NothingSince(EventId::ZERO),
        };
        assert_eq!(after(3, false, wiped), Some(GapReason::Unknown));
    }

    #[test]
    fn a_time_is_complete_unless_an_event_of_that_time_or_later_was_trimmed() {
        let kept = Extent {
            oldest: Some(id(5)),
            last: id(9),
            trimmed: Trimmed::Through(id(4)),
        };
        let complete = |ms, extent: &Extent| judge_time(ms, extent) == Continuity::Contiguous;
        assert!(
            complete(5, &kept) && complete(12, &kept) && !complete(4, &kept) && !complete(1, &kept)
        );
        let somewhere = Extent {
            trimmed: Trimmed::Somewhere,
            ..kept
        };
        assert!(complete(5, &somewhere) && complete(10, &somewhere) && !complete(4, &somewhere));
        assert!(complete(
            0,
            &Extent {
                trimmed: Trimmed::NothingSince(EventId::ZERO),
                ..kept
            }
        ));
    }

    #[test]
    fn a_position_at_an_id_is_complete_while_its_event_is_in_the_log() {
        let kept = Extent {
            oldest: Some(id(5)),
            last: id(9),
            trimmed: Trimmed::Through(id(4)),
        };
        let at = |ms, present, extent: &Extent| {
            judge(Position::At(id(ms)), present, extent) == Continuity::Contiguous
        };
        assert!(at(5, true, &kept));
        assert!(!at(6, false, &kept) && !at(99, false, &kept));
        let whole = Extent {
            trimmed: Trimmed::NothingSince(EventId::ZERO),
            ..kept
        };
        assert!(!at(6, false, &whole) && !at(3, false, &whole));
        assert!(!at(4, false, &kept));
        assert!(!at(
            5,
            false,
            &Extent {
                trimmed: Trimmed::Somewhere,
                ..kept
            }
        ));
        assert!(at(
            5,
            true,
            &Extent {
                trimmed: Trimmed::Somewhere,
                ..kept
            }
        ));
    }
}
