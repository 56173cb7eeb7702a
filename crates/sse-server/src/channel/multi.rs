//! Subscription to one or several channels: their [`Subscription`]s, merged.
//!
//! The merged subscription is still only a cursor, with a position in each channel, and a pure
//! state machine. Nothing is queued. The channels take turns, one chunk at a time, so a busy
//! channel does not delay a quiet one. While one channel waits for a page of history, the others
//! continue.

use std::{fmt, ops::Deref};

use smallvec::SmallVec;
use sse_proto::{Channel, Cursor, Notice, Position};

use super::{
    Envelope, Filter, Frames, Settlement, Step, Subscription, SubscriptionOptions,
    UnreadableCursor,
    chunk::{CHUNK_BYTES_MAX, Chunk},
    encode::IdAffixes,
};
use crate::broker::{Page, ReadFrom};

/// Largest number of events in a page for a stream of one channel.
const PAGE_EVENTS_MAX: usize = 256;

/// What to do next for a subscriber.
#[derive(Debug, PartialEq, Eq)]
pub enum MultiStep {
    /// Send this chunk.
    Write(Chunk),
    /// Read this page, and pass it to [`MultiSubscription::apply_page`]. The other channels
    /// continue meanwhile.
    Fetch(Fetch),
    /// Do nothing until a tail changes, or the page that is being read arrives.
    Wait,
    /// End the stream: nothing that the client wants can follow.
    End,
}

/// A page of history that one of the channels needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// Index of the channel.
    pub nth: usize,
    /// Where to read from.
    pub from: ReadFrom,
    /// Generation of the channel's tail at the time of the request.
    pub generation: u64,
    /// Epoch of that tail at the time of the request.
    pub epoch: u64,
}

/// One subscriber of some channels. Two equal subscriptions behave the same from here on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiSubscription {
    /// In the order in which a cursor lists the channels.
    channels: SmallVec<[Subscription; 1]>,
    /// Index of the channel that may send first.
    turn: u16,
    notices: Notices,
}

/// Which notices a stream gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notices {
    /// None: the client did not ask for them.
    Off,
    /// It has not reported yet that it is live.
    Replaying,
    Live,
}

impl MultiSubscription {
    /// A subscription to these channels, at least one, each once.
    #[must_use]
    pub fn new(
        cursors: impl IntoIterator<Item = (Channel, Result<Position, UnreadableCursor>)>,
        options: &SubscriptionOptions,
    ) -> Self {
        let subscription = |(channel, cursor)| Subscription::new(channel, options, cursor);
        Self {
            channels: cursors.into_iter().map(subscription).collect(),
            turn: 0,
            notices: if options.notices {
                Notices::Replaying
            } else {
                Notices::Off
            },
        }
    }

    /// Notes that the position in the n-th channel is after the end of the channel.
    pub fn set_ended(&mut self, nth: usize) {
        if let Some(channel) = self.channels.get_mut(nth) {
            channel.set_ended();
        }
    }

    /// Whether the client has the end of every channel.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.channels.iter().all(Subscription::is_ended)
    }

    /// The channels, in order.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().map(Subscription::channel)
    }

    /// Which events the client wants, and how their data is wrapped.
    #[must_use]
    pub fn filter_and_envelope(&self) -> (Filter, Envelope) {
        let first = self.channels.first().map(Subscription::filter_and_envelope);
        first
            .map(|(filter, envelope)| (filter.clone(), envelope))
            .unwrap_or_default()
    }

    /// The position in each channel, in order.
    pub fn positions(&self) -> impl Iterator<Item = (&Channel, Position)> {
        self.channels
            .iter()
            .map(|channel| (channel.channel(), channel.position()))
    }

    /// The number of channels.
    #[must_use]
    pub fn count(&self) -> usize {
        self.channels.len()
    }

    /// Returns what to do next. `tail` locks the tail of the n-th channel.
    ///
    /// `fetching` is the channel that waits for a page; it is skipped.
    pub fn next<F>(&mut self, tail: impl Fn(usize) -> F, fetching: Option<usize>) -> MultiStep
    where
        F: Deref<Target = Frames>,
    {
        let count = self.count();
        let mut ended = 0;
        let turn = usize::from(self.turn);
        for nth in (turn..count).chain(0..turn) {
            if fetching == Some(nth) {
                continue;
            }
            let step = self.next_of_channel(nth, &tail(nth));
            match step {
                MultiStep::Write(_) => {
                    self.note_sent_by(nth);
                    return step;
                }
                MultiStep::Fetch(_) if fetching.is_none() => {
                    self.set_turn_after(nth);
                    return step;
                }
                MultiStep::Fetch(_) | MultiStep::Wait => {}
                MultiStep::End => ended += 1,
            }
        }
        if ended == count {
            return MultiStep::End;
        }
        if fetching.is_none() && self.becomes_live(tail) {
            return MultiStep::Write(Chunk::notice(&Notice::Live));
        }
        MultiStep::Wait
    }

    /// Returns whether the client must be sent that the stream is live, now that no channel has
    /// anything to send. A channel whose tail has not joined the log may have something.
    fn becomes_live<F>(&mut self, tail: impl Fn(usize) -> F) -> bool
    where
        F: Deref<Target = Frames>,
    {
        let is_live = self.notices == Notices::Replaying
            && (0..self.count()).all(|nth| tail(nth).is_joined());
        if is_live {
            self.notices = Notices::Live;
        }
        is_live
    }

    /// Whether the client wants notices.
    #[must_use]
    pub fn has_notices(&self) -> bool {
        self.notices != Notices::Off
    }

    /// Lets the channel after this one send first.
    fn set_turn_after(&mut self, nth: usize) {
        // A cursor has few channels.
        self.turn = u16::try_from((nth + 1) % self.count()).unwrap_or(0);
    }

    fn next_of_channel(&mut self, nth: usize, frames: &Frames) -> MultiStep {
        match self.with_affixes(nth, |channel, affixes| channel.next(frames, affixes)) {
            Step::Write(chunk) => MultiStep::Write(chunk),
            Step::Fetch(from) => MultiStep::Fetch(Fetch {
                nth,
                from,
                generation: frames.generation(),
                epoch: frames.epoch(),
            }),
            Step::Wait => MultiStep::Wait,
            Step::End => MultiStep::End,
        }
    }

    /// Applies the page that was asked for. Returns what to send, or `None` if the client wants
    /// nothing of the page.
    pub fn apply_page(&mut self, fetch: Fetch, page: &Page) -> Option<Chunk> {
        let chunk = self.with_affixes(fetch.nth, |channel, affixes| {
            channel.apply_page(page, fetch.generation, affixes)
        });
        if chunk.is_some() {
            self.note_sent_by(fetch.nth);
        }
        chunk
    }

    /// The number of events that make about one chunk. Each event of a stream of several channels
    /// carries the positions of all of them.
    #[must_use]
    pub fn page_events_max(&self) -> usize {
        if self.count() == 1 {
            return PAGE_EVENTS_MAX;
        }
        let cursor_bytes = Cursor::BYTES_MAX / Cursor::CHANNELS_MAX * self.count();
        (CHUNK_BYTES_MAX / cursor_bytes).min(PAGE_EVENTS_MAX)
    }

    /// Sets how each channel ends at the bound, once no event up to there can be added any more.
    pub fn set_settlements(&mut self, settlements: Vec<Settlement>) {
        for (channel, settlement) in self.channels.iter_mut().zip(settlements) {
            channel.set_settlement(settlement);
        }
    }

    /// Returns the cursor if the client does not have it. The caller must send it.
    pub fn take_unsent_cursor(&mut self) -> Option<impl fmt::Display> {
        // Visit every channel, because the cursor contains the positions of all of them.
        let moved = self
            .channels
            .iter_mut()
            .filter_map(Subscription::take_unsent_position)
            .count();
        (moved > 0).then(|| self.cursor())
    }

    /// Returns the cursor at the opening of the stream, or `None` if the client's own cursor was
    /// unreadable.
    pub fn opening_cursor(&self) -> Option<impl fmt::Display> {
        self.channels
            .iter()
            .all(Subscription::has_position)
            .then(|| self.cursor())
    }

    /// Whether the client gets only data.
    pub(crate) fn has_only_data(&self) -> bool {
        self.filter_and_envelope().1 == Envelope::Data
    }

    /// Returns the only channel and its position; `None` if there are several, or no position.
    pub(crate) fn only_position(&self) -> Option<(&Channel, Position)> {
        let is_only = |channel: &&Subscription| self.count() == 1 && channel.has_position();
        let channel = self.channels.first().filter(is_only)?;
        Some((channel.channel(), channel.position()))
    }

    /// Returns the last cursor that the client was sent, or `None` if it was sent none.
    #[must_use]
    pub fn sent_cursor(&self) -> Option<impl fmt::Display> {
        let sent = |channel: &Subscription| channel.sent_position().unwrap_or(channel.position());
        let mut channels = self.channels.iter();
        let is_sent = channels.all(|channel| channel.sent_position().is_some());
        is_sent.then(|| self.cursor_of(sent))
    }

    /// Whether the subscriber fell behind the tail of a channel and is served from history.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.channels.iter().any(Subscription::is_behind)
    }

    fn cursor(&self) -> impl fmt::Display {
        self.cursor_of(Subscription::position)
    }

    fn cursor_of(&self, position: impl Fn(&Subscription) -> Position) -> impl fmt::Display {
        fmt::from_fn(move |f| match self.channels.as_slice() {
            [channel] => fmt::Display::fmt(&position(channel), f),
            channels => fmt::Display::fmt(&positions(channels, &position), f),
        })
    }

    /// Calls `act` with a channel, and with the affixes that the other channels give to its ids.
    fn with_affixes<T>(
        &mut self,
        nth: usize,
        act: impl FnOnce(&mut Subscription, IdAffixes<'_>) -> T,
    ) -> T {
        let (left, rest) = self.channels.split_at_mut(nth);
        let (channel, right) = rest
            .split_first_mut()
            .expect("there are more than nth channels");
        if left.is_empty() && right.is_empty() {
            return act(channel, IdAffixes::NONE);
        }
        let comma = if left.is_empty() { "" } else { "," };
        let before = format!(
            "{}{comma}{}=",
            positions(left, Subscription::position),
            channel.channel()
        );
        let comma = if right.is_empty() { "" } else { "," };
        let after = format!("{comma}{}", positions(right, Subscription::position));
        let affixes = IdAffixes {
            before: &before,
            after: &after,
        };
        act(channel, affixes)
    }

    /// Notes that a channel sent something, whose id has the positions of all channels.
    fn note_sent_by(&mut self, nth: usize) {
        self.set_turn_after(nth);
        for (other, channel) in self.channels.iter_mut().enumerate() {
            if other != nth {
                channel.note_position_sent();
            }
        }
    }
}

/// The positions of `channels` as in a cursor: `a=5-0,b=7-0`.
fn positions(
    channels: &[Subscription],
    position: impl Fn(&Subscription) -> Position,
) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        channels.iter().enumerate().try_for_each(|(nth, channel)| {
            let comma = if nth == 0 { "" } else { "," };
            write!(f, "{comma}{}={}", channel.channel(), position(channel))
        })
    })
}

#[cfg(test)]
mod tests;
