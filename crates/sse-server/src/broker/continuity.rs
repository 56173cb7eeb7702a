//! Whether what follows a position is complete: proved, not assumed.
//!
//! The proofs, for *after an id*: the id is still in the log; or it is the last one ever given out; or it is the
//! newest one trimmed (the log knows which). For *at an id*: the id is still in the log. (We write such a position only
//! for an event that was there, so one that is not was lost or is a stranger's, even where nothing was trimmed.)
//! Everything else is a gap, and its reason goes by where the position lies.

use sse_proto::{EventId, Position, api::GapReason};

use super::Continuity;

/// What a log knows of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The oldest event that is kept.
    pub oldest: Option<EventId>,
    /// The last id ever given out; where counting started, if none was.
    pub last: EventId,
    /// What was trimmed.
    pub trimmed: Trimmed,
}

/// What is known of the events that a channel has lost to trimming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trimmed {
    /// None ever: everything after this id (`0-0`, or where an in-memory log or a forgotten channel started) is kept.
    NothingSince(EventId),
    /// The newest one trimmed.
    Through(EventId),
    /// Some, and nobody wrote down which (Redis).
    Somewhere,
}

impl Trimmed {
    /// Of a channel that began after `origin` and was trimmed through `mark`, which is the origin until it was.
    #[must_use]
    pub fn through(mark: EventId, origin: EventId) -> Self {
        // A channel that was forgotten and came again begins at its last id, behind what was trimmed of it.
        let began_empty = origin.ms == 0;
        if began_empty && mark == origin {
            Self::NothingSince(origin)
        } else {
            Self::Through(mark)
        }
    }

    /// The id after which everything is kept, if it is known.
    const fn mark(self) -> Option<EventId> {
        match self {
            Self::NothingSince(id) | Self::Through(id) => Some(id),
            Self::Somewhere => None,
        }
    }
}

/// Judges `position`, given whether its own event is still in the log.
#[must_use]
pub fn judge(position: Position, present: bool, extent: &Extent) -> Continuity {
    let mark = extent.trimmed.mark();
    let proved = present
        || match position {
            Position::After(id) => id == extent.last || Some(id) == mark,
            Position::At(_) => false,
        };
    if proved {
        return Continuity::Contiguous;
    }
    Continuity::Gap {
        reason: reason(position, extent),
        oldest: extent.oldest,
        lost: None,
    }
}

/// Judges the position "from this millisecond on": it is complete if nothing that late was ever trimmed.
#[must_use]
pub fn judge_time(ms: u64, extent: &Extent) -> Continuity {
    let id = EventId::new(ms, 0);
    let complete = match extent.trimmed {
        Trimmed::NothingSince(_) => true,
        Trimmed::Through(mark) => id > mark,
        // Trimming goes from the front: an event that is older and still here is the proof.
        Trimmed::Somewhere => extent.oldest.is_some_and(|oldest| oldest <= id) || id > extent.last,
    };
    if complete {
        Continuity::Contiguous
    } else {
        Continuity::Gap {
            reason: GapReason::Trimmed,
            oldest: extent.oldest,
            lost: None,
        }
    }
}

fn reason(position: Position, extent: &Extent) -> GapReason {
    let (Position::After(id) | Position::At(id)) = position;
    let nothing_trimmed = matches!(extent.trimmed, Trimmed::NothingSince(_));
    let never_used = nothing_trimmed && extent.oldest.is_none();
    if never_used {
        GapReason::Unknown
    } else if extent.oldest.is_some_and(|oldest| id >= oldest) || id > extent.last {
        GapReason::LostTail
    } else if nothing_trimmed {
        // Older than everything, though nothing is missing: it is not an id of this log.
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
    fn an_id_in_the_log_the_last_one_and_the_newest_trimmed_one_are_proofs() {
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
    fn the_reason_goes_by_position() {
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
    fn a_time_is_complete_unless_something_as_late_was_trimmed() {
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
    fn at_an_id_is_complete_while_that_event_is_in_the_log() {
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
