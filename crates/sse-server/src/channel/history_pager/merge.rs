//! Merge of several channels: their histories as one response of `GET /events`.
//!
//! The events of all channels are sorted by id, and those with the same id by the name of their
//! channel. The order depends only on the logs, and not on where the pages of the response end.
//!
//! Each channel is read in small parts, because the response needs to know only the next event of
//! each. The next event of the response is certain if no channel can have an earlier one:
//!
//! ```text
//!   a   3  5 ┊ more            the part was read up to 5, so further events are above 5
//!   b   4  6  7 ┊ the end
//!   response   3 a, 4 b, 5 a     now `a` is read on, because its next event may be before 6
//! ```
//!
//! The response and the parts together have the memory of a response of one channel.

mod reader;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;

use sse_proto::{
    Channel, Cursor, EventId,
    api::{Gap, HistoryEvent, MultiHistory},
};

use self::reader::{ChannelReader, Next};
use super::{ANSWER_LIMITS, HistoryPager, HistoryQuery, HistoryStart, line};
use crate::{
    broker::{PageLimits, Stored},
    channel::Filter,
};

/// One read of a channel asks for at least this many events.
const PART_EVENTS_MIN: usize = 16;

/// What a reader of several channels asks for.
#[derive(Debug, Clone)]
pub struct MergeQuery {
    /// Which events to return.
    pub filter: Filter,
    /// The last id to return.
    pub until: Option<EventId>,
    /// Number of events to return, at least one. Gap records do not count.
    pub limit: usize,
}

/// Collects the parts of one response.
///
/// The caller passes each part of [`next_part`](Self::next_part), once it is complete, to
/// [`add_part`](Self::add_part), until there is no next part.
#[derive(Debug)]
pub struct HistoryMerge {
    query: MergeQuery,
    /// In the order of their names.
    readers: Vec<ChannelReader>,
    /// What all parts have read, including the events that the filter keeps back.
    searched: Searched,
    gaps: Vec<Gap>,
    lines: Vec<HistoryEvent>,
    /// Events among the lines; the others are gap records.
    events: usize,
    /// Bytes of the types and data of the lines.
    bytes: usize,
}

/// Events and bytes that were read.
#[derive(Debug, Default, Clone, Copy)]
struct Searched {
    events: usize,
    bytes: usize,
}

impl Searched {
    /// Whether a part of another `bytes` fits into one response.
    const fn has_room_for(self, bytes: usize) -> bool {
        self.events < ANSWER_LIMITS.events_max
            && self.bytes < ANSWER_LIMITS.bytes_max
            && self.bytes.saturating_add(bytes) <= ANSWER_LIMITS.bytes_max
    }
}

/// A part of the history of one channel, to be read.
#[derive(Debug)]
pub struct ChannelPart {
    /// Index of the channel.
    nth: usize,
    /// Collects the pages of the part.
    pub pager: HistoryPager,
}

impl HistoryMerge {
    /// A response that has no part yet. `starts` names each channel once, in the order of the names.
    #[must_use]
    pub fn new(
        query: MergeQuery,
        starts: impl IntoIterator<Item = (Channel, HistoryStart)>,
    ) -> Self {
        let reader = |(channel, start)| ChannelReader::new(channel, start);
        Self {
            query,
            readers: starts.into_iter().map(reader).collect(),
            searched: Searched::default(),
            gaps: Vec::new(),
            lines: Vec::new(),
            events: 0,
            bytes: 0,
        }
    }

    /// Adds events to the response as far as they are certain. Returns the part that must be read
    /// next, or `None` if the response is complete.
    pub fn next_part(&mut self) -> Option<ChannelPart> {
        // Each channel is read at least once, because its position and its gap must be known.
        let unread = self.readers.iter().position(ChannelReader::is_unread);
        if let Some(nth) = unread {
            return Some(self.first_part(nth));
        }
        while !self.is_full() {
            let nth = self.earliest()?;
            match self.readers[nth].next() {
                Next::Entry(entry) => self.add_entry(nth, &entry),
                Next::Unknown { bytes_min } => return self.further_part(nth, bytes_min),
            }
        }
        None
    }

    const fn is_full(&self) -> bool {
        self.events >= self.query.limit || self.bytes >= ANSWER_LIMITS.bytes_max
    }

    /// Returns the channel whose next event is, or may be, the earliest of all.
    fn earliest(&self) -> Option<usize> {
        let ids = self.readers.iter().map(ChannelReader::earliest_id);
        let known = ids.enumerate().filter_map(|(nth, id)| Some((id?, nth)));
        known.min().map(|(_, nth)| nth)
    }

    fn add_entry(&mut self, nth: usize, entry: &Stored) {
        self.events += usize::from(entry.is_event());
        self.bytes += entry.size();
        self.add_line(nth, line(entry));
        self.add_loss(nth);
    }

    /// Adds the loss at the end of a channel, once everything before it is in the response.
    fn add_loss(&mut self, nth: usize) {
        if let Some(loss) = self.readers[nth].take_reached_loss() {
            self.add_line(nth, loss);
        }
    }

    fn add_line(&mut self, nth: usize, line: HistoryEvent) {
        let channel = Some(self.readers[nth].channel().clone());
        self.lines.push(HistoryEvent { channel, ..line });
    }

    /// The first parts of all channels together have half of the memory, so that at least the other
    /// half is left for the channels whose events come first.
    fn first_part(&self, nth: usize) -> ChannelPart {
        self.part(nth, self.readers.len(), self.limits_of_part())
    }

    /// Returns `None` if the response has no room for a further part.
    fn further_part(&self, nth: usize, bytes_min: usize) -> Option<ChannelPart> {
        let reader = &self.readers[nth];
        let is_alone = self.lines.is_empty() && bytes_min > 0;
        if reader.is_interrupted() || !(self.searched.has_room_for(bytes_min) || is_alone) {
            return None;
        }
        let incomplete = self.readers.iter().filter(|reader| reader.has_more());
        let limits = self.limits_of_part();
        let limits = PageLimits {
            bytes_max: limits.bytes_max.max(bytes_min),
            ..limits
        };
        Some(self.part(nth, incomplete.count(), limits))
    }

    /// What one part may read, including the events that the filter keeps back.
    fn limits_of_part(&self) -> PageLimits {
        let share = NonZeroUsize::new(2 * self.readers.len()).unwrap_or(NonZeroUsize::MIN);
        PageLimits {
            events_max: ANSWER_LIMITS.events_max / share,
            bytes_max: ANSWER_LIMITS.bytes_max / share,
        }
    }

    /// `sharing` is the number of channels that share the missing events.
    fn part(&self, nth: usize, sharing: usize, limits: PageLimits) -> ChannelPart {
        let reader = &self.readers[nth];
        let missing = self.query.limit - self.events;
        let share = missing.div_ceil(sharing.max(1));
        let query = HistoryQuery {
            channel: reader.channel().clone(),
            filter: self.query.filter.clone(),
            until: self.query.until,
            limit: share.max(PART_EVENTS_MIN).min(missing),
        };
        let pager = HistoryPager::within(query, reader.start(), limits);
        ChannelPart { nth, pager }
    }

    /// Adds a part whose pages were all read.
    pub fn add_part(&mut self, part: ChannelPart) {
        let ChannelPart { nth, pager } = part;
        let is_first = self.readers[nth].is_unread();
        let bytes_max = pager.limits.bytes_max;
        self.searched.events += pager.scanned;
        self.searched.bytes += pager.bytes;
        let (gap, given_up) = self.readers[nth].add_part(pager, bytes_max);
        self.searched.bytes -= given_up;
        if is_first {
            self.gaps.extend(gap);
        }
        self.add_loss(nth);
    }

    /// The number of events, without gap records.
    #[must_use]
    pub const fn events(&self) -> usize {
        self.events
    }

    /// Returns the response.
    #[must_use]
    pub fn finish(self) -> MultiHistory {
        let positions = self.readers.iter().map(ChannelReader::position);
        let next = Cursor::Composite(positions.collect());
        MultiHistory {
            channels: self.channels(),
            more: self.readers.iter().any(ChannelReader::has_more),
            gaps: self.gaps,
            events: self.lines,
            next: next.to_string(),
        }
    }

    fn channels(&self) -> Vec<Channel> {
        let channels = self.readers.iter().map(ChannelReader::channel);
        channels.cloned().collect()
    }
}
