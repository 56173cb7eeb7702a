//! Feed: how a read of the log changes a tail. A pure part of the [`hub`](super::hub).
//!
//! The hub reads what follows the end of the tail. The page shows whether the log continues there:
//!
//! ```text
//! tail 3 4 5   page 6 7                            append       3 4 5 6 7
//! tail 3 4 5   page 8(record: lost 5) 9            rewind to 4  3 4 8 9     cursors stay verified
//! tail 3 4 5   page does not continue, last is 2   restart      (empty) after 2, new generation
//! ```

use sse_proto::{
    Channel, EventId, Position,
    api::{GapReason, Lost},
};

use super::tail::Frames;
use crate::broker::{Continuity, Page, ReadFrom, Stored};

/// Returns the read that continues a tail after `position`.
#[must_use]
pub const fn read_after(position: EventId) -> ReadFrom {
    ReadFrom::Position(Position::After(position))
}

/// How a tail changes.
#[derive(Debug, PartialEq, Eq)]
pub enum TailChange {
    /// Nothing follows the end of the tail.
    None,
    /// These events follow the end of the tail.
    Append(Vec<Stored>),
    /// The log has lost its newest events, and these follow instead. Their gap record is one of
    /// them or follows them.
    Rewind {
        /// The lost range of ids.
        lost: Lost,
        /// What follows the range's start now.
        events: Vec<Stored>,
    },
    /// The log does not continue the tail.
    Restart {
        /// The newest id of the log.
        head: EventId,
        /// Why the log does not continue the tail.
        reason: GapReason,
    },
    /// The tail is joined to the log for the first time.
    Join {
        /// The newest id of the log.
        head: EventId,
    },
}

impl TailChange {
    /// Logs a change that clients notice. `after` is the end of the tail before it.
    pub(super) fn log(&self, channel: &Channel, after: EventId) {
        match self {
            Self::None | Self::Append(_) | Self::Join { .. } => {}
            Self::Rewind { lost, .. } => tracing::warn!(
                %channel, %after, ?lost,
                "the log has lost its newest events; continuing with what replaced them"
            ),
            Self::Restart { reason, .. } => tracing::warn!(
                %channel, %after, ?reason,
                "the log does not continue the tail; verifying every cursor"
            ),
        }
    }

    /// Whether the change appends events.
    pub(super) const fn has_events(&self) -> bool {
        matches!(self, Self::Append(_) | Self::Rewind { .. })
    }

    /// Applies the change, unless it is [`None`](Self::None).
    pub fn apply(self, frames: &mut Frames) {
        match self {
            Self::None => {}
            Self::Append(events) => frames.push(events),
            Self::Rewind { lost, events } => {
                frames.rewind(lost.after);
                frames.push(events);
            }
            Self::Restart { head, .. } | Self::Join { head } => frames.join(head),
        }
    }
}

/// The result of one read of the log.
#[derive(Debug, PartialEq, Eq)]
pub struct FeedStep {
    /// How the tail changes.
    pub change: TailChange,
    /// The end of the tail after the change.
    pub end: EventId,
    /// Whether more may follow `end`.
    pub more: bool,
}

impl FeedStep {
    /// Joins a tail to a log whose newest event is `head`.
    #[must_use]
    pub const fn join(head: EventId) -> Self {
        Self {
            change: TailChange::Join { head },
            end: head,
            // Events published before the hub followed the channel may follow.
            more: true,
        }
    }

    /// Decides what a page that was read after `position`, the end of the tail, means.
    #[must_use]
    pub fn from_page(position: EventId, page: Page) -> Self {
        let (reason, lost) = match page.start {
            Continuity::Contiguous => return Self::append(position, page),
            Continuity::Gap { reason, lost, .. } => (reason, lost),
        };
        // The log's clock was set back: the events that replace the lost ones come before some of
        // those that were sent. No tail has both in order, so it starts again.
        let is_interleaved = page
            .events
            .first()
            .is_some_and(|first| first.id <= position);
        match lost {
            Some(lost) if !is_interleaved => Self {
                end: page.end(read_after(position)).floor(),
                more: page.more,
                change: TailChange::Rewind {
                    lost,
                    events: page.events,
                },
            },
            _ => Self {
                end: page.last,
                more: false,
                change: TailChange::Restart {
                    head: page.last,
                    reason,
                },
            },
        }
    }

    fn append(position: EventId, page: Page) -> Self {
        Self {
            end: page.end(read_after(position)).floor(),
            more: page.more,
            change: if page.events.is_empty() {
                TailChange::None
            } else {
                TailChange::Append(page.events)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::channel::TailLimits;

    const fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    fn page(start: Continuity, events: &[u64], last: u64) -> Page {
        let stored = |ms: &u64| Stored {
            id: id(*ms),
            kind: "click".into(),
            data: "x".into(),
        };
        Page {
            start,
            events: events.iter().map(stored).collect(),
            more: false,
            last: id(last),
        }
    }

    const fn gap(lost: Option<(u64, u64)>) -> Continuity {
        let lost = match lost {
            Some((after, before)) => Some(Lost {
                after: id(after),
                before: id(before),
            }),
            None => None,
        };
        Continuity::Gap {
            reason: GapReason::LostTail,
            oldest: None,
            lost,
        }
    }

    /// Feeds a page to a tail of 3, 4 and 5. Returns the tail's ids, its end, and whether its
    /// generation has changed.
    fn feed(page: Page) -> (Vec<u64>, EventId, bool) {
        let mut frames = Frames::new(TailLimits {
            events_max: NonZeroUsize::MAX,
            bytes_max: usize::MAX,
        });
        frames.join(id(2));
        FeedStep::from_page(id(2), self::page(Continuity::Contiguous, &[3, 4, 5], 5))
            .change
            .apply(&mut frames);
        let generation = frames.generation();
        let step = FeedStep::from_page(id(5), page);
        step.change.apply(&mut frames);
        assert_eq!(frames.end(), step.end);
        let ids = frames.after(EventId::ZERO).map(|frame| frame.id.ms);
        (
            ids.collect(),
            frames.floor(),
            frames.generation() != generation,
        )
    }

    #[test]
    fn events_that_continue_the_tail_are_appended() {
        let fed = feed(page(Continuity::Contiguous, &[6, 7], 7));
        assert_eq!(fed, (vec![3, 4, 5, 6, 7], id(2), false));
    }

    #[test]
    fn an_empty_page_changes_nothing() {
        let step = FeedStep::from_page(id(5), page(Continuity::Contiguous, &[], 5));
        let expected = FeedStep {
            change: TailChange::None,
            end: id(5),
            more: false,
        };
        assert_eq!(step, expected);
    }

    #[test]
    fn a_recorded_loss_rewinds_the_tail_and_keeps_its_generation() {
        let fed = feed(page(gap(Some((4, 8))), &[8, 9], 9));
        assert_eq!(fed, (vec![3, 4, 8, 9], id(2), false));
    }

    #[test]
    fn a_log_that_does_not_continue_restarts_the_tail() {
        let fed = feed(page(gap(None), &[1], 1));
        assert_eq!(fed, (vec![], id(1), true));
    }

    #[test]
    fn replacements_that_are_older_than_sent_events_restart_the_tail() {
        let fed = feed(page(gap(Some((3, 8))), &[5, 8], 8));
        assert_eq!(fed, (vec![], id(8), true));
    }
}
