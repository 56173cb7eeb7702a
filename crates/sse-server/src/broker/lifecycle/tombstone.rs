//! Tombstones: what remains of a deleted channel.
//!
//! ```text
//!           last            end                  at
//! ───────────┼───────────────┼────────────────────┼──────────────────────
//!  gap       │ then the end  │ 204, as the stream │ new subscribers wait here,
//!  (deleted) │               │ of it has ended    │ and the next incarnation begins here
//! ```
//!
//! The three ids are different, so that a subscriber that waits for the next incarnation is never
//! taken for one that has seen the end of the last one.

use sse_proto::{Channel, EventId, Position, api::GapReason};

use super::{CloseReason, EndMark};
use crate::broker::{Continuity, Page, ReadFrom, Stored, channel_index::Dated};

/// The note of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// The last id before the end.
    pub last: EventId,
    /// The id of the end: that of the closed channel, or a new one if the channel was open.
    pub end: EventId,
    /// The id of the deletion, which is above all others. The next incarnation begins after it, and
    /// its time is that of the deletion.
    pub at: EventId,
    /// Whether the incarnation ever had an event.
    pub has_events: bool,
}

/// A tombstone has the time of the deletion.
impl Dated for Tombstone {
    fn ms(&self) -> u64 {
        self.at.ms
    }
}

impl Tombstone {
    /// Returns the record that readers before the end get. Its reason is `deleted`, also if the
    /// channel was closed with another one.
    #[must_use]
    pub fn record(&self, channel: &Channel) -> Stored {
        EndMark {
            id: self.end,
            after: self.last,
            has_events: self.has_events,
            reason: CloseReason::deleted(),
        }
        .record(channel)
    }

    /// Whether the position is that of a client that has seen the end.
    #[must_use]
    pub fn is_ended(&self, position: Position) -> bool {
        position == Position::After(self.end)
    }

    /// Decides what a read gets that may concern the deleted incarnation. `exists` states whether
    /// there is a next one.
    #[must_use]
    pub fn resolve(&self, from: ReadFrom, exists: bool) -> TombstoneRead {
        match from {
            ReadFrom::Oldest => TombstoneRead::Other(from),
            ReadFrom::Time(ms) if ms > self.last.ms || !self.has_events => {
                TombstoneRead::Other(from)
            }
            ReadFrom::Time(_) => self.gap(exists),
            ReadFrom::Position(position) => self.resolve_position(position, exists),
        }
    }

    fn resolve_position(&self, position: Position, exists: bool) -> TombstoneRead {
        let (Position::After(id) | Position::At(id)) = position;
        if id > self.end {
            return TombstoneRead::Other(ReadFrom::Position(position));
        }
        let next = ReadFrom::Position(Position::After(self.at));
        let is_before_end =
            position == Position::After(self.last) || position == Position::At(self.end);
        match (self.is_ended(position), exists) {
            (true, true) => TombstoneRead::Other(next),
            (true, false) => TombstoneRead::Nothing,
            (false, false) if is_before_end => TombstoneRead::End(Continuity::Contiguous),
            (false, exists) => self.gap(exists),
        }
    }

    const fn gap(&self, exists: bool) -> TombstoneRead {
        if exists {
            return TombstoneRead::GapAndNext;
        }
        TombstoneRead::End(Continuity::Gap {
            reason: GapReason::Deleted,
            oldest: Some(self.end),
            lost: None,
        })
    }

    /// Returns a page that has the end, if it has any record.
    #[must_use]
    pub(in crate::broker) fn page(&self, start: Continuity, end: Option<Stored>) -> Page {
        Page {
            start,
            events: end.into_iter().collect(),
            more: false,
            last: self.at,
        }
    }
}

/// What a read gets in a channel that has a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TombstoneRead {
    /// It does not concern the deleted incarnation: this read of the channel beside the tombstone.
    Other(ReadFrom),
    /// The gap `deleted`, and then the next incarnation from its oldest event on.
    GapAndNext,
    /// The end of the deleted incarnation, after this start.
    End(Continuity),
    /// Nothing: the reader has seen the end.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOMBSTONE: Tombstone = Tombstone {
        last: EventId::new(5, 0),
        end: EventId::new(6, 0),
        at: EventId::new(7, 0),
        has_events: true,
    };

    fn after(ms: u64, exists: bool) -> TombstoneRead {
        let position = Position::After(EventId::new(ms, 0));
        TOMBSTONE.resolve(ReadFrom::Position(position), exists)
    }

    #[test]
    fn a_reader_before_the_end_gets_a_gap_and_the_end_and_one_at_the_end_nothing() {
        let gap = Continuity::Gap {
            reason: GapReason::Deleted,
            oldest: Some(TOMBSTONE.end),
            lost: None,
        };
        assert_eq!(after(4, false), TombstoneRead::End(gap));
        assert_eq!(after(5, false), TombstoneRead::End(Continuity::Contiguous));
        assert_eq!(after(6, false), TombstoneRead::Nothing);
        let waiting = ReadFrom::Position(Position::After(TOMBSTONE.at));
        assert_eq!(after(7, false), TombstoneRead::Other(waiting));
    }

    #[test]
    fn with_a_next_incarnation_every_reader_before_the_end_gets_a_gap_and_the_new_events() {
        for ms in [4, 5] {
            assert_eq!(after(ms, true), TombstoneRead::GapAndNext);
        }
        let waiting = ReadFrom::Position(Position::After(TOMBSTONE.at));
        assert_eq!(after(6, true), TombstoneRead::Other(waiting));
        for exists in [false, true] {
            let oldest = TOMBSTONE.resolve(ReadFrom::Oldest, exists);
            assert_eq!(oldest, TombstoneRead::Other(ReadFrom::Oldest));
            let later = TOMBSTONE.resolve(ReadFrom::Time(6), exists);
            assert_eq!(later, TombstoneRead::Other(ReadFrom::Time(6)));
        }
        assert_eq!(
            TOMBSTONE.resolve(ReadFrom::Time(5), true),
            TombstoneRead::GapAndNext
        );
    }
}
