//! What is kept of one channel: its newest events, in order.

use std::collections::VecDeque;

use bytes::BytesMut;
use bytestring::ByteString;
use sse_proto::{Event, EventId, Position};

use super::keys::Keys;
use crate::broker::{
    Appended, BackPage, Continuity, Page, PageLimits, ReadFrom, Stored,
    clock::Clock,
    continuity::{Extent, Trimmed, judge, judge_time},
};

/// Events that come together share one block of memory for their text, which goes with the last of them. So it is not
/// larger than this, unless for one event.
const BLOCK_BYTES_MAX: usize = 16 << 10;

/// One channel.
#[derive(Debug)]
pub(super) struct ChannelLog {
    /// Where it began: nothing of it lies before.
    origin: EventId,
    /// The last id given out in it.
    pub(super) last: EventId,
    /// The newest id trimmed; `origin` if none was.
    trimmed: EventId,
    pub(super) events: VecDeque<Stored>,
    pub(super) keys: Keys,
}

/// What an event counts towards the limit of bytes.
pub(super) fn event_bytes(event: &Stored) -> u64 {
    (size_of::<Stored>() + event.size()) as u64
}

impl ChannelLog {
    /// A channel without events.
    pub(super) fn new(origin: EventId) -> Self {
        Self {
            origin,
            last: origin,
            trimmed: origin,
            events: VecDeque::new(),
            keys: Keys::default(),
        }
    }

    /// Adds events, at least one, at the end; returns their ids, and the bytes that they count.
    pub(super) fn add(
        &mut self,
        events: &[Event],
        clock: &mut Clock,
        now_ms: u64,
    ) -> (Appended, u64) {
        let mut rest = events;
        let (mut first, mut bytes) = (None, 0);
        while !rest.is_empty() {
            let (block, more) = rest.split_at(block_length(rest));
            rest = more;
            for (kind, data) in copied(block) {
                let id = clock.next(now_ms);
                first.get_or_insert(id);
                self.last = id;
                let event = Stored { id, kind, data };
                bytes += event_bytes(&event);
                self.events.push_back(event);
            }
        }
        (
            Appended {
                first: first.unwrap_or(self.last),
                last: self.last,
            },
            bytes,
        )
    }

    /// Removes the oldest event; returns the bytes that it counted, or nothing if there is none.
    pub(super) fn trim(&mut self) -> Option<u64> {
        let oldest = self.events.pop_front()?;
        self.trimmed = oldest.id;
        Some(event_bytes(&oldest))
    }

    /// A page from here on.
    pub(super) fn page(&self, from: ReadFrom, limits: PageLimits) -> Page {
        let start = match from {
            ReadFrom::Oldest => Continuity::Contiguous,
            ReadFrom::Time(ms) => judge_time(ms, &self.extent()),
            ReadFrom::Position(position) => self.judge(position),
        };
        let first = match (start, from) {
            (Continuity::Contiguous, ReadFrom::Time(ms)) => self.count_before(EventId::new(ms, 0)),
            (Continuity::Contiguous, ReadFrom::Position(position)) => self
                .events
                .partition_point(|event| event.id <= position.floor()),
            (Continuity::Contiguous, ReadFrom::Oldest) | (Continuity::Gap { .. }, _) => 0,
        };
        let count = limits.fit(self.events.range(first..).map(Stored::size));
        let end = first + count;
        let events = self.events.range(first..end).cloned().collect();
        Page {
            start,
            events,
            more: end < self.events.len(),
            last: self.last,
        }
    }

    /// A page backwards, from the newest event or the one before `before`.
    pub(super) fn back_page(&self, before: Option<EventId>, limits: PageLimits) -> BackPage {
        let end = before.map_or(self.events.len(), |before| self.count_before(before));
        let count = limits.fit(self.events.range(..end).rev().map(Stored::size));
        let events = self.events.range(end - count..end).rev().cloned().collect();
        BackPage {
            events,
            more: count < end,
            last: self.last,
        }
    }

    fn judge(&self, position: Position) -> Continuity {
        let (Position::After(id) | Position::At(id)) = position;
        let is_present = self
            .events
            .binary_search_by_key(&id, |event| event.id)
            .is_ok();
        judge(position, is_present, &self.extent())
    }

    fn extent(&self) -> Extent {
        Extent {
            oldest: self.events.front().map(|event| event.id),
            last: self.last,
            trimmed: Trimmed::through(self.trimmed, self.origin),
        }
    }

    fn count_before(&self, id: EventId) -> usize {
        self.events.partition_point(|event| event.id < id)
    }
}

/// How many of the events, at least one, go into one block.
fn block_length(events: &[Event]) -> usize {
    let mut bytes = 0;
    let fits = |event: &&Event| {
        bytes += text_length(event);
        bytes <= BLOCK_BYTES_MAX
    };
    events.iter().take_while(fits).count().max(1)
}

fn text_length(event: &Event) -> usize {
    event.kind.as_str().len() + event.data.len()
}

/// Types and data in memory of their own: what came with a request would keep all of the request alive.
fn copied(events: &[Event]) -> impl Iterator<Item = (ByteString, ByteString)> {
    let mut block = BytesMut::with_capacity(events.iter().map(text_length).sum());
    for event in events {
        block.extend_from_slice(event.kind.as_str().as_bytes());
        block.extend_from_slice(event.data.as_bytes());
    }
    let mut block = ByteString::try_from(block.freeze()).expect("text after text is text");
    events.iter().map(move |event| {
        let (kind, rest) = block.split_at(event.kind.as_str().len());
        let (data, rest) = rest.split_at(event.data.len());
        block = rest;
        (kind, data)
    })
}
