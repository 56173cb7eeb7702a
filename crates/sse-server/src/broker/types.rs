//! The types of the broker's contract: what callers pass to a broker, and what it returns.

use std::time::Duration;

use bytestring::ByteString;
use sse_proto::{
    Event, EventId, Position,
    api::{Gap, GapReason, Lost},
};

use super::lifecycle::{END, is_control};

/// The ids that an append assigned to a run of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Id of the first event.
    pub first: EventId,
    /// Id of the last event.
    pub last: EventId,
}

/// Where a read starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadFrom {
    /// At the oldest event of the history.
    Oldest,
    /// At the first event of this millisecond or later, by the log's clock.
    Time(u64),
    /// At a subscriber's position. The page states whether the position can be continued.
    Position(Position),
}

/// Limits of one page. A page contains at least one event, if there is one, whatever its size.
#[derive(Debug, Clone, Copy)]
pub struct PageLimits {
    /// Number of events.
    pub events_max: usize,
    /// Bytes of types and data.
    pub bytes_max: usize,
}

impl PageLimits {
    /// Returns how many of the events with these sizes fit into one page.
    #[must_use]
    pub fn fit(&self, sizes: impl IntoIterator<Item = usize>) -> usize {
        let mut bytes = 0_usize;
        let within = |(nth, size): &(usize, usize)| {
            bytes = bytes.saturating_add(*size);
            *nth == 0 || (*nth < self.events_max && bytes <= self.bytes_max)
        };
        sizes.into_iter().enumerate().take_while(within).count()
    }

    /// Returns true if an event of `size` bytes fits into a page that has `count` events of
    /// together `bytes`.
    pub(super) const fn has_room(&self, count: usize, bytes: usize, size: usize) -> bool {
        count == 0 || (count < self.events_max && bytes + size <= self.bytes_max)
    }
}

/// An entry of the log: an event, a gap record or the end of its channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Position of the entry in its channel.
    pub id: EventId,
    /// Event type. Reads do not validate it, so that a log outlives a change of the allowed types.
    pub kind: ByteString,
    /// Event data, as published.
    pub data: ByteString,
}

/// The type of a gap record. It is reserved: no published event has it.
pub const GAP: &str = "gap";

impl Stored {
    /// Returns true if the entry is a gap record: the log's own note that events before it are
    /// lost.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.kind == GAP
    }

    /// Returns true if the entry is the end of its channel, after which no other entry follows.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.kind == END
    }

    /// Returns true if the entry is an event, which limits count and filters check.
    #[must_use]
    pub fn is_event(&self) -> bool {
        !is_control(&self.kind)
    }

    /// Decodes the entry as a gap record. Returns `None` if the entry is an event.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        self.is_gap()
            .then(|| serde_json::from_str(&self.data).ok())
            .flatten()
    }

    /// Returns the range of ids that a gap record reports as lost.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        lost_of(&self.kind, &self.data)
    }

    /// Returns true if the entry belongs to the events up to `bound`.
    ///
    /// A gap record above `bound` belongs to them if its lost range starts below `bound`.
    #[must_use]
    pub fn is_within(&self, bound: EventId) -> bool {
        self.id <= bound || self.lost().is_some_and(|lost| lost.after < bound)
    }

    /// Returns the bytes of type and data.
    #[must_use]
    pub fn size(&self) -> usize {
        self.kind.len() + self.data.len()
    }
}

/// Returns the bytes of type and data of an event that is not in the log yet.
pub(super) fn event_size(event: &Event) -> usize {
    event.kind.as_str().len() + event.data.len()
}

/// Returns the lost range of an entry with this type and data, if the entry is a gap record.
#[must_use]
pub fn lost_of(kind: &str, data: &str) -> Option<Lost> {
    (kind == GAP)
        .then(|| serde_json::from_str::<Gap>(data).ok()?.lost)
        .flatten()
}

/// A run of consecutive events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// How the run joins the requested position.
    pub start: Continuity,
    /// The events in id order, without holes.
    pub events: Vec<Stored>,
    /// True if more follows: the page ended at its limits or before damaged events.
    pub more: bool,
    /// The last id ever assigned in the channel, as seen by this read.
    ///
    /// The page contains everything up to this id unless `more` is set.
    pub last: EventId,
}

impl Page {
    /// Returns the page, which was read from the oldest event on, as one that follows a gap.
    pub(super) fn after_gap(self, reason: GapReason) -> Self {
        let oldest = self.events.first().map(|event| event.id);
        Self {
            start: Continuity::Gap {
                reason,
                oldest,
                lost: None,
            },
            ..self
        }
    }

    /// Returns the position from which to read on. `asked` is the argument of the read.
    #[must_use]
    pub fn end(&self, asked: ReadFrom) -> Position {
        match self.events.last() {
            Some(event) => Position::After(event.id),
            None => self.end_without_events(asked),
        }
    }

    /// Returns the end of a page without events: the position itself, if nothing follows it.
    const fn end_without_events(&self, asked: ReadFrom) -> Position {
        match (self.start, asked) {
            (Continuity::Contiguous, ReadFrom::Position(position)) => position,
            _ => Position::After(self.last),
        }
    }
}

/// A run of events that was read towards the start of the log, without the end of the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackPage {
    /// The events in descending id order. Only damaged events can be missing between them.
    pub events: Vec<Stored>,
    /// True if the page ended at its limits: older events precede it.
    pub more: bool,
    /// The last id in the channel before its end, as seen by this read.
    pub last: EventId,
}

/// Whether an event with an id up to a bound can still appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// No such event can appear: the log's clock is past the bound.
    ///
    /// The value is the last id of the channel, read after the clock passed the bound.
    Through(EventId),
    /// Such an event can still appear, for about this long.
    NotFor(Duration),
}

impl Settled {
    /// Events up to `bound` can appear until the log's clock, which is at `now_ms`, is past it.
    pub(super) const fn not_before(bound: EventId, now_ms: u64) -> Self {
        // The clock must be past the millisecond, not within it.
        let to_come_ms = bound.ms.saturating_sub(now_ms).saturating_add(1);
        Self::NotFor(Duration::from_millis(to_come_ms))
    }
}

/// How a page joins the requested position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// Nothing lies between the position and the page.
    Contiguous,
    /// Events may be missing between the position and the page.
    ///
    /// The page starts at the oldest event of the history, or after the lost or damaged events.
    Gap {
        /// Why the position cannot be continued.
        reason: GapReason,
        /// The event with which the page starts; `None` if no event follows the gap.
        oldest: Option<EventId>,
        /// The lost range of ids that contains the position, if the log knows it.
        ///
        /// A subscriber at this position has seen everything up to `after`, and the page continues
        /// from there. The record of the loss follows later in the log.
        lost: Option<Lost>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PageLimits = PageLimits {
        events_max: 3,
        bytes_max: 10,
    };

    fn stored(ms: u64, kind: &'static str, data: &str) -> Stored {
        Stored {
            id: EventId::new(ms, 0),
            kind: kind.into(),
            data: data.into(),
        }
    }

    #[test]
    fn a_page_ends_at_its_first_limit_but_holds_at_least_one_event() {
        assert_eq!(LIMITS.fit([1, 1, 1, 1]), 3);
        assert_eq!(LIMITS.fit([6, 4, 1]), 2);
        assert_eq!(LIMITS.fit([11, 1]), 1);
        assert_eq!(LIMITS.fit([]), 0);
    }

    #[test]
    fn a_gap_record_counts_for_the_bound_that_its_loss_overlaps() {
        let record = r#"{"channel":"sse","after":"5-0","oldest":null,"reason":"lost-tail",
            "lost":{"after":"5-0","before":"9-0"}}"#;
        let gap = stored(9, GAP, record);
        assert!(gap.is_gap() && gap.gap().is_some());
        assert!(gap.is_within(EventId::new(6, 0)) && gap.is_within(EventId::new(9, 0)));
        assert!(!gap.is_within(EventId::new(5, 0)));
        let event = stored(9, "click", record);
        assert_eq!((event.gap(), event.lost()), (None, None));
        assert!(!event.is_within(EventId::new(8, 0)));
    }

    #[test]
    fn a_page_without_events_ends_where_it_proves_that_nothing_follows() {
        let mut page = Page {
            start: Continuity::Contiguous,
            events: Vec::new(),
            more: false,
            last: EventId::new(9, 0),
        };
        let asked = Position::At(EventId::new(4, 0));
        assert_eq!(page.end(ReadFrom::Position(asked)), asked);
        assert_eq!(page.end(ReadFrom::Oldest), Position::After(page.last));
        page.events.push(stored(7, "click", ""));
        assert_eq!(
            page.end(ReadFrom::Oldest),
            Position::After(EventId::new(7, 0))
        );
    }
}
