//! History pager: turns pages of the log into one response of `GET /events`.
//!
//! The pager is pure. The caller reads [`HistoryPager::next_read`] and passes each page to
//! [`HistoryPager::add_page`], until there is no next read. A response takes several reads when a
//! filter keeps events back:
//!
//! ```text
//! event=click&limit=2&until=8
//! read 1   c 1   v 2   v 3   more       1 of 2, `next` is 3
//! read 2   v 4   c 5 │ v 6   c 7  more  2 of 2, cut after 5; `next` is 5, `more` is true
//! with until=4:  v 4 │ c 5              cut before 5;        `next` is @5, `more` is false
//! ```

pub mod merge;
mod query;
#[cfg(test)]
mod tests;

use sse_proto::{
    Channel, EventId, Position,
    api::{Gap, History, HistoryEvent},
    units::time_text,
};

pub use self::query::{HistoryQuery, HistoryStart};
use super::Settlement;
use crate::broker::{Continuity, GAP, Page, PageLimits, ReadFrom, Stored, lifecycle::wire_kind};

/// What one response may read, including the events that the filter keeps back: this many bytes of
/// types and data, or one event.
const ANSWER_LIMITS: PageLimits = PageLimits {
    events_max: 100_000,
    bytes_max: 4 << 20,
};
/// With a filter, one read asks for at least this many events.
const FILTERED_READ_MIN: usize = 1000;

/// Collects the pages of one response.
#[derive(Debug)]
pub struct HistoryPager {
    query: HistoryQuery,
    start: HistoryStart,
    /// What the response may read.
    limits: PageLimits,
    gap: Option<Gap>,
    /// The events and gap records that the reader wants.
    entries: Vec<Stored>,
    /// A loss that overlaps the end, as the last line.
    loss: Option<HistoryEvent>,
    /// Events among the entries; the others are gap records.
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
    /// A response that has no page yet.
    #[must_use]
    pub const fn new(query: HistoryQuery, start: HistoryStart) -> Self {
        Self::within(query, start, ANSWER_LIMITS)
    }

    /// A part of a response, which may read less than a whole response.
    const fn within(query: HistoryQuery, start: HistoryStart, limits: PageLimits) -> Self {
        Self {
            query,
            start,
            limits,
            gap: None,
            entries: Vec::new(),
            loss: None,
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

    /// Whether the reader may want only few of the events that are read.
    #[must_use]
    pub const fn is_search(&self) -> bool {
        !self.query.filter.is_all()
    }

    /// Returns the next read, or `None` if the response is complete.
    #[must_use]
    pub fn next_read(&self) -> Option<(ReadFrom, PageLimits)> {
        let missing = self.query.limit.saturating_sub(self.events);
        let is_full = missing == 0
            || self.bytes >= self.limits.bytes_max
            || self.scanned >= self.limits.events_max;
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
            bytes_max: self.limits.bytes_max - self.bytes,
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
        self.add_entries(page.events);
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
        let counts = |event: &Stored| event.is_event() && self.query.filter.passes(&event.kind);
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

    fn add_entries(&mut self, events: Vec<Stored>) {
        // The gap before the response reports this loss already.
        let reported = self.reported_loss();
        let filter = &self.query.filter;
        let wanted = events
            .into_iter()
            .filter(|event| reported != Some(event.id) && filter.passes(&event.kind));
        for event in wanted {
            self.events += usize::from(event.is_event());
            self.entries.push(event);
        }
    }

    /// The record of the loss that the gap before the response reports.
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
        let is_added = |entry: &Stored| entry.is_gap() && entry.id == record;
        if self.reported_loss() != Some(record) && !self.entries.iter().any(is_added) {
            self.loss = Some(gap_line(record.to_string(), time_text(record.ms), gap));
        }
    }

    /// The number of events, without gap records and the end of the channel.
    #[must_use]
    pub const fn events(&self) -> usize {
        self.events
    }

    /// Returns the response.
    #[must_use]
    pub fn finish(self) -> History {
        History {
            channel: self.query.channel,
            gap: self.gap,
            events: self.entries.iter().map(line).chain(self.loss).collect(),
            next: self.next.map(|next| next.to_string()).unwrap_or_default(),
            more: self.more,
        }
    }
}

fn line(event: &Stored) -> HistoryEvent {
    HistoryEvent {
        id: event.id.to_string(),
        channel: None,
        event: wire_kind(&event.kind).to_owned(),
        data: event.data.to_string(),
        time: time_text(event.id.ms),
    }
}

/// A gap as a line of history.
pub(crate) fn gap_line(id: String, time: String, gap: &Gap) -> HistoryEvent {
    HistoryEvent {
        id,
        channel: None,
        event: GAP.to_owned(),
        data: serde_json::to_string(gap).expect("a gap has only strings"),
        time,
    }
}
