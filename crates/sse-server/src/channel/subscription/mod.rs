//! One subscriber of one channel as a pure state machine: given the tail and a cursor, *write these bytes*, *fetch this
//! page*, *wait*, or *it is over*.
//!
//! It knows no socket, no clock and no broker; whoever drives it does. There is no queue: a subscriber that reads
//! slowly is a cursor that stands further back, and behind the tail it is served from history. The way from history
//! into the tail is by id, so that nothing is lost or doubled at the seam.
//!
//! A cursor that came from outside is only *claimed*. It is *proved* by the tail that knows its id, or by a page of the
//! log that continues it; a page that does not starts with a `gap` event.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sse_proto::{
    Channel, EventId, EventType, Position,
    api::{Gap, GapReason, Lost},
};

use super::{
    encode::{Dress, Envelope, Joined, Neighbours},
    start::{UNKNOWN_POSITION, UnreadableCursor},
    tail::Frames,
};
use crate::broker::{self, GAP, Page, ReadFrom};

/// A chunk of frames has at most this many bytes, or one event.
pub(super) const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Which events a subscriber wants: those of some types, or all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter(Option<Arc<[EventType]>>);

impl Filter {
    /// Events of these types; without any, all events.
    #[must_use]
    pub fn new(mut kinds: Vec<EventType>) -> Self {
        // So that the same wishes are the same filter, in whatever order they were written.
        kinds.sort_unstable();
        kinds.dedup();
        Self((!kinds.is_empty()).then(|| kinds.into()))
    }

    /// Whether it passes every event.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it passes events of this type. A gap passes every filter.
    #[must_use]
    pub fn passes(&self, kind: &str) -> bool {
        kind == GAP
            || self
                .0
                .as_ref()
                .is_none_or(|kinds| kinds.iter().any(|wanted| wanted.as_str() == kind))
    }
}

/// What a subscriber asks for, in each of its channels.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Which events.
    pub filter: Filter,
    /// How their data is wrapped.
    pub envelope: Envelope,
    /// The last id that is wanted: the subscription is over once nothing up to it can come any more.
    pub until: Option<EventId>,
}

/// What to do next for a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write this; the cursor has moved past it.
    Write(Chunk),
    /// Read this page of the log and hand it to [`Subscription::page`].
    Fetch(ReadFrom),
    /// Nothing to do until the tail changes.
    Wait,
    /// Nothing that is wanted can come any more.
    End,
}

/// Bytes to write in one piece: whole blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The blocks, at least one.
    pub bytes: Bytes,
    /// How many events they hold; a gap is not one of them.
    pub events: usize,
    /// Why there is a gap, if the chunk tells one.
    pub gap: Option<GapReason>,
}

/// One subscriber of one channel. Two that are equal do the same from here on, whatever comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    channel: Channel,
    filter: Filter,
    envelope: Envelope,
    until: Option<Box<Until>>,
    progress: Progress,
    /// Served from history, because it fell behind the tail.
    is_behind: bool,
    /// The last position that the subscriber was told, by an event or by an id-only block.
    told: Option<Position>,
    /// The newest event that was sent: after a fork of the log none is sent twice on one connection.
    sent: EventId,
    /// Set once the log lost its end under this subscriber, which is rare.
    lost_tail: Option<Box<LostTail>>,
}

/// What a subscriber was sent before a fork of the log, and is not sent again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct LostTail {
    /// Everything up to here.
    sent: EventId,
    /// The gap record, which was told before what lies between the position and it.
    recorded: EventId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// The client's cursor is unreadable, and nothing has been sent yet.
    Unreadable(UnreadableCursor),
    /// The position comes from outside; the log has not proved yet that it continues there.
    Unverified(Position),
    /// Everything up to here was sent or is not wanted, under this generation of the tail.
    Verified { position: Position, generation: u64 },
}

/// Where a subscription ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Until {
    /// The last id that is wanted.
    bound: EventId,
    /// The first event beyond, once it was met. The log is in order, so none after it is wanted.
    beyond: Option<EventId>,
    /// Nothing more can come, and this is how it stands with what is there; without it there is no end yet.
    settled: Option<Settlement>,
}

/// How a log ends at the bound of a subscription, once no event up to there can come any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The log's last id at a later moment.
    pub last: EventId,
    /// A loss that reaches to the bound or below, though its record comes after that.
    pub loss: Option<Gap>,
}

impl Settlement {
    /// The record of the loss, if whoever stands here was not told of it.
    ///
    /// Who was told of it by an end stands *at* the first event beyond, so that this is not lost on those who go on.
    #[must_use]
    pub fn unreported(&self, position: Position, bound: EventId) -> Option<EventId> {
        let record = self.loss.as_ref()?.lost?.before;
        let is_told = match position {
            Position::After(id) => id >= record,
            Position::At(id) => id > bound,
        };
        (!is_told).then_some(record)
    }
}

impl Until {
    const fn new(bound: EventId) -> Self {
        Self {
            bound,
            beyond: None,
            settled: None,
        }
    }

    /// Takes note of whether this event is within the bound.
    fn ends(&mut self, id: EventId, is_within: impl Fn(EventId) -> bool) -> bool {
        let ends = !is_within(self.bound);
        if ends {
            self.beyond.get_or_insert(id);
        }
        ends
    }
}

/// Whether something with this id was sent before a fork.
fn was_sent(lost_tail: Option<&LostTail>, id: EventId) -> bool {
    lost_tail.is_some_and(|lost_tail| id <= lost_tail.sent || id == lost_tail.recorded)
}

impl Subscription {
    /// A subscription whose client knows nothing but its own cursor.
    #[must_use]
    pub fn new(
        channel: Channel,
        wanted: &Wanted,
        cursor: Result<Position, UnreadableCursor>,
    ) -> Self {
        let (told, progress) = match cursor {
            Ok(position) => (Some(position), Progress::Unverified(position)),
            Err(unreadable) => (None, Progress::Unreadable(unreadable)),
        };
        Self {
            channel,
            filter: wanted.filter.clone(),
            envelope: wanted.envelope,
            until: wanted.until.map(|bound| Box::new(Until::new(bound))),
            progress,
            is_behind: false,
            told,
            sent: EventId::ZERO,
            lost_tail: None,
        }
    }

    /// Its channel.
    #[must_use]
    pub const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Which events it wants, and how their data is wrapped.
    pub(super) const fn filter_and_envelope(&self) -> (&Filter, Envelope) {
        (&self.filter, self.envelope)
    }

    /// Where it stands: what lies before was sent, or is not wanted.
    ///
    /// Where that is not known yet it is "at 0-0": no event has that id, so whoever comes back with it is told of a gap.
    #[must_use]
    pub const fn position(&self) -> Position {
        match &self.progress {
            Progress::Unverified(position) | Progress::Verified { position, .. } => *position,
            Progress::Unreadable(_) => UNKNOWN_POSITION,
        }
    }

    /// Whether its position is one that the subscriber named, or the log.
    pub(super) const fn is_placed(&self) -> bool {
        !matches!(self.progress, Progress::Unreadable(_))
    }

    /// What to do next. The stream may have other channels as well; their positions are part of its ids.
    pub fn next(&mut self, tail: &Frames, neighbours: Neighbours<'_>) -> Step {
        if !tail.is_joined() {
            return Step::Wait;
        }
        self.is_behind = false;
        match &self.progress {
            Progress::Unreadable(_) => return Step::Fetch(ReadFrom::Oldest),
            Progress::Unverified(position) => match *position {
                Position::After(id) if tail.knows(id) => self.prove(*position, tail.generation()),
                position => return Step::Fetch(ReadFrom::Position(position)),
            },
            Progress::Verified { .. } => {}
        }
        let Progress::Verified {
            position,
            generation,
        } = self.progress
        else {
            return Step::Wait;
        };
        if generation != tail.generation() {
            // The log did not continue the tail: what was proved before proves nothing now.
            self.progress = Progress::Unverified(position);
            return Step::Fetch(ReadFrom::Position(position));
        }
        if let Some(step) = self.end(neighbours) {
            return step;
        }
        if position.floor() < tail.floor() {
            self.is_behind = true;
            return Step::Fetch(ReadFrom::Position(position));
        }
        match self.write(position.floor(), tail, neighbours) {
            Some(chunk) => Step::Write(chunk),
            None => self.end(neighbours).unwrap_or(Step::Wait),
        }
    }

    /// What is left to do once all that is wanted was sent; none while more may be there.
    fn end(&mut self, neighbours: Neighbours<'_>) -> Option<Step> {
        let Progress::Verified {
            position,
            generation,
        } = self.progress
        else {
            return None;
        };
        let until = self.until.as_deref_mut()?;
        let Some(settled) = &until.settled else {
            return until.beyond.map(|_| Step::Wait);
        };
        let unreported = settled.unreported(position, until.bound);
        let Some(beyond) = until.beyond else {
            // A record without an event before it comes in its place.
            let end = unreported.unwrap_or_else(|| until.bound.min(settled.last));
            return (position.floor() >= end).then_some(Step::End);
        };
        let record = unreported.filter(|record| !was_sent(self.lost_tail.as_deref(), *record));
        let (Some(_), Some(gap)) = (record, &settled.loss) else {
            return Some(Step::End);
        };
        let position = Position::At(beyond);
        let mut bytes = BytesMut::new();
        Dress::new(&self.channel, self.envelope, neighbours).gap(&mut bytes, position, gap);
        self.prove(position, generation);
        self.told = Some(position);
        Some(Step::Write(Chunk {
            bytes: bytes.freeze(),
            events: 0,
            gap: Some(GapReason::LostTail),
        }))
    }

    /// What follows `after` in the tail, as one chunk; none if nothing wanted does.
    fn write(
        &mut self,
        after: EventId,
        tail: &Frames,
        neighbours: Neighbours<'_>,
    ) -> Option<Chunk> {
        let mut joined = Joined::new(&self.channel, self.envelope, neighbours);
        let (mut end, mut last, mut gap) = (None, None, None);
        for frame in tail.after(after) {
            if self
                .until
                .as_mut()
                .is_some_and(|until| until.ends(frame.id, |bound| frame.is_within(bound)))
            {
                break;
            }
            if self.filter.passes(&frame.kind) && !was_sent(self.lost_tail.as_deref(), frame.id) {
                // A gap begins a chunk, so that none is told without being counted.
                let is_late = frame.is_gap() && last.is_some();
                if is_late || !joined.add(frame) {
                    break;
                }
                last = Some(frame.id);
                if frame.is_gap() {
                    gap = Some(GapReason::LostTail);
                }
            }
            end = Some(frame.id);
        }
        let mut chunk = joined.chunk();
        if let (Some(chunk), Some(_)) = (&mut chunk, gap) {
            chunk.gap = gap;
            chunk.events -= 1;
        }
        if let Some(end) = end {
            self.prove(Position::After(end), tail.generation());
        }
        if let Some(last) = last {
            self.told = Some(Position::After(last));
            self.sent = last;
        }
        chunk
    }

    /// Takes the page that [`Step::Fetch`] asked for. `generation` is that of the tail when it was asked for.
    ///
    /// Returns what to write; none if nothing of it is wanted.
    pub fn page(
        &mut self,
        page: &Page,
        generation: u64,
        neighbours: Neighbours<'_>,
    ) -> Option<Chunk> {
        let mut bytes = BytesMut::new();
        let mut chunk = Chunk {
            bytes: Bytes::new(),
            events: 0,
            gap: None,
        };
        let mut position = self.position();
        let gap = self.gap(page);
        if let Some(gap) = &gap {
            self.note_lost_tail(gap);
        }
        let dress = Dress::new(&self.channel, self.envelope, neighbours);
        if let Some(gap) = gap {
            // At the oldest event, so that neither the gap nor that event is lost or repeated on the next reconnect.
            position = gap.oldest.map_or(Position::After(page.last), Position::At);
            dress.gap(&mut bytes, position, &gap);
            chunk.gap = Some(gap.reason);
            self.told = Some(position);
        }
        for event in &page.events {
            if self
                .until
                .as_mut()
                .is_some_and(|until| until.ends(event.id, |bound| event.is_within(bound)))
            {
                break;
            }
            position = Position::After(event.id);
            if self.filter.passes(&event.kind) && !was_sent(self.lost_tail.as_deref(), event.id) {
                dress.event(&mut bytes, event.id, &event.kind, &event.data);
                if event.is_gap() {
                    chunk.gap.get_or_insert(GapReason::LostTail);
                } else {
                    chunk.events += 1;
                }
                self.told = Some(position);
                self.sent = event.id;
            }
        }
        self.prove(position, generation);
        if bytes.is_empty() {
            return None;
        }
        chunk.bytes = bytes.freeze();
        Some(chunk)
    }

    /// Takes note of what was sent before the log lost its end.
    fn note_lost_tail(&mut self, gap: &Gap) {
        let before = self
            .lost_tail
            .as_ref()
            .map_or(EventId::ZERO, |lost_tail| lost_tail.sent);
        let lost_tail = match gap.lost {
            // The page goes on where the lost ones begin: nothing of it was sent before.
            Some(lost) => LostTail {
                sent: before.min(lost.after),
                recorded: lost.before,
            },
            // The events before the lost end are those that this connection was sent already.
            None if gap.reason == GapReason::LostTail => LostTail {
                sent: before.max(self.sent),
                ..LostTail::default()
            },
            None => return,
        };
        self.lost_tail = Some(Box::new(lost_tail));
    }

    /// What the page says is missing before it.
    fn gap(&self, page: &Page) -> Option<Gap> {
        let (reason, oldest, lost): (_, _, Option<Lost>) = match (&self.progress, page.start) {
            (Progress::Unreadable(_), _) => (
                GapReason::Unknown,
                page.events.first().map(|event| event.id),
                None,
            ),
            (
                _,
                broker::Continuity::Gap {
                    reason,
                    oldest,
                    lost,
                },
            ) => (reason, oldest, lost),
            (_, broker::Continuity::Contiguous) => return None,
        };
        let after = match &self.progress {
            Progress::Unreadable(unreadable) => unreadable.to_string(),
            _ => self.position().to_string(),
        };
        Some(Gap {
            channel: self.channel.clone(),
            after,
            oldest,
            reason,
            lost,
        })
    }

    /// No event up to the bound can come any more.
    pub fn settle(&mut self, settlement: Settlement) {
        if let Some(until) = &mut self.until {
            until.settled = Some(settlement);
        }
    }

    /// The position, if the subscriber does not know it: it moved past events that were filtered out.
    ///
    /// Whoever calls this sends it.
    pub fn tell(&mut self) -> Option<Position> {
        let Progress::Verified { position, .. } = self.progress else {
            return None;
        };
        (self.told != Some(position)).then(|| {
            self.told = Some(position);
            position
        })
    }

    /// The subscriber was told the position, by an id that has it along with others.
    pub(super) const fn was_told(&mut self) {
        self.told = Some(self.position());
    }

    /// Whether it is served from history because it fell behind the tail, as of the last [`next`](Self::next).
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.is_behind
    }

    fn prove(&mut self, position: Position, generation: u64) {
        self.progress = Progress::Verified {
            position,
            generation,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::{broker::Stored, channel::tail::TailLimits};

    const ALONE: Neighbours<'_> = Neighbours::NONE;

    fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    fn stored(ms: u64, kind: &'static str) -> Stored {
        Stored {
            id: id(ms),
            kind: kind.into(),
            data: ms.to_string().into(),
        }
    }

    fn tail(floor: u64, events: &[u64]) -> Frames {
        let mut frames = Frames::new(TailLimits {
            events_max: NonZeroUsize::MAX,
            bytes_max: usize::MAX,
        });
        frames.join(id(floor));
        frames.push(events.iter().map(|ms| stored(*ms, "click")).collect());
        frames
    }

    fn subscription(cursor: Result<Position, UnreadableCursor>, kinds: &[&str]) -> Subscription {
        let filter = Filter::new(kinds.iter().map(|kind| kind.parse().unwrap()).collect());
        Subscription::new(
            Channel::default_channel(),
            &Wanted {
                filter,
                ..Wanted::default()
            },
            cursor,
        )
    }

    fn page(start: broker::Continuity, events: &[u64], last: u64) -> Page {
        let events = events.iter().map(|ms| stored(*ms, "click")).collect();
        Page {
            start,
            events,
            more: false,
            last: id(last),
        }
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
        let mut at_2 = subscription(Ok(Position::After(id(2))), &[]);
        assert_eq!(
            written(at_2.next(&frames, ALONE)),
            "id: 3-0\nevent: click\ndata: 3\n\nid: 4-0\nevent: click\ndata: 4\n\n"
        );
        assert_eq!(at_2.next(&frames, ALONE), Step::Wait);
        assert_eq!(at_2.tell(), None);
    }

    #[test]
    fn an_id_that_the_tail_does_not_know_is_proved_by_the_log_first() {
        let frames = tail(1, &[2, 4]);
        let position = Position::After(id(3));
        let mut stranger = subscription(Ok(position), &[]);
        assert_eq!(
            stranger.next(&frames, ALONE),
            Step::Fetch(ReadFrom::Position(position))
        );
        let lost = broker::Continuity::Gap {
            reason: GapReason::LostTail,
            oldest: Some(id(2)),
            lost: None,
        };
        let chunk = stranger
            .page(&page(lost, &[2, 4], 4), frames.generation(), ALONE)
            .unwrap();
        let gap = r#"{"channel":"sse","after":"3-0","oldest":"2-0","reason":"lost-tail"}"#;
        assert!(
            text(&chunk).starts_with(&format!("id: @2-0\nevent: gap\ndata: {gap}\n\nid: 2-0\n"))
        );
        assert_eq!(stranger.next(&frames, ALONE), Step::Wait);
    }

    #[test]
    fn a_faster_nodes_cursor_waits_and_skips_what_it_has_seen() {
        let mut frames = tail(1, &[2]);
        let position = Position::After(id(4));
        let mut ahead = subscription(Ok(position), &[]);
        assert_eq!(
            ahead.next(&frames, ALONE),
            Step::Fetch(ReadFrom::Position(position))
        );
        assert_eq!(
            ahead.page(&page(broker::Continuity::Contiguous, &[], 4), 1, ALONE),
            None
        );
        assert_eq!(ahead.next(&frames, ALONE), Step::Wait);
        frames.push([3, 4, 5].map(|ms| stored(ms, "click")).into());
        assert_eq!(
            written(ahead.next(&frames, ALONE)),
            "id: 5-0\nevent: click\ndata: 5\n\n"
        );
    }

    #[test]
    fn behind_the_tail_it_reads_history_and_joins_by_id() {
        let frames = tail(10, &[11, 12]);
        let start = Position::After(id(5));
        let mut behind = subscription(Ok(start), &[]);
        assert_eq!(
            behind.next(&frames, ALONE),
            Step::Fetch(ReadFrom::Position(start))
        );
        let first = Page {
            more: true,
            ..page(broker::Continuity::Contiguous, &[6, 7], 12)
        };
        assert_eq!(behind.page(&first, 1, ALONE).unwrap().events, 2);
        let then = ReadFrom::Position(Position::After(id(7)));
        assert_eq!(behind.next(&frames, ALONE), Step::Fetch(then));
        assert!(behind.is_behind());
        behind
            .page(
                &page(broker::Continuity::Contiguous, &[8, 11], 12),
                1,
                ALONE,
            )
            .unwrap();
        assert_eq!(
            written(behind.next(&frames, ALONE)),
            "id: 12-0\nevent: click\ndata: 12\n\n"
        );
    }

    #[test]
    fn a_tail_that_starts_anew_makes_every_cursor_be_proved_again() {
        let mut frames = tail(1, &[2]);
        let position = Position::After(id(2));
        let mut proved = subscription(Ok(position), &[]);
        assert_eq!(proved.next(&frames, ALONE), Step::Wait);
        frames.join(id(1));
        assert_eq!(
            proved.next(&frames, ALONE),
            Step::Fetch(ReadFrom::Position(position))
        );
    }

    #[test]
    fn what_a_filter_skips_moves_the_position_which_is_told_once() {
        let frames = tail(1, &[2, 3]);
        let mut views = subscription(Ok(Position::After(id(1))), &["view"]);
        assert_eq!(views.next(&frames, ALONE), Step::Wait);
        assert_eq!(views.tell(), Some(Position::After(id(3))));
        assert_eq!(views.tell(), None);
    }

    #[test]
    fn what_is_no_cursor_gets_a_gap_and_then_everything() {
        let frames = tail(3, &[]);
        let mut lost = subscription(Err(UnreadableCursor::new(&"x".repeat(500))), &["view"]);
        assert_eq!(lost.next(&frames, ALONE), Step::Fetch(ReadFrom::Oldest));
        let chunk = lost
            .page(&page(broker::Continuity::Contiguous, &[], 3), 1, ALONE)
            .unwrap();
        let data = format!(
            r#"{{"channel":"sse","after":"{}","oldest":null,"reason":"unknown"}}"#,
            "x".repeat(64)
        );
        assert_eq!(
            text(&chunk),
            format!("id: 3-0\nevent: gap\ndata: {data}\n\n")
        );
        assert_eq!((chunk.events, chunk.gap), (0, Some(GapReason::Unknown)));
    }

    #[test]
    fn after_a_fork_nothing_is_sent_twice_on_one_connection() {
        let mut frames = tail(0, &[1, 2, 5]);
        let mut note_lost_tail = subscription(Ok(Position::After(id(0))), &[]);
        assert!(matches!(
            note_lost_tail.next(&frames, ALONE),
            Step::Write(Chunk { events: 3, .. })
        ));
        // The log has lost 5, and got 7 since.
        frames.join(id(7));
        let asked = ReadFrom::Position(Position::After(id(5)));
        assert_eq!(note_lost_tail.next(&frames, ALONE), Step::Fetch(asked));
        let lost = broker::Continuity::Gap {
            reason: GapReason::LostTail,
            oldest: Some(id(1)),
            lost: None,
        };
        let chunk = note_lost_tail
            .page(
                &Page {
                    more: true,
                    ..page(lost, &[1], 7)
                },
                frames.generation(),
                ALONE,
            )
            .unwrap();
        assert_eq!((chunk.events, chunk.gap), (0, Some(GapReason::LostTail)));
        let then = ReadFrom::Position(Position::After(id(1)));
        assert_eq!(note_lost_tail.next(&frames, ALONE), Step::Fetch(then));
        let chunk = note_lost_tail
            .page(
                &page(broker::Continuity::Contiguous, &[2, 7], 7),
                frames.generation(),
                ALONE,
            )
            .unwrap();
        assert_eq!(text(&chunk), "id: 7-0\nevent: click\ndata: 7\n\n");
    }

    /// The record that 5 to 7 were lost, which has the id 8.
    fn record() -> (Lost, Stored) {
        let lost = Lost {
            after: id(4),
            before: id(8),
        };
        let channel = Channel::default_channel();
        let (after, oldest, reason) = ("4-0".to_owned(), Some(id(8)), GapReason::LostTail);
        let data = serde_json::to_string(&Gap {
            channel,
            after,
            oldest,
            reason,
            lost: Some(lost),
        })
        .unwrap();
        (
            lost,
            Stored {
                id: id(8),
                kind: GAP.into(),
                data: data.into(),
            },
        )
    }

    #[test]
    fn a_gap_record_passes_every_filter_begins_a_chunk_and_is_no_event() {
        let mut frames = tail(3, &[4]);
        let (_, record) = record();
        frames.push(vec![record.clone(), stored(9, "click")]);
        let block = format!("id: 8-0\nevent: gap\ndata: {}\n\n", record.data);
        for (kinds, envelope) in [
            (&[][..], Envelope::None),
            (&[], Envelope::Json),
            (&["view"], Envelope::Json),
        ] {
            let filter = Filter::new(
                kinds
                    .iter()
                    .map(|kind: &&str| kind.parse().unwrap())
                    .collect(),
            );
            let wanted = Wanted {
                filter,
                envelope,
                until: None,
            };
            let start = || Ok(Position::After(id(3)));
            let mut reader = Subscription::new(Channel::default_channel(), &wanted, start());
            let events = usize::from(kinds.is_empty());
            if events > 0 {
                assert!(matches!(
                    reader.next(&frames, ALONE),
                    Step::Write(Chunk {
                        events: 1,
                        gap: None,
                        ..
                    })
                ));
            }
            let Step::Write(chunk) = reader.next(&frames, ALONE) else {
                panic!("nothing is told")
            };
            assert!(text(&chunk).starts_with(&block), "{}", text(&chunk));
            assert_eq!(
                (chunk.events, chunk.gap),
                (events, Some(GapReason::LostTail))
            );
            assert_eq!(reader.next(&frames, ALONE), Step::Wait);

            let mut behind = Subscription::new(Channel::default_channel(), &wanted, start());
            let events = vec![stored(4, "click"), record.clone(), stored(9, "click")];
            let all = Page {
                events,
                ..page(broker::Continuity::Contiguous, &[], 9)
            };
            let chunk = behind.page(&all, 1, ALONE).unwrap();
            assert!(text(&chunk).contains(&block), "{}", text(&chunk));
            assert_eq!(
                (chunk.events, chunk.gap),
                (2 * usize::from(kinds.is_empty()), Some(GapReason::LostTail))
            );
        }
    }

    #[test]
    fn who_stood_among_lost_events_is_told_once_and_gets_what_came_instead() {
        let (lost, record) = record();
        let mut frames = tail(3, &[4]);
        frames.push(vec![stored(6, "click"), record, stored(9, "click")]);
        let asked = Position::After(id(7));
        let mut inside = subscription(Ok(asked), &[]);
        assert_eq!(
            inside.next(&frames, ALONE),
            Step::Fetch(ReadFrom::Position(asked))
        );
        let start = broker::Continuity::Gap {
            reason: GapReason::LostTail,
            oldest: Some(id(6)),
            lost: Some(lost),
        };
        // 6 is an event of the log as it is now, though its id is below one that was seen.
        let chunk = inside
            .page(
                &Page {
                    more: true,
                    ..page(start, &[6], 9)
                },
                frames.generation(),
                ALONE,
            )
            .unwrap();
        let gap = r#"{"channel":"sse","after":"7-0","oldest":"6-0","reason":"lost-tail","lost":{"after":"4-0","before":"8-0"}}"#;
        assert!(
            text(&chunk).starts_with(&format!("id: @6-0\nevent: gap\ndata: {gap}\n\nid: 6-0\n")),
            "{}",
            text(&chunk)
        );
        assert_eq!(
            written(inside.next(&frames, ALONE)),
            "id: 9-0\nevent: click\ndata: 9\n\n"
        );
    }

    /// With events 4 and, published before the loss of 5 to 7 was found, `early`; then the record and 9.
    fn ends_after_a_loss(until: u64, early: Option<u64>, history: bool) -> (Vec<String>, Position) {
        let (_, record) = record();
        let events: Vec<Stored> = [stored(4, "click")]
            .into_iter()
            .chain(early.map(|ms| stored(ms, "click")))
            .chain([record.clone(), stored(9, "click")])
            .collect();
        let mut frames = tail(if history { 9 } else { 3 }, &[]);
        if !history {
            frames.push(events.clone());
        }
        let wanted = Wanted {
            until: Some(id(until)),
            ..Wanted::default()
        };
        let start = Ok(Position::After(id(3)));
        let mut reader = Subscription::new(Channel::default_channel(), &wanted, start);
        let mut said = Vec::new();
        for settled in [false, true] {
            if settled {
                let loss = record
                    .gap()
                    .filter(|gap| gap.lost.unwrap().after < id(until));
                reader.settle(Settlement { last: id(9), loss });
            }
            loop {
                match reader.next(&frames, ALONE) {
                    Step::Write(chunk) => said.push(text(&chunk)),
                    Step::Fetch(_) => {
                        let all = Page {
                            events: events.clone(),
                            ..page(broker::Continuity::Contiguous, &[], 9)
                        };
                        said.extend(
                            reader
                                .page(&all, frames.generation(), ALONE)
                                .map(|chunk| text(&chunk)),
                        );
                    }
                    Step::Wait if !settled => break,
                    Step::End if settled => break,
                    other => panic!("{other:?} with until={until}"),
                }
            }
        }
        let said = said.concat();
        (
            said.split_terminator("\n\n")
                .map(ToOwned::to_owned)
                .collect(),
            reader.position(),
        )
    }

    #[test]
    fn what_was_lost_before_the_end_of_a_subscription_is_told_before_it_ends() {
        let (_, record) = record();
        let event = |ms: u64| format!("id: {ms}-0\nevent: click\ndata: {ms}");
        let gap = |at: &str| format!("id: {at}\nevent: gap\ndata: {}", record.data);
        for history in [false, true] {
            for until in [5, 7] {
                // In its place, or behind events that are not wanted, to which whoever goes on from there comes back.
                let told = (vec![event(4), gap("8-0")], Position::After(id(8)));
                assert_eq!(ends_after_a_loss(until, None, history), told);
            }
            let told = (vec![event(4), gap("@6-0")], Position::At(id(6)));
            assert_eq!(ends_after_a_loss(5, Some(6), history), told);
            for until in [6, 7] {
                let told = (vec![event(4), event(6), gap("8-0")], Position::After(id(8)));
                assert_eq!(ends_after_a_loss(until, Some(6), history), told);
            }
            // Nothing that is wanted was lost.
            for early in [None, Some(6)] {
                let (said, position) = ends_after_a_loss(4, early, history);
                assert_eq!((said, position), (vec![event(4)], Position::After(id(4))));
            }
        }
    }

    #[test]
    fn who_was_told_of_a_loss_is_not_told_again() {
        let settlement = Settlement {
            last: id(9),
            loss: record().1.gap(),
        };
        let unreported = |position| settlement.unreported(position, id(5)).is_some();
        assert!(
            unreported(Position::After(id(4)))
                && unreported(Position::At(id(4)))
                && unreported(Position::After(id(6)))
        );
        assert!(
            !unreported(Position::At(id(6)))
                && !unreported(Position::After(id(8)))
                && !unreported(Position::After(id(9)))
        );
    }

    #[test]
    fn it_waits_while_the_tail_is_not_joined() {
        let frames = Frames::new(TailLimits {
            events_max: NonZeroUsize::MIN,
            bytes_max: 1,
        });
        let mut early = subscription(Err(UnreadableCursor::new("x")), &[]);
        assert_eq!(early.next(&frames, ALONE), Step::Wait);
    }

    #[test]
    fn a_chunk_is_bounded_but_one_event_always_fits() {
        let mut frames = tail(1, &[]);
        let large = "x".repeat(CHUNK_BYTES_MAX);
        frames.push(
            (2..5)
                .map(|ms| Stored {
                    data: large.as_str().into(),
                    ..stored(ms, "click")
                })
                .collect(),
        );
        let mut reader = subscription(Ok(Position::After(id(1))), &[]);
        for _ in 0..3 {
            assert!(matches!(
                reader.next(&frames, ALONE),
                Step::Write(Chunk { events: 1, .. })
            ));
        }
        assert_eq!(reader.next(&frames, ALONE), Step::Wait);
    }
}
