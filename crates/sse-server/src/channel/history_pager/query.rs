//! What a reader of history asks for, and where it starts.

use sse_proto::{Channel, EventId, Position, api::Gap};

use crate::{
    broker::{Continuity, Page, ReadFrom},
    channel::{
        Filter, UnreadableCursor,
        gap::{gap_after_unreadable, gap_before_page, oldest_in},
    },
};

/// What a reader of history asks for.
#[derive(Debug, Clone)]
pub struct HistoryQuery {
    /// The channel.
    pub channel: Channel,
    /// Which events to return.
    pub filter: Filter,
    /// The last id to return.
    pub until: Option<EventId>,
    /// Number of events to return, at least one. Gap records do not count.
    pub limit: usize,
}

/// Where a reader of history starts.
#[derive(Debug, Clone)]
pub struct HistoryStart {
    pub(super) from: ReadFrom,
    /// The start as a gap shows it.
    shown: String,
    is_unreadable: bool,
}

impl HistoryStart {
    /// At the oldest retained event.
    #[must_use]
    pub fn oldest() -> Self {
        Self::new(ReadFrom::Oldest, EventId::ZERO.to_string())
    }

    /// At the first event of the millisecond `ms`, or later.
    #[must_use]
    pub fn since(ms: u64) -> Self {
        let position = Position::At(EventId::new(ms, 0));
        Self::new(ReadFrom::Time(ms), position.to_string())
    }

    /// At a cursor. An unreadable cursor starts at the oldest event, with a gap.
    #[must_use]
    pub fn at_cursor(cursor: Result<Position, UnreadableCursor>) -> Self {
        match cursor {
            Ok(position) => Self::new(ReadFrom::Position(position), position.to_string()),
            Err(unreadable) => Self {
                is_unreadable: true,
                ..Self::new(ReadFrom::Oldest, unreadable.to_string())
            },
        }
    }

    const fn new(from: ReadFrom, shown: String) -> Self {
        Self {
            from,
            shown,
            is_unreadable: false,
        }
    }

    /// The position before everything that the reader wants.
    pub(super) const fn position(&self) -> Position {
        match self.from {
            ReadFrom::Position(position) => position,
            ReadFrom::Time(ms) => Position::After(EventId::new(ms, 0).before()),
            ReadFrom::Oldest => Position::After(EventId::ZERO),
        }
    }

    /// Returns the gap between the start and the first page, if there is one.
    pub(super) fn gap_before(&self, channel: &Channel, page: &Page) -> Option<Gap> {
        let after = self.shown.clone();
        match page.start {
            Continuity::Gap { .. } => {
                let gap = gap_before_page(channel, after, page)?;
                let oldest = oldest_in(page);
                Some(Gap { oldest, ..gap })
            }
            Continuity::Contiguous if self.is_unreadable => {
                Some(gap_after_unreadable(channel, after, page))
            }
            Continuity::Contiguous => None,
        }
    }
}
