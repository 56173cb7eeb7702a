//! Subscription: one subscriber of one channel, as a pure state machine.
//!
//! [`Subscription::next`] looks at the tail and returns what to do: send bytes, fetch a page of
//! history, wait, or end. The caller owns the socket, the clock and the broker. There is no queue:
//! a slow subscriber is a cursor that is further back, and behind the tail it is served from
//! history. Events are joined by id where history ends and the tail begins, so no event is lost or
//! sent twice.
//!
//! | part of the state | question that it answers |
//! |---|---|
//! | `Progress` | Which position has the subscriber, and is it verified? |
//! | `Until` | Does the subscription end here? |
//! | `is_ended` | Has the client the end of the channel? |
//! | `LostTail` | Was this event sent before the log lost its newest events? |

mod gaps;
mod lost_tail;
mod options;
mod progress;
#[cfg(test)]
mod tests;
mod until;

use sse_proto::{Channel, EventId, Position};

use self::{
    lost_tail::LostTail,
    progress::Progress,
    until::{EndStep, Until},
};
pub use self::{options::SubscriptionOptions, until::Settlement};
use super::{
    Filter,
    chunk::{Chunk, ChunkBuilder},
    encode::{Envelope, EventEncoder, IdAffixes},
    start::UnreadableCursor,
    tail::Frames,
};
use crate::broker::{Page, ReadFrom};

/// What to do next for a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this chunk; the cursor has moved past it.
    Write(Chunk),
    /// Read this page of the log, and pass it to [`Subscription::apply_page`].
    Fetch(ReadFrom),
    /// Do nothing until the tail changes.
    Wait,
    /// End the stream: nothing that the client wants can follow.
    End,
}

/// One subscriber of one channel. Two equal subscriptions behave the same from here on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    channel: Channel,
    filter: Filter,
    envelope: Envelope,
    until: Option<Box<Until>>,
    progress: Progress,
    is_behind: bool,
    /// The last position that the client got, by the id of an event or by a block with only an id.
    sent_position: Option<Position>,
    newest_sent: EventId,
    /// Set once the log lost its newest events under this subscriber, which is rare.
    lost_tail: Option<Box<LostTail>>,
    /// Whether the client has the end of the channel, after which nothing follows.
    is_ended: bool,
}

impl Subscription {
    /// A subscription whose client has its own cursor, and no event yet.
    #[must_use]
    pub fn new(
        channel: Channel,
        options: &SubscriptionOptions,
        cursor: Result<Position, UnreadableCursor>,
    ) -> Self {
        Self {
            channel,
            filter: options.filter.clone(),
            envelope: options.envelope,
            until: options.until.map(|bound| Box::new(Until::new(bound))),
            sent_position: cursor.as_ref().ok().copied(),
            progress: cursor.map_or_else(Progress::Unreadable, Progress::Unverified),
            is_behind: false,
            newest_sent: EventId::ZERO,
            lost_tail: None,
            is_ended: false,
        }
    }

    /// Notes that the position of the client is after the end of the channel.
    pub(super) const fn set_ended(&mut self) {
        self.is_ended = true;
    }

    /// Whether the client has the end of the channel.
    pub(super) const fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The channel.
    #[must_use]
    pub const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Which events the client wants, and how their data is wrapped.
    pub(super) const fn filter_and_envelope(&self) -> (&Filter, Envelope) {
        (&self.filter, self.envelope)
    }

    /// The position: everything before it was sent or filtered out.
    ///
    /// While the position is unknown this is `@0-0`. A client that resumes there gets a gap.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.progress.position()
    }

    /// Whether the client or the log has named the position.
    pub(super) const fn has_position(&self) -> bool {
        !matches!(self.progress, Progress::Unreadable(_))
    }

    /// Whether the subscriber fell behind the tail and is served from history, as of the last call
    /// of [`next`](Self::next).
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Returns what to do next.
    pub fn next(&mut self, tail: &Frames, affixes: IdAffixes<'_>) -> Step {
        if self.is_ended {
            return Step::End;
        }
        if !tail.is_joined() {
            return Step::Wait;
        }
        self.is_behind = false;
        let position = match self.progress.verify(tail) {
            Ok(position) => position,
            Err(unverified) => return Step::Fetch(unverified),
        };
        if let Some(step) = self.next_at_end(affixes) {
            return step;
        }
        if position.floor() < tail.floor() {
            self.is_behind = true;
            return Step::Fetch(ReadFrom::Position(position));
        }
        match self.write_tail(position.floor(), tail, affixes) {
            Some(chunk) => Step::Write(chunk),
            None => self.next_at_end(affixes).unwrap_or(Step::Wait),
        }
    }

    /// Returns what to do at the end of the subscription, or `None` if there is more to read.
    fn next_at_end(&mut self, affixes: IdAffixes<'_>) -> Option<Step> {
        let Progress::Verified {
            position: from,
            generation,
        } = self.progress
        else {
            return None;
        };
        match self.until.as_ref()?.step(from) {
            EndStep::Read => None,
            EndStep::Wait => Some(Step::Wait),
            EndStep::End => Some(Step::End),
            EndStep::ReportLoss { record, .. } if self.was_sent(record) => Some(Step::End),
            EndStep::ReportLoss { position, gap, .. } => {
                let mut chunk = ChunkBuilder::for_page(self.encoder(affixes));
                chunk.add_gap(position, gap);
                let chunk = chunk.finish();
                self.move_to(position, generation);
                self.sent_position = Some(position);
                chunk.map(Step::Write)
            }
        }
    }

    /// Returns the wanted events after `after` in the tail as one chunk, or `None` if there is
    /// none.
    fn write_tail(
        &mut self,
        after: EventId,
        tail: &Frames,
        affixes: IdAffixes<'_>,
    ) -> Option<Chunk> {
        let encoder = EventEncoder::new(&self.channel, self.envelope, affixes);
        let mut chunk = ChunkBuilder::for_frames(encoder);
        let (mut end, mut last_sent) = (None, None);
        for frame in tail.after(after) {
            if let Some(until) = &mut self.until
                && until.is_beyond(frame.id, |bound| frame.is_within(bound))
            {
                break;
            }
            if self.ends_at_gaps() && frame.is_gap() {
                self.is_ended = true;
                break;
            }
            if self.filter.passes(&frame.kind) && !self.was_sent(frame.id) {
                let before = frame.envelope_bytes();
                let is_added = chunk.add_frame(frame);
                tail.add_envelope_bytes(frame.envelope_bytes() - before);
                if !is_added {
                    break;
                }
                last_sent = Some(frame.id);
            }
            end = Some(frame.id);
            if frame.is_end() {
                self.is_ended = true;
                break;
            }
        }
        let chunk = chunk.finish();
        if let Some(end) = end {
            self.move_to(Position::After(end), tail.generation());
        }
        if let Some(id) = last_sent {
            self.note_sent(id);
        }
        chunk
    }

    /// Applies the page that [`Step::Fetch`] asked for. `generation` is that of the tail at the
    /// time of the request.
    ///
    /// Returns what to send, or `None` if the client wants nothing of the page.
    pub fn apply_page(
        &mut self,
        page: &Page,
        generation: u64,
        affixes: IdAffixes<'_>,
    ) -> Option<Chunk> {
        if self.ends_at_gaps() && self.gap_before(page).is_some() {
            self.is_ended = true;
            return None;
        }
        let gap = self.note_gap_before(page);
        // The loop stays in this function: the chunk borrows the channel while `until` changes.
        let encoder = EventEncoder::new(&self.channel, self.envelope, affixes);
        let mut chunk = ChunkBuilder::for_page(encoder);
        let mut position = self.position();
        if let Some((at, gap)) = &gap {
            position = *at;
            chunk.add_gap(position, gap);
        }
        let mut last_sent = None;
        for event in &page.events {
            if let Some(until) = &mut self.until
                && until.is_beyond(event.id, |bound| event.is_within(bound))
            {
                break;
            }
            if self.ends_at_gaps() && event.is_gap() {
                self.is_ended = true;
                break;
            }
            position = Position::After(event.id);
            if self.filter.passes(&event.kind) && !self.was_sent(event.id) {
                chunk.add_event(event);
                last_sent = Some(event.id);
            }
            if event.is_end() {
                self.is_ended = true;
                break;
            }
        }
        let chunk = chunk.finish();
        self.move_to(position, generation);
        if let Some(id) = last_sent {
            self.note_sent(id);
        }
        chunk
    }

    /// Sets how the log ends at the bound, once no event up to there can be added any more.
    pub fn set_settlement(&mut self, settlement: Settlement) {
        if let Some(until) = &mut self.until {
            until.set_settlement(settlement);
        }
    }

    /// Returns the position if the client does not have it, because the position moved past events
    /// that were filtered out. The caller must send it.
    pub fn take_unsent_position(&mut self) -> Option<Position> {
        let Progress::Verified { position, .. } = self.progress else {
            return None;
        };
        (self.sent_position.replace(position) != Some(position)).then_some(position)
    }

    /// The last position that the client was sent; `None` if it was sent none.
    pub(super) const fn sent_position(&self) -> Option<Position> {
        self.sent_position
    }

    /// Notes that the client got the position, in an id that lists the positions of all channels.
    pub(super) const fn note_position_sent(&mut self) {
        self.sent_position = Some(self.position());
    }

    const fn note_sent(&mut self, id: EventId) {
        self.sent_position = Some(Position::After(id));
        self.newest_sent = id;
    }

    fn was_sent(&self, id: EventId) -> bool {
        let lost_tail = self.lost_tail.as_ref();
        lost_tail.is_some_and(|lost_tail| lost_tail.was_sent(id))
    }

    const fn encoder<'a>(&'a self, affixes: IdAffixes<'a>) -> EventEncoder<'a> {
        EventEncoder::new(&self.channel, self.envelope, affixes)
    }

    fn move_to(&mut self, position: Position, generation: u64) {
        self.progress = Progress::Verified {
            position,
            generation,
        };
    }
}
