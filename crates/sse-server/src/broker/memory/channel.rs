//! One channel in memory: its events in order, pages of them, and its idempotency keys.

use std::borrow::Cow;

use bytes::BytesMut;
use bytestring::ByteString;
use sse_proto::{Channel, Event, EventId, Position};

use super::{events::Events, keys::Keys};
use crate::broker::{
    Appended, BackPage, Continuity, Page, PageLimits, ReadFrom, Stored,
    channel_index::{Rank, earliest},
    clock::Clock,
    continuity::{Extent, Trimmed, judge, judge_time},
    lifecycle::{ChannelLife, ChannelSettings, Effective, EndMark},
    types::event_size,
};

/// Events of one append share blocks of memory for their text. A block is freed with its last
/// event, so a block has at most this many bytes, or one event.
const BLOCK_LIMITS: PageLimits = PageLimits {
    events_max: usize::MAX,
    bytes_max: 16 << 10,
};

/// The log of one channel.
#[derive(Debug)]
pub(super) struct ChannelLog {
    /// Identifies the incarnation.
    pub(super) number: u64,
    /// The id after which the channel began.
    origin: EventId,
    /// The last id assigned in the channel.
    last: EventId,
    /// The newest trimmed id; `origin` if nothing was trimmed.
    trimmed: EventId,
    events: Events,
    /// What the events count towards the limits of bytes.
    bytes: u64,
    pub(super) keys: Keys,
    life: Option<Box<ChannelLife>>,
}

/// Returns what an event counts towards the limit of bytes.
pub(super) fn event_bytes(event: &Stored) -> u64 {
    (size_of::<Stored>() + event.size()) as u64
}

impl ChannelLog {
    /// Creates a channel without events.
    pub(super) fn new(number: u64, origin: EventId) -> Self {
        Self {
            number,
            origin,
            last: origin,
            trimmed: origin,
            events: Events::default(),
            bytes: 0,
            keys: Keys::default(),
            life: None,
        }
    }

    /// Returns the last id before the end.
    pub(super) const fn last(&self) -> EventId {
        self.last
    }

    /// Returns the last id, that of the end included.
    pub(super) fn newest(&self) -> EventId {
        self.end().map_or(self.last, |end| end.id)
    }

    /// Whether an event was ever appended.
    pub(super) fn has_had_events(&self) -> bool {
        self.last != self.origin
    }

    pub(super) fn end(&self) -> Option<&EndMark> {
        self.life.as_ref()?.end.as_ref()
    }

    pub(super) fn settings(&self) -> ChannelSettings {
        let life = self.life.as_ref();
        life.map_or(ChannelSettings::NONE, |life| life.settings)
    }

    /// Returns the settings, the end and the times of the channel.
    pub(super) fn life(&self) -> ChannelLife {
        self.life.as_deref().cloned().unwrap_or_default()
    }

    pub(super) fn set_life(&mut self, life: ChannelLife) {
        self.life = (!life.is_default()).then(|| Box::new(life));
    }

    /// What the events count towards the limits of bytes.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn events(&self) -> &Events {
        &self.events
    }

    /// Returns the id of the oldest event.
    pub(super) fn oldest(&self) -> Option<EventId> {
        self.events.oldest()
    }

    /// Returns true if events other than the newest are older than `cutoff_ms`.
    pub(super) fn has_events_before(&self, cutoff_ms: u64) -> bool {
        self.events.len() > 1 && self.oldest().is_some_and(|id| id.ms < cutoff_ms)
    }

    /// Returns where the channel is in the orders.
    pub(super) fn rank(&self) -> Rank {
        let oldest_ms = self.oldest().map_or(0, |oldest| oldest.ms);
        let (count, has_keys) = (self.events.len() as u64, !self.keys.is_empty());
        Rank::new(count, oldest_ms, self.last.ms, has_keys)
    }

    /// Returns from when on a sweep may have something to remove.
    pub(super) fn next_sweep_ms(&self, limits: &Effective) -> Option<u64> {
        let aged = self.oldest().filter(|_| self.events.len() > 1);
        let aged_ms = aged.and_then(|oldest| limits.too_old_from_ms(oldest.ms));
        earliest(aged_ms, self.keys.first_expiry_ms())
    }

    /// Appends events, at least one. Returns their ids and the bytes that they count.
    pub(super) fn append(
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
            for (kind, data) in copy_text(block) {
                let id = clock.next_id(now_ms);
                first.get_or_insert(id);
                bytes += self.push(Stored { id, kind, data });
            }
        }
        let ids = Appended {
            first: first.unwrap_or(self.last),
            last: self.last,
        };
        (ids, bytes)
    }

    /// Adds an event at the end. Returns the bytes that it counts.
    fn push(&mut self, event: Stored) -> u64 {
        let bytes = event_bytes(&event);
        self.last = event.id;
        self.bytes += bytes;
        self.events.push(event);
        bytes
    }

    /// Removes the oldest event. Returns the bytes that it counted, or `None` if there is no event.
    pub(super) fn remove_oldest(&mut self) -> Option<u64> {
        let oldest = self.events.pop_oldest()?;
        self.trimmed = oldest.id;
        let bytes = event_bytes(&oldest);
        self.bytes -= bytes;
        Some(bytes)
    }

    /// Reads a page of `channel`, which has this log.
    pub(super) fn read(&self, channel: &Channel, from: ReadFrom, limits: PageLimits) -> Page {
        let Some(end) = self.end() else {
            return self.read_events(from, limits);
        };
        let Some(from) = end.resolve(from) else {
            return end.nothing();
        };
        let mut page = self.read_events(from, limits);
        end.add_to(channel, &mut page);
        page
    }

    /// Reads a page as if the channel were open.
    fn read_events(&self, from: ReadFrom, limits: PageLimits) -> Page {
        let start = self.judge(from);
        let first = match start {
            Continuity::Contiguous => self.index_of(from),
            Continuity::Gap { .. } => 0,
        };
        let rest = self.events.range(first..self.events.len());
        let count = limits.fit(rest.map(|event| event.size()));
        let end = first + count;
        Page {
            start,
            events: self.events.range(first..end).map(Cow::into_owned).collect(),
            more: end < self.events.len(),
            last: self.last,
        }
    }

    /// Reads a page backwards, from the newest event or from the event before `before`.
    pub(super) fn read_back(&self, before: Option<EventId>, limits: PageLimits) -> BackPage {
        let end = before.map_or(self.events.len(), |before| self.events.count_before(before));
        let rest = self.events.range(0..end).rev();
        let count = limits.fit(rest.map(|event| event.size()));
        let newest = self.events.range(end - count..end).rev();
        BackPage {
            events: newest.map(Cow::into_owned).collect(),
            more: count < end,
            last: self.last,
        }
    }

    /// Decides whether `from` can be continued.
    fn judge(&self, from: ReadFrom) -> Continuity {
        match from {
            ReadFrom::Oldest => Continuity::Contiguous,
            ReadFrom::Time(ms) => judge_time(ms, &self.extent()),
            ReadFrom::Position(position) => self.judge_position(position),
        }
    }

    fn judge_position(&self, position: Position) -> Continuity {
        let (Position::After(id) | Position::At(id)) = position;
        judge(position, self.events.contains(id), &self.extent())
    }

    /// Returns the index of the first event from `from` on.
    fn index_of(&self, from: ReadFrom) -> usize {
        match from {
            ReadFrom::Oldest => 0,
            ReadFrom::Time(ms) => self.events.count_before(EventId::new(ms, 0)),
            ReadFrom::Position(position) => {
                let floor = position.floor();
                let has_floor = self.events.contains(floor);
                self.events.count_before(floor) + usize::from(has_floor)
            }
        }
    }

    fn extent(&self) -> Extent {
        Extent {
            oldest: self.oldest(),
            last: self.last,
            trimmed: Trimmed::through(self.trimmed, self.origin),
        }
    }
}

/// Returns how many of the events, at least one, share the next block.
fn block_length(events: &[Event]) -> usize {
    BLOCK_LIMITS.fit(events.iter().map(event_size))
}

/// Copies types and data into a block of their own.
///
/// The text of a request would keep the whole body of the request alive.
fn copy_text(events: &[Event]) -> impl Iterator<Item = (ByteString, ByteString)> {
    let mut block = BytesMut::with_capacity(events.iter().map(event_size).sum());
    for event in events {
        block.extend_from_slice(event.kind.as_str().as_bytes());
        block.extend_from_slice(event.data.as_bytes());
    }
    let mut block = ByteString::try_from(block.freeze()).expect("joined UTF-8 texts are UTF-8");
    events.iter().map(move |event| {
        let (kind, rest) = block.split_at(event.kind.as_str().len());
        let (data, rest) = rest.split_at(event.data.len());
        block = rest;
        (kind, data)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_events_of_one_append_share_no_memory() {
        let event = Event {
            kind: "click".parse().unwrap(),
            data: "x".repeat(10_000).into(),
        };
        let mut channel = ChannelLog::new(1, EventId::ZERO);
        let mut clock = Clock::new(EventId::ZERO, 0);
        channel.append(&vec![event.clone(); 3], &mut clock, 1);
        let stored: Vec<Stored> = channel.events().iter().map(Cow::into_owned).collect();
        assert!(
            stored
                .iter()
                .all(|stored| stored.data == event.data && &*stored.kind == "click")
        );
        let bounds = |event: &Stored| {
            (
                event.kind.as_ptr() as usize,
                event.data.as_ptr() as usize + event.data.len(),
            )
        };
        assert!(
            stored
                .windows(2)
                .all(|two| bounds(&two[0]).1 != bounds(&two[1]).0)
        );
    }
}
