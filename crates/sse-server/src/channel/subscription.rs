//! One subscriber as a pure state machine: given the tail and a cursor, *write these bytes*, *fetch this page* or *wait*.
//!
//! It knows no socket, no clock and no broker; whoever drives it does. There is no queue: a subscriber that reads
//! slowly is a cursor that stands further back, and behind the tail it is served from history. The way from history
//! into the tail is by id, so that nothing is lost or doubled at the seam.
//!
//! A cursor that came from outside is only *claimed*. It is *proved* by the tail that knows its id, or by a page of the
//! log that continues it; a page that does not starts with a `gap` event.

use bytes::{Bytes, BytesMut};
use sse_proto::{
    Channel, EventId, EventType, Position,
    api::{Gap, GapReason},
    wire,
};

use super::tail::{Frame, Frames};
use crate::broker::{self, From, Page};

/// A chunk has at most this many bytes, or one event.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// A cursor that is not ours is shown in a gap, but not at any length.
const ECHO_CHARS_MAX: usize = 64;

/// Which events a subscriber wants: those of some types, or all.
#[derive(Debug, Clone, Default)]
pub struct Filter(Vec<EventType>);

impl Filter {
    /// Events of these types; without any, all events.
    #[must_use]
    pub fn new(kinds: Vec<EventType>) -> Self {
        Self(kinds)
    }

    fn passes(&self, kind: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted.as_str() == kind)
    }
}

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Where the subscriber says that it stands.
    Claimed(Position),
    /// The subscriber sent something that is no cursor of this channel.
    Unreadable(String),
    /// At this millisecond: for "now", while the log could not be asked.
    Time(u64),
}

/// What to do next for a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write this; the cursor has moved past it.
    Write(Chunk),
    /// Read this page of the log and hand it to [`Subscription::page`].
    Fetch(From),
    /// Nothing to do until the tail changes.
    Wait,
}

/// Bytes to write in one piece: whole blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The blocks, at least one.
    pub bytes: Bytes,
    /// How many events they hold; a gap is not one of them.
    pub events: usize,
    /// The gap that the chunk begins with, if it does.
    pub gap: Option<GapReason>,
}

/// One subscriber of one channel.
#[derive(Debug)]
pub struct Subscription {
    channel: Channel,
    filter: Filter,
    place: Place,
    /// The last position that the subscriber was told, by an event or by an id-only block.
    told: Option<Position>,
    /// The newest event that was sent: after a fork of the log none is sent twice on one connection.
    sent: EventId,
    /// After such a fork: what lies up to here was sent before it.
    resent: EventId,
}

#[derive(Debug)]
enum Place {
    Begin(Start),
    /// Everything up to here was sent or is not wanted, under this generation of the tail.
    Proved {
        position: Position,
        generation: u64,
    },
}

impl Subscription {
    /// A subscription that has sent nothing but, if its start is [`Start::Claimed`], that position.
    #[must_use]
    pub fn new(channel: Channel, filter: Filter, start: Start) -> Self {
        let told = match start {
            Start::Claimed(position) => Some(position),
            Start::Unreadable(_) | Start::Time(_) => None,
        };
        Self { channel, filter, place: Place::Begin(start), told, sent: EventId::ZERO, resent: EventId::ZERO }
    }

    /// What to do next.
    pub fn next(&mut self, tail: &Frames) -> Step {
        if !tail.is_joined() {
            return Step::Wait;
        }
        match &self.place {
            Place::Begin(Start::Unreadable(_)) => return Step::Fetch(From::Oldest),
            Place::Begin(Start::Time(ms)) => return Step::Fetch(From::Time(*ms)),
            Place::Begin(Start::Claimed(position)) => match *position {
                Position::After(id) if tail.knows(id) => self.prove(*position, tail.generation()),
                position => return Step::Fetch(From::Position(position)),
            },
            Place::Proved { .. } => {}
        }
        let Place::Proved { position, generation } = self.place else { return Step::Wait };
        if generation != tail.generation() {
            // The log did not continue the tail: what was proved before proves nothing now.
            self.place = Place::Begin(Start::Claimed(position));
            return Step::Fetch(From::Position(position));
        }
        if position.floor() < tail.floor() {
            return Step::Fetch(From::Position(position));
        }
        self.write(position.floor(), tail).map_or(Step::Wait, Step::Write)
    }

    /// What follows `after` in the tail, as one chunk; none if nothing wanted does.
    fn write(&mut self, after: EventId, tail: &Frames) -> Option<Chunk> {
        let mut wanted: Vec<&Frame> = Vec::new();
        let mut bytes = 0;
        let mut end = None;
        for frame in tail.after(after) {
            if self.filter.passes(&frame.kind) {
                if bytes + frame.bytes.len() > CHUNK_BYTES_MAX && !wanted.is_empty() {
                    break;
                }
                bytes += frame.bytes.len();
                wanted.push(frame);
            }
            end = Some(frame.id);
        }
        if let Some(end) = end {
            self.prove(Position::After(end), tail.generation());
        }
        if let Some(last) = wanted.last() {
            self.told = Some(Position::After(last.id));
            self.sent = last.id;
        }
        let chunk = match wanted.as_slice() {
            [] => return None,
            [one] => one.bytes.clone(),
            many => {
                let mut joined = BytesMut::with_capacity(bytes);
                for frame in many {
                    joined.extend_from_slice(&frame.bytes);
                }
                joined.freeze()
            }
        };
        Some(Chunk { bytes: chunk, events: wanted.len(), gap: None })
    }

    /// Takes the page that [`Step::Fetch`] asked for. `generation` is that of the tail when it was asked for.
    ///
    /// Returns what to write; none if nothing of it is wanted.
    pub fn page(&mut self, asked: From, page: &Page, generation: u64) -> Option<Chunk> {
        let mut bytes = BytesMut::new();
        let mut chunk = Chunk { bytes: Bytes::new(), events: 0, gap: None };
        if let Some((reason, oldest)) = self.gap(page) {
            // At the oldest event, so that neither the gap nor that event is lost or repeated on the next reconnect.
            let position = oldest.map_or(Position::After(page.last), Position::At);
            self.write_gap(&mut bytes, reason, oldest, position);
            chunk.gap = Some(reason);
            self.told = Some(position);
        }
        // The events before a lost end are those that this connection was sent already.
        let sent = if chunk.gap == Some(GapReason::LostTail) { self.resent.max(self.sent) } else { self.resent };
        self.resent = sent;
        for event in page.events.iter().filter(|event| event.id > sent && self.filter.passes(&event.kind)) {
            wire::event(&mut bytes, event.id, &event.kind, &event.data);
            chunk.events += 1;
            self.told = Some(Position::After(event.id));
            self.sent = event.id;
        }
        self.prove(page.end(asked), generation);
        if bytes.is_empty() {
            return None;
        }
        chunk.bytes = bytes.freeze();
        Some(chunk)
    }

    fn gap(&self, page: &Page) -> Option<(GapReason, Option<EventId>)> {
        match (&self.place, page.start) {
            (Place::Begin(Start::Unreadable(_)), _) => {
                Some((GapReason::Unknown, page.events.first().map(|event| event.id)))
            }
            (_, broker::Start::Gap { reason, oldest }) => Some((reason, oldest)),
            (_, broker::Start::Contiguous) => None,
        }
    }

    fn write_gap(&self, out: &mut BytesMut, reason: GapReason, oldest: Option<EventId>, position: Position) {
        let after = match &self.place {
            Place::Begin(Start::Unreadable(text)) => text.chars().take(ECHO_CHARS_MAX).collect(),
            Place::Begin(Start::Claimed(position)) | Place::Proved { position, .. } => position.to_string(),
            Place::Begin(Start::Time(ms)) => EventId::new(*ms, 0).to_string(),
        };
        let gap = Gap { channel: self.channel.clone(), after, oldest, reason };
        let data = serde_json::to_string(&gap).expect("a gap has only strings");
        wire::event(out, position, "gap", &data);
    }

    /// The position, if the subscriber does not know it: it moved past events that were filtered out.
    ///
    /// Whoever calls this sends it.
    pub fn tell(&mut self) -> Option<Position> {
        let Place::Proved { position, .. } = self.place else { return None };
        (self.told != Some(position)).then(|| {
            self.told = Some(position);
            position
        })
    }

    /// Whether it is served from history because it fell behind the tail.
    #[must_use]
    pub fn is_behind(&self, tail: &Frames) -> bool {
        match self.place {
            Place::Proved { position, generation } => {
                generation == tail.generation() && position.floor() < tail.floor()
            }
            Place::Begin(_) => false,
        }
    }

    /// Whether it has not been told where it stands, and now could be.
    #[must_use]
    pub fn is_untold(&self) -> bool {
        self.told.is_none() && matches!(self.place, Place::Proved { .. })
    }

    fn prove(&mut self, position: Position, generation: u64) {
        self.place = Place::Proved { position, generation };
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::{broker::Stored, channel::tail::TailLimits};

    fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    fn stored(ms: u64, kind: &'static str) -> Stored {
        Stored { id: id(ms), kind: kind.into(), data: ms.to_string().into() }
    }

    fn tail(floor: u64, events: &[u64]) -> Frames {
        let mut frames = Frames::new(TailLimits { events_max: NonZeroUsize::MAX, bytes_max: usize::MAX });
        frames.join(id(floor));
        frames.push(events.iter().map(|ms| stored(*ms, "click")).collect());
        frames
    }

    fn subscription(start: Start, kinds: &[&str]) -> Subscription {
        let filter = Filter::new(kinds.iter().map(|kind| kind.parse().unwrap()).collect());
        Subscription::new(Channel::default_channel(), filter, start)
    }

    fn page(start: broker::Start, events: &[u64], last: u64) -> Page {
        let events = events.iter().map(|ms| stored(*ms, "click")).collect();
        Page { start, events, more: false, last: id(last) }
    }

    fn text(chunk: &Chunk) -> String {
        String::from_utf8(chunk.bytes.to_vec()).unwrap()
    }

    fn written(step: Step) -> String {
        match step {
            Step::Write(chunk) => text(&chunk),
            other => panic!("nothing to write but {other:?}"),
        }
    }

    #[test]
    fn a_cursor_in_the_tail_is_served_from_memory_as_one_chunk() {
        let frames = tail(1, &[2, 3, 4]);
        let mut at_2 = subscription(Start::Claimed(Position::After(id(2))), &[]);
        assert_eq!(written(at_2.next(&frames)), "id: 3-0\nevent: click\ndata: 3\n\nid: 4-0\nevent: click\ndata: 4\n\n");
        assert_eq!(at_2.next(&frames), Step::Wait);
        assert_eq!(at_2.tell(), None);
    }

    #[test]
    fn an_id_that_the_tail_does_not_know_is_proved_by_the_log_first() {
        let frames = tail(1, &[2, 4]);
        let position = Position::After(id(3));
        let mut stranger = subscription(Start::Claimed(position), &[]);
        assert_eq!(stranger.next(&frames), Step::Fetch(From::Position(position)));
        let lost = broker::Start::Gap { reason: GapReason::LostTail, oldest: Some(id(2)) };
        let chunk = stranger.page(From::Position(position), &page(lost, &[2, 4], 4), frames.generation()).unwrap();
        let gap = r#"{"channel":"sse","after":"3-0","oldest":"2-0","reason":"lost-tail"}"#;
        assert!(text(&chunk).starts_with(&format!("id: @2-0\nevent: gap\ndata: {gap}\n\nid: 2-0\n")));
        assert_eq!(stranger.next(&frames), Step::Wait);
    }

    #[test]
    fn a_faster_nodes_cursor_waits_and_skips_what_it_has_seen() {
        let mut frames = tail(1, &[2]);
        let position = Position::After(id(4));
        let mut ahead = subscription(Start::Claimed(position), &[]);
        assert_eq!(ahead.next(&frames), Step::Fetch(From::Position(position)));
        assert_eq!(ahead.page(From::Position(position), &page(broker::Start::Contiguous, &[], 4), 1), None);
        assert_eq!(ahead.next(&frames), Step::Wait);
        frames.push([3, 4, 5].map(|ms| stored(ms, "click")).into());
        assert_eq!(written(ahead.next(&frames)), "id: 5-0\nevent: click\ndata: 5\n\n");
    }

    #[test]
    fn behind_the_tail_it_reads_history_and_joins_by_id() {
        let frames = tail(10, &[11, 12]);
        let start = Position::After(id(5));
        let mut behind = subscription(Start::Claimed(start), &[]);
        assert_eq!(behind.next(&frames), Step::Fetch(From::Position(start)));
        let first = Page { more: true, ..page(broker::Start::Contiguous, &[6, 7], 12) };
        assert_eq!(behind.page(From::Position(start), &first, 1).unwrap().events, 2);
        assert!(behind.is_behind(&frames));
        let then = From::Position(Position::After(id(7)));
        assert_eq!(behind.next(&frames), Step::Fetch(then));
        behind.page(then, &page(broker::Start::Contiguous, &[8, 11], 12), 1).unwrap();
        assert_eq!(written(behind.next(&frames)), "id: 12-0\nevent: click\ndata: 12\n\n");
    }

    #[test]
    fn a_tail_that_starts_anew_makes_every_cursor_be_proved_again() {
        let mut frames = tail(1, &[2]);
        let position = Position::After(id(2));
        let mut proved = subscription(Start::Claimed(position), &[]);
        assert_eq!(proved.next(&frames), Step::Wait);
        frames.join(id(1));
        assert_eq!(proved.next(&frames), Step::Fetch(From::Position(position)));
    }

    #[test]
    fn what_a_filter_skips_moves_the_position_which_is_told_once() {
        let frames = tail(1, &[2, 3]);
        let mut views = subscription(Start::Claimed(Position::After(id(1))), &["view"]);
        assert_eq!(views.next(&frames), Step::Wait);
        assert_eq!(views.tell(), Some(Position::After(id(3))));
        assert_eq!(views.tell(), None);
    }

    #[test]
    fn what_is_no_cursor_gets_a_gap_and_then_everything() {
        let frames = tail(3, &[]);
        let mut lost = subscription(Start::Unreadable("x".repeat(500)), &["view"]);
        assert_eq!(lost.next(&frames), Step::Fetch(From::Oldest));
        let chunk = lost.page(From::Oldest, &page(broker::Start::Contiguous, &[], 3), 1).unwrap();
        let data = format!(r#"{{"channel":"sse","after":"{}","oldest":null,"reason":"unknown"}}"#, "x".repeat(64));
        assert_eq!(text(&chunk), format!("id: 3-0\nevent: gap\ndata: {data}\n\n"));
        assert_eq!((chunk.events, chunk.gap), (0, Some(GapReason::Unknown)));
    }

    #[test]
    fn after_a_fork_nothing_is_sent_twice_on_one_connection() {
        let mut frames = tail(0, &[1, 2, 5]);
        let mut forked = subscription(Start::Claimed(Position::After(id(0))), &[]);
        assert!(matches!(forked.next(&frames), Step::Write(Chunk { events: 3, .. })));
        // The log has lost 5, and got 7 since.
        frames.join(id(7));
        let asked = From::Position(Position::After(id(5)));
        assert_eq!(forked.next(&frames), Step::Fetch(asked));
        let lost = broker::Start::Gap { reason: GapReason::LostTail, oldest: Some(id(1)) };
        let chunk = forked.page(asked, &Page { more: true, ..page(lost, &[1], 7) }, frames.generation()).unwrap();
        assert_eq!((chunk.events, chunk.gap), (0, Some(GapReason::LostTail)));
        let then = From::Position(Position::After(id(1)));
        assert_eq!(forked.next(&frames), Step::Fetch(then));
        let chunk = forked.page(then, &page(broker::Start::Contiguous, &[2, 7], 7), frames.generation()).unwrap();
        assert_eq!(text(&chunk), "id: 7-0\nevent: click\ndata: 7\n\n");
    }

    #[test]
    fn it_waits_while_the_tail_is_not_joined() {
        let frames = Frames::new(TailLimits { events_max: NonZeroUsize::MIN, bytes_max: 1 });
        let mut early = subscription(Start::Time(5), &[]);
        assert_eq!(early.next(&frames), Step::Wait);
        assert!(!early.is_untold());
    }

    #[test]
    fn a_chunk_is_bounded_but_one_event_always_fits() {
        let mut frames = tail(1, &[]);
        let large = "x".repeat(CHUNK_BYTES_MAX);
        frames.push((2..5).map(|ms| Stored { data: large.as_str().into(), ..stored(ms, "click") }).collect());
        let mut reader = subscription(Start::Claimed(Position::After(id(1))), &[]);
        for _ in 0..3 {
            assert!(matches!(reader.next(&frames), Step::Write(Chunk { events: 1, .. })));
        }
        assert_eq!(reader.next(&frames), Step::Wait);
    }
}
