//! One subscriber of one or several channels: their [`Subscription`]s, merged.
//!
//! It stays a cursor, a position in each channel, and is as pure as what it merges. Nothing is queued: whichever channel
//! has something is asked for one chunk at a time, in turn, so that a busy channel cannot keep a quiet one waiting. A
//! page of history that is on its way for one of them holds up none of the others.

use std::{fmt, ops::Deref};

use smallvec::SmallVec;
use sse_proto::{Channel, Cursor, Position};

use super::{
    Envelope, Filter, Frames, UnreadableCursor,
    encode::Neighbours,
    subscription::{CHUNK_BYTES_MAX, Chunk, Settlement, Step, Subscription, Wanted},
};
use crate::broker::{Page, ReadFrom};

/// Events of a page for a stream of one channel.
const PAGE_EVENTS_MAX: usize = 256;

/// What to do next for a subscriber.
#[derive(Debug, PartialEq, Eq)]
pub enum MultiStep {
    /// Write this.
    Write(Chunk),
    /// Read this page for one of the channels and hand it to [`MultiSubscription::page`]; go on with the others
    /// meanwhile.
    Fetch(Fetch),
    /// Nothing to do until a tail changes, or the page comes that is on its way.
    Wait,
    /// Nothing that is wanted can come any more.
    End,
}

/// A page of history that one of the channels needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// Which of the channels, counted from 0.
    pub nth: usize,
    /// From where to read.
    pub from: ReadFrom,
    /// Of the channel's tail when the page was asked for.
    pub generation: u64,
    /// Of that tail, likewise.
    pub epoch: u64,
}

/// One subscriber of some channels. Two that are equal do the same from here on, whatever comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiSubscription {
    /// In the order in which the channels stand in a cursor.
    channels: SmallVec<[Subscription; 1]>,
    /// Whose turn it is.
    turn: usize,
}

impl MultiSubscription {
    /// A subscription to these channels, at least one, each once.
    #[must_use]
    pub fn new(
        cursors: impl IntoIterator<Item = (Channel, Result<Position, UnreadableCursor>)>,
        wanted: &Wanted,
    ) -> Self {
        let subscription = |(channel, cursor)| Subscription::new(channel, wanted, cursor);
        Self {
            channels: cursors.into_iter().map(subscription).collect(),
            turn: 0,
        }
    }

    /// The channels, in order.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().map(Subscription::channel)
    }

    /// Which events it wants, and how their data is wrapped.
    #[must_use]
    pub fn filter_and_envelope(&self) -> (Filter, Envelope) {
        let first = self.channels.first().map(Subscription::filter_and_envelope);
        first
            .map(|(filter, envelope)| (filter.clone(), envelope))
            .unwrap_or_default()
    }

    /// Where it stands in each channel, in order.
    pub fn positions(&self) -> impl Iterator<Item = (&Channel, Position)> {
        self.channels
            .iter()
            .map(|channel| (channel.channel(), channel.position()))
    }

    /// How many channels there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.channels.len()
    }

    /// What to do next, given a look at the tail of each channel. The one that waits for a page is not asked.
    pub fn next<F>(&mut self, tail: impl Fn(usize) -> F, fetching: Option<usize>) -> MultiStep
    where
        F: Deref<Target = Frames>,
    {
        let count = self.count();
        let mut over = 0;
        for nth in (self.turn..count).chain(0..self.turn) {
            if fetching == Some(nth) {
                continue;
            }
            let (channel, neighbours) = self.split(nth);
            let frames = tail(nth);
            let step = channel.next(&frames, neighbours);
            let (generation, epoch) = (frames.generation(), frames.epoch());
            drop(frames);
            match step {
                Step::Write(chunk) => {
                    self.wrote(nth);
                    return MultiStep::Write(chunk);
                }
                Step::Fetch(from) if fetching.is_none() => {
                    self.turn = (nth + 1) % count;
                    return MultiStep::Fetch(Fetch {
                        nth,
                        from,
                        generation,
                        epoch,
                    });
                }
                Step::Fetch(_) | Step::Wait => {}
                Step::End => over += 1,
            }
        }
        if over == count {
            MultiStep::End
        } else {
            MultiStep::Wait
        }
    }

    /// Takes the page that was asked for; returns what to write, if anything of it is wanted.
    pub fn page(&mut self, fetch: Fetch, page: &Page) -> Option<Chunk> {
        let (channel, neighbours) = self.split(fetch.nth);
        let chunk = channel.page(page, fetch.generation, neighbours);
        if chunk.is_some() {
            self.wrote(fetch.nth);
        }
        chunk
    }

    /// How many events of a page make about one chunk: with each go the positions of all channels.
    #[must_use]
    pub fn page_events_max(&self) -> usize {
        if self.count() == 1 {
            return PAGE_EVENTS_MAX;
        }
        let cursor_bytes = Cursor::BYTES_MAX / Cursor::CHANNELS_MAX * self.count();
        (CHUNK_BYTES_MAX / cursor_bytes).min(PAGE_EVENTS_MAX)
    }

    /// No event up to the bound can come any more in any channel, and this is how they end there.
    pub fn settle(&mut self, settlements: Vec<Settlement>) {
        for (channel, settlement) in self.channels.iter_mut().zip(settlements) {
            channel.settle(settlement);
        }
    }

    /// Where it stands in all channels, if the subscriber does not know it; whoever calls this sends it.
    pub fn tell(&mut self) -> Option<impl fmt::Display> {
        // Each of them, because all positions go along.
        let moved = self
            .channels
            .iter_mut()
            .filter_map(Subscription::tell)
            .count();
        (moved > 0).then(|| self.cursor())
    }

    /// Where it stands in all channels, unless one of its starts is no position at all.
    pub fn opening(&self) -> Option<impl fmt::Display> {
        self.channels
            .iter()
            .all(Subscription::is_placed)
            .then(|| self.cursor())
    }

    /// Whether it is served from history in some channel because it fell behind the tail.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.channels.iter().any(Subscription::is_behind)
    }

    fn cursor(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match self.channels.as_slice() {
            [channel] => fmt::Display::fmt(&channel.position(), f),
            channels => channels.iter().enumerate().try_for_each(|(nth, channel)| {
                let comma = if nth == 0 { "" } else { "," };
                write!(f, "{comma}{}={}", channel.channel(), channel.position())
            }),
        })
    }

    /// A channel, and the others.
    fn split(&mut self, nth: usize) -> (&mut Subscription, Neighbours<'_>) {
        let (left, rest) = self.channels.split_at_mut(nth);
        let (channel, right) = rest
            .split_first_mut()
            .expect("there are more than nth channels");
        (channel, Neighbours { left, right })
    }

    /// A channel wrote something, and the positions of the others went along.
    fn wrote(&mut self, nth: usize) {
        self.turn = (nth + 1) % self.count();
        for (other, channel) in self.channels.iter_mut().enumerate() {
            if other != nth {
                channel.was_told();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use sse_proto::EventId;

    use super::*;
    use crate::{broker::Stored, channel::TailLimits};

    fn tail(events: u64) -> Frames {
        let mut frames = Frames::new(TailLimits {
            events_max: NonZeroUsize::MAX,
            bytes_max: usize::MAX,
        });
        frames.join(EventId::ZERO);
        let event = |ms| Stored {
            id: EventId::new(ms, 0),
            kind: "click".into(),
            data: ms.to_string().into(),
        };
        frames.push((1..=events).map(event).collect());
        frames
    }

    fn subscription(channels: usize, start: Position) -> MultiSubscription {
        let start = |nth| (format!("{nth:0>64}").parse().unwrap(), Ok(start));
        MultiSubscription::new((0..channels).map(start), &Wanted::default())
    }

    #[test]
    fn a_chunk_is_bounded_however_long_the_ids_are() {
        let tails: Vec<Frames> = (0..32)
            .map(|nth| tail(if nth == 5 { 2000 } else { 0 }))
            .collect();
        let mut reader = subscription(32, Position::After(EventId::ZERO));
        let (mut chunks, mut text) = (0, String::new());
        while let MultiStep::Write(chunk) = reader.next(|nth| &tails[nth], None) {
            assert!(
                chunk.bytes.len() <= CHUNK_BYTES_MAX,
                "{}",
                chunk.bytes.len()
            );
            text.push_str(std::str::from_utf8(&chunk.bytes).unwrap());
            chunks += 1;
        }
        assert!(chunks > 10);
        let data: Vec<u64> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| data.parse().unwrap())
            .collect();
        assert_eq!(data, (1..=2000).collect::<Vec<_>>());
        assert_eq!(
            reader.page_events_max() * Cursor::BYTES_MAX / CHUNK_BYTES_MAX,
            0
        );
    }

    #[test]
    fn channels_take_turns_and_one_that_waits_for_a_page_holds_up_nobody() {
        let mut tails = [tail(5), tail(0), tail(5)];
        // The one in the middle is behind its tail.
        tails[1].join(EventId::new(9, 0));
        let mut reader = subscription(3, Position::After(EventId::ZERO));
        assert!(matches!(
            reader.next(|nth| &tails[nth], None),
            MultiStep::Write(_)
        ));
        let MultiStep::Fetch(fetch) = reader.next(|nth| &tails[nth], None) else {
            panic!("no turn for a page")
        };
        assert_eq!(fetch.nth, 1);
        let MultiStep::Write(chunk) = reader.next(|nth| &tails[nth], Some(1)) else {
            panic!("held up")
        };
        assert_eq!(chunk.events, 5);
        assert_eq!(reader.next(|nth| &tails[nth], Some(1)), MultiStep::Wait);
        // All positions went along with each event.
        assert_eq!(reader.tell().map(|position| position.to_string()), None);
    }
}
