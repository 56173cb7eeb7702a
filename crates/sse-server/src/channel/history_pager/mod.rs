//! History pager: turns pages of the log into one answer of `GET /events`.
//!
//! The pager is pure. The caller reads [`HistoryPager::next_read`] and passes each page to
//! [`HistoryPager::add_page`], until there is no next read. An answer takes several reads when a
//! filter keeps events back:
//!
//! ```text
//! event=click&limit=2&until=8
//! read 1   c 1   v 2   v 3   more       1 of 2, `next` is 3
//! read 2   v 4   c 5 │ v 6   c 7  more  2 of 2, cut after 5; `next` is 5, `more` is true
//! with until=4:  v 4 │ c 5              cut before 5;        `next` is @5, `more` is false
//! ```

#[cfg(test)]
mod tests;

use sse_proto::{
    Channel, EventId, Position,
    api::{Gap, History, HistoryEvent},
    units::time_text,
};

use super::{
    Filter, Settlement, UnreadableCursor,
    gap::{gap_after_unreadable, gap_before_page, oldest_in},
};
use crate::broker::{Continuity, GAP, Page, PageLimits, ReadFrom, Stored};

/// An answer ends after this many bytes of types and data, or after one event. Events that the
/// filter keeps back count.
const BYTES_MAX: usize = 4 << 20;
/// An answer ends after this many events, including those that the filter keeps back.
const SCANNED_MAX: usize = 100_000;
/// With a filter, one read asks for at least this many events.
const FILTERED_READ_MIN: usize = 1000;

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
    from: ReadFrom,
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
    const fn position(&self) -> Position {
        match self.from {
            ReadFrom::Position(position) => position,
            ReadFrom::Time(ms) => Position::After(EventId::new(ms, 0).before()),
            ReadFrom::Oldest => Position::After(EventId::ZERO),
        }
    }

    /// Returns the gap between the start and the first page, if there is one.
    fn gap_before(&self, channel: &Channel, page: &Page) -> Option<Gap> {
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

/// Collects the pages of one answer.
#[derive(Debug)]
pub struct HistoryPager {
    query: HistoryQuery,
    start: HistoryStart,
    gap: Option<Gap>,
    lines: Vec<HistoryEvent>,
    /// Events among the lines; the others are gap records.
    events: usize,
    /// Bytes and events of all pages, before the filter.
    bytes: usize,
    scanned: usize,
    /// Where to read on, once a page was read.
    next: Option<Position>,
    more: bool,
    is_complete: bool,
}

impl HistoryPager {
    /// An answer that has no page yet.
    #[must_use]
    pub const fn new(query: HistoryQuery, start: HistoryStart) -> Self {
        Self {
            query,
            start,
            gap: None,
            lines: Vec::new(),
            events: 0,
            bytes: 0,
            scanned: 0,
            next: None,
            more: true,
            is_complete: false,
        }
    }

    /// The channel to read.
    #[must_use]
    pub const fn channel(&self) -> &Channel {
        &self.query.channel
    }

    /// Returns the next read, or `None` if the answer is complete.
    #[must_use]
    pub fn next_read(&self) -> Option<(ReadFrom, PageLimits)> {
        let missing = self.query.limit.saturating_sub(self.events);
        let is_full = missing == 0 || self.bytes >= BYTES_MAX || self.scanned >= SCANNED_MAX;
        if self.is_complete || is_full {
            return None;
        }
        let events_max = if self.query.filter.is_all() {
            missing
        } else {
            missing.max(FILTERED_READ_MIN)
        };
        let limits = PageLimits {
            events_max,
            bytes_max: BYTES_MAX - self.bytes,
        };
        Some((self.from(), limits))
    }

    /// Adds the page of [`next_read`](Self::next_read).
    pub fn add_page(&mut self, mut page: Page) {
        if self.next.is_none() {
            self.gap = self.start.gap_before(&self.query.channel, &page);
        } else if page.start != Continuity::Contiguous {
            // The log was trimmed between two reads. The reader gets the gap when it reads on.
            self.is_complete = true;
            return;
        }
        let mut end = page.end(self.from());
        if let Some(beyond) = self.cut_at_until(&mut page) {
            end = Position::At(beyond);
        }
        self.bytes += page.events.iter().map(Stored::size).sum::<usize>();
        self.scanned += page.events.len();
        if let Some(last) = self.cut_at_limit(&mut page) {
            end = Position::After(last);
        }
        self.add_lines(&page.events);
        self.next = Some(end);
        self.more = page.more;
        self.is_complete = !page.more;
    }

    fn from(&self) -> ReadFrom {
        self.next.map_or(self.start.from, ReadFrom::Position)
    }

    /// Drops the events beyond the end. Returns the first of them, where a later read can continue.
    fn cut_at_until(&self, page: &mut Page) -> Option<EventId> {
        let until = self.query.until?;
        let is_beyond = |event: &Stored| !event.is_within(until);
        let beyond = page.events.iter().position(is_beyond)?;
        let id = page.events[beyond].id;
        page.events.truncate(beyond);
        page.more = false;
        Some(id)
    }

    /// Drops the events beyond the limit. Returns the last event that stays.
    fn cut_at_limit(&self, page: &mut Page) -> Option<EventId> {
        let missing = self.query.limit - self.events;
        let counts = |event: &Stored| !event.is_gap() && self.query.filter.passes(&event.kind);
        let (last, event) = page
            .events
            .iter()
            .enumerate()
            .filter(|(_, event)| counts(event))
            .nth(missing - 1)?;
        let id = event.id;
        if last + 1 == page.events.len() {
            return None;
        }
        page.events.truncate(last + 1);
        page.more = true;
        Some(id)
    }

    fn add_lines(&mut self, events: &[Stored]) {
        // The gap before the answer reports this loss already.
        let reported = self.reported_loss();
        let filter = &self.query.filter;
        let wanted = events
            .iter()
            .filter(|event| reported != Some(event.id) && filter.passes(&event.kind));
        for event in wanted {
            self.events += usize::from(!event.is_gap());
            self.lines.push(line(event));
        }
    }

    /// The record of the loss that the gap before the answer reports.
    fn reported_loss(&self) -> Option<EventId> {
        Some(self.gap.as_ref()?.lost?.before)
    }

    /// Returns the end for which [`add_loss`](Self::add_loss) needs the loss that spans it.
    #[must_use]
    pub fn reached_end(&self) -> Option<EventId> {
        self.query.until.filter(|_| !self.more)
    }

    /// Adds a loss that overlaps the end, although its record comes after the end in the log.
    pub fn add_loss(&mut self, bound: EventId, loss: Option<Gap>) {
        let settlement = Settlement {
            last: EventId::ZERO,
            loss,
        };
        let record = settlement.unreported(self.start.position(), bound);
        let (Some(record), Some(gap)) = (record, &settlement.loss) else {
            return;
        };
        let line = gap_line(record.to_string(), time_text(record.ms), gap);
        let is_added = |added: &HistoryEvent| added.event == GAP && added.id == line.id;
        if self.reported_loss() != Some(record) && !self.lines.iter().any(is_added) {
            self.lines.push(line);
        }
    }

    /// The number of events, without gap records.
    #[must_use]
    pub const fn events(&self) -> usize {
        self.events
    }

    /// Returns the answer.
    #[must_use]
    pub fn finish(self) -> History {
        History {
            channel: self.query.channel,
            gap: self.gap,
            events: self.lines,
            next: self.next.map(|next| next.to_string()).unwrap_or_default(),
            more: self.more,
        }
    }
}

fn line(event: &Stored) -> HistoryEvent {
    HistoryEvent {
        id: event.id.to_string(),
        event: event.kind.to_string(),
        data: event.data.to_string(),
        time: time_text(event.id.ms),
    }
}

/// A gap as a line of history.
pub(crate) fn gap_line(id: String, time: String, gap: &Gap) -> HistoryEvent {
    HistoryEvent {
        id,
        event: GAP.to_owned(),
        data: serde_json::to_string(gap).expect("a gap has only strings"),
        time,
    }
}
