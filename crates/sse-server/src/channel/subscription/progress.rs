//! Progress: the position of a subscription, and whether it is verified.
//!
//! A cursor that comes from outside must be verified before events follow it:
//!
//! ```text
//! Unreadable   a page from the oldest event, after a gap `unknown`  ->  Verified
//! Unverified   the tail knows the id                                ->  Verified
//! Unverified   a page of history, after a gap if it does not join   ->  Verified
//! Verified     the tail starts another generation                   ->  Unverified
//! ```

use sse_proto::Position;

use crate::{
    broker::ReadFrom,
    channel::{
        Frames,
        start::{UNKNOWN_POSITION, UnreadableCursor},
    },
};

/// The position of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// The client's cursor is unreadable, and nothing has been sent yet.
    Unreadable(UnreadableCursor),
    /// The position comes from outside, or from an earlier generation of the tail.
    Unverified(Position),
    /// Everything up to the position was sent or filtered out, in this generation of the tail.
    Verified { position: Position, generation: u64 },
}

impl Progress {
    pub(super) const fn position(&self) -> Position {
        match self {
            Self::Unverified(position) | Self::Verified { position, .. } => *position,
            Self::Unreadable(_) => UNKNOWN_POSITION,
        }
    }

    /// Verifies the position by the tail. Otherwise returns the read that verifies it.
    pub(super) fn verify(&mut self, tail: &Frames) -> Result<Position, ReadFrom> {
        match *self {
            Self::Unreadable(_) => Err(ReadFrom::Oldest),
            Self::Verified {
                position,
                generation,
            } if generation == tail.generation() => Ok(position),
            Self::Unverified(position @ Position::After(id)) if tail.knows(id) => {
                *self = Self::Verified {
                    position,
                    generation: tail.generation(),
                };
                Ok(position)
            }
            Self::Unverified(position) | Self::Verified { position, .. } => {
                *self = Self::Unverified(position);
                Err(ReadFrom::Position(position))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use sse_proto::EventId;

    use super::*;
    use crate::channel::TailLimits;

    fn tail(head: EventId) -> Frames {
        let mut tail = Frames::new(TailLimits {
            events_max: NonZeroUsize::MIN,
            bytes_max: 1,
        });
        tail.join(head);
        tail
    }

    #[test]
    fn only_the_id_of_an_event_is_verified_by_the_tail() {
        let id = EventId::new(5, 0);
        let after = Position::After(id);
        let mut known = Progress::Unverified(after);
        assert_eq!(known.verify(&tail(id)), Ok(after));
        for position in [Position::At(id), Position::After(EventId::new(4, 0))] {
            let mut unknown = Progress::Unverified(position);
            assert_eq!(unknown.verify(&tail(id)), Err(ReadFrom::Position(position)));
            assert_eq!(unknown, Progress::Unverified(position));
        }
    }

    #[test]
    fn another_generation_ends_the_verification() {
        let (id, other) = (EventId::new(5, 0), EventId::new(4, 0));
        let mut tail = tail(id);
        let mut progress = Progress::Unverified(Position::After(id));
        assert!(progress.verify(&tail).is_ok() && progress.verify(&tail).is_ok());
        tail.join(other);
        assert!(progress.verify(&tail).is_err());
        assert_eq!(progress, Progress::Unverified(Position::After(id)));
    }
}
