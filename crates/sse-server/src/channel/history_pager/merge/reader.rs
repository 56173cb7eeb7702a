//! One channel of a merge: the part of its history that was read and is not in the response yet.

use std::collections::VecDeque;

use sse_proto::{
    Channel, EventId, Position,
    api::{Gap, HistoryEvent},
};

use super::{HistoryPager, HistoryStart};
use crate::broker::Stored;

/// What comes next in a channel.
pub(super) enum Next {
    /// This event or gap record.
    Entry(Stored),
    /// The channel must be read on. The next event has at least this many bytes.
    Unknown { bytes_min: usize },
}

/// A channel and how far it was read.
#[derive(Debug)]
pub(super) struct ChannelReader {
    channel: Channel,
    start: HistoryStart,
    /// What the last part found and the response does not have yet.
    entries: VecDeque<Stored>,
    /// A loss that overlaps the end of the channel.
    loss: Option<HistoryEvent>,
    /// The end of the last part; `None` if the channel was not read yet.
    end: Option<Position>,
    more: bool,
    /// Size of the event at `end`, if it was too large to be kept.
    bytes_min: usize,
    /// The log was trimmed between two parts. The reader gets the gap when it reads on.
    is_interrupted: bool,
    /// The record of the loss that the gap of this channel reports.
    reported_loss: Option<EventId>,
}

impl ChannelReader {
    pub(super) const fn new(channel: Channel, start: HistoryStart) -> Self {
        Self {
            channel,
            start,
            entries: VecDeque::new(),
            loss: None,
            end: None,
            more: true,
            bytes_min: 0,
            is_interrupted: false,
            reported_loss: None,
        }
    }

    pub(super) const fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(super) const fn is_unread(&self) -> bool {
        self.end.is_none()
    }

    pub(super) const fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }

    /// Returns true if the channel has events that are not in the response.
    pub(super) fn has_more(&self) -> bool {
        self.more || !self.entries.is_empty()
    }

    /// Returns the start of the next part.
    pub(super) fn start(&self) -> HistoryStart {
        let further = |end| HistoryStart::at_cursor(Ok(end));
        self.end.map_or_else(|| self.start.clone(), further)
    }

    /// Returns the id of the next event, or the least id that it can have. Returns `None` if the
    /// channel is complete.
    pub(super) fn earliest_id(&self) -> Option<EventId> {
        match self.entries.front() {
            Some(entry) => Some(entry.id),
            None if self.more => self.end_position().floor().next(),
            None => None,
        }
    }

    pub(super) fn next(&mut self) -> Next {
        let bytes_min = self.bytes_min;
        let entry = self.entries.pop_front();
        entry.map_or(Next::Unknown { bytes_min }, Next::Entry)
    }

    /// Returns the loss at the end of the channel, once everything before it is in the response.
    pub(super) fn take_reached_loss(&mut self) -> Option<HistoryEvent> {
        if self.has_more() {
            return None;
        }
        self.loss.take()
    }

    /// Returns the position after everything of this channel that is in the response.
    ///
    /// That is *at* an event that was read and is not in the response, so that the events that the
    /// filter kept back before it are not read again.
    pub(super) fn position(&self) -> (Channel, Position) {
        let next = self.entries.front().map(|entry| Position::At(entry.id));
        let position = next.unwrap_or_else(|| self.end_position());
        (self.channel.clone(), position)
    }

    fn end_position(&self) -> Position {
        self.end.unwrap_or_else(|| self.start.position())
    }

    /// Takes over a complete part, of which at most `bytes_max` may be kept.
    ///
    /// Returns the gap before the part, and the bytes of an event that was too large to be kept.
    pub(super) fn add_part(
        &mut self,
        pager: HistoryPager,
        bytes_max: usize,
    ) -> (Option<Gap>, usize) {
        let is_first = self.is_unread();
        if !is_first && pager.gap.is_some() {
            self.is_interrupted = true;
            return (None, 0);
        }
        if is_first {
            self.reported_loss = pager.reported_loss();
        }
        self.loss = pager.loss;
        self.end = pager.next;
        self.more = pager.more;
        self.entries = pager.entries.into();
        self.remove_reported_loss();
        self.bytes_min = self.give_up_too_large(bytes_max);
        (pager.gap, self.bytes_min)
    }

    /// A later part may contain the loss that the gap of the first part reports.
    fn remove_reported_loss(&mut self) {
        if let Some(record) = self.reported_loss {
            self.entries
                .retain(|entry| !(entry.is_gap() && entry.id == record));
            self.loss.take_if(|loss| loss.id == record.to_string());
        }
    }

    /// Removes the last event if the part has more than `bytes_max`, which only one event can
    /// exceed. Returns its size. The event is read again when it is the next one of the response.
    fn give_up_too_large(&mut self, bytes_max: usize) -> usize {
        let bytes: usize = self.entries.iter().map(Stored::size).sum();
        if bytes <= bytes_max {
            return 0;
        }
        self.entries.pop_back().map_or(0, |event| {
            self.end = Some(Position::At(event.id));
            self.more = true;
            self.loss = None;
            event.size()
        })
    }
}
