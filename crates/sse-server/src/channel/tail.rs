//! The newest part of one channel, in memory: each event encoded once, shared by all who read it.
//!
//! A tail is fed only by reads of the log, in order and without a hole, so it holds *every* event after its floor. When
//! the log turns out not to continue the tail (it was wiped, or lost its end), the tail starts anew under another
//! generation, and every cursor must be proved again.

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt,
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use smallvec::SmallVec;
use sse_proto::{EventId, wire};
use tokio::sync::watch;

use crate::broker::{GAP, Stored, lost_of};

/// What a tail keeps at the most. Whoever falls behind it is served from history.
#[derive(Debug, Clone, Copy)]
pub struct TailLimits {
    /// Events.
    pub events_max: NonZeroUsize,
    /// Bytes of frames.
    pub bytes_max: usize,
}

/// One event as it goes over the wire.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The event's id.
    pub id: EventId,
    /// Its type, for filters.
    pub kind: ByteString,
    /// The whole block.
    pub bytes: Bytes,
    /// The data, if the block does not show it as it was published: its lines do not all end by LF.
    data: Option<Box<str>>,
    /// The block with its data in an envelope, once somebody wants it.
    enveloped: OnceLock<Box<Bytes>>,
}

impl Frame {
    fn new(event: Stored, encoded: &mut BytesMut) -> Self {
        wire::event(encoded, event.id, &event.kind, &event.data);
        let data = event.data.contains('\r').then(|| Box::from(&*event.data));
        Self {
            id: event.id,
            kind: event.kind,
            bytes: encoded.split().freeze(),
            data,
            enveloped: OnceLock::new(),
        }
    }

    /// Whether it is a gap record, which is no event: every filter passes it, and no envelope is put around it.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.kind == GAP
    }

    /// As [`Stored::is_within`].
    #[must_use]
    pub fn is_within(&self, bound: EventId) -> bool {
        self.id <= bound
            || self.is_gap()
                && lost_of(&self.kind, &self.data()).is_some_and(|lost| lost.after < bound)
    }

    /// What it takes of the tail's room.
    fn size(&self) -> usize {
        self.bytes.len() + self.data.as_ref().map_or(0, |data| data.len())
    }

    /// The block with its data in an envelope, which `encode` makes for the first one that asks.
    pub(super) fn enveloped(&self, encode: impl FnOnce(&str) -> Bytes) -> &Bytes {
        self.enveloped
            .get_or_init(|| Box::new(encode(&self.data())))
    }

    /// The data as it was published.
    fn data(&self) -> Cow<'_, str> {
        if let Some(data) = &self.data {
            return Cow::Borrowed(data);
        }
        // Behind the lines of id and type.
        let start = memchr::memchr_iter(b'\n', &self.bytes)
            .nth(1)
            .map_or(self.bytes.len(), |end| end + 1);
        let block = std::str::from_utf8(&self.bytes[start..]).expect("written from text");
        let lines = block
            .strip_prefix("data: ")
            .and_then(|lines| lines.strip_suffix("\n\n"))
            .unwrap_or_default();
        if lines.contains('\n') {
            lines.replace("\ndata: ", "\n").into()
        } else {
            lines.into()
        }
    }
}

fn next_epoch() -> u64 {
    static EPOCHS: AtomicU64 = AtomicU64::new(1);
    EPOCHS.fetch_add(1, Ordering::Relaxed)
}

/// The frames of a tail, as of one moment.
#[derive(Debug)]
pub struct Frames {
    limits: TailLimits,
    /// 0 until the channel's place in the log is known: then everything after `floor` is here.
    generation: u64,
    /// See [`Frames::epoch`].
    epoch: u64,
    floor: EventId,
    newest: VecDeque<Frame>,
    bytes: usize,
}

impl Frames {
    /// An empty tail that is not joined to a log.
    #[must_use]
    pub fn new(limits: TailLimits) -> Self {
        Self {
            limits,
            generation: 0,
            epoch: 0,
            floor: EventId::ZERO,
            newest: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether the channel's place in the log is known.
    #[must_use]
    pub const fn is_joined(&self) -> bool {
        self.generation > 0
    }

    /// Changes when the log did not continue the tail.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Changes when what was read of the log before is wrong now: with the generation, and when the tail went back. No
    /// two tails have the same.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Every event after this id is here.
    #[must_use]
    pub const fn floor(&self) -> EventId {
        self.floor
    }

    /// The id of the newest event, or the floor.
    #[must_use]
    pub fn end(&self) -> EventId {
        self.newest.back().map_or(self.floor, |frame| frame.id)
    }

    /// Whether the log had this very id, as far as the tail knows.
    #[must_use]
    pub fn knows(&self, id: EventId) -> bool {
        self.is_joined()
            && (id == self.floor
                || self
                    .newest
                    .binary_search_by_key(&id, |frame| frame.id)
                    .is_ok())
    }

    /// The frames after `id`, in order.
    pub fn after(&self, id: EventId) -> impl Iterator<Item = &Frame> {
        let first = self.newest.partition_point(|frame| frame.id <= id);
        self.newest.range(first..)
    }

    /// Starts anew after `head`, a place in the log.
    pub fn join(&mut self, head: EventId) {
        self.generation += 1;
        self.epoch = next_epoch();
        self.floor = head;
        self.newest.clear();
        self.bytes = 0;
    }

    /// Goes back to `id`, which is still in the log: what came after it was lost there. What follows it now is to be
    /// pushed; cursors that are further go on from where they stand.
    pub fn rewind(&mut self, id: EventId) {
        self.epoch = next_epoch();
        while self.newest.back().is_some_and(|frame| frame.id > id)
            && let Some(lost) = self.newest.pop_back()
        {
            self.bytes -= lost.size();
        }
        if self.newest.is_empty() {
            self.floor = id;
        }
    }

    /// Adds what follows the end in the log.
    pub fn push(&mut self, events: Vec<Stored>) {
        let mut encoded = BytesMut::new();
        for event in events {
            let frame = Frame::new(event, &mut encoded);
            self.bytes += frame.size();
            self.newest.push_back(frame);
        }
        while (self.newest.len() > self.limits.events_max.get()
            || self.bytes > self.limits.bytes_max)
            && let Some(oldest) = self.newest.pop_front()
        {
            self.bytes -= oldest.size();
            self.floor = oldest.id;
        }
    }
}

/// Somebody who is told of every change of a tail, and does no more in that moment than note it.
pub trait Listener: fmt::Debug + Send + Sync {
    /// The tail has changed.
    fn tail_changed(&self);
}

/// The tail of a channel, shared by those who feed it and those who read it.
#[derive(Debug)]
pub struct Tail {
    frames: Mutex<Frames>,
    /// Made for the first one that watches: it is larger than the rest of a tail without events.
    changed: OnceLock<watch::Sender<()>>,
    /// Mostly one: that of the only view of the channel.
    listeners: Mutex<SmallVec<[Weak<dyn Listener>; 1]>>,
}

impl Tail {
    /// An empty tail that is not joined to a log.
    #[must_use]
    pub fn new(limits: TailLimits) -> Self {
        Self {
            frames: Mutex::new(Frames::new(limits)),
            changed: OnceLock::new(),
            listeners: Mutex::default(),
        }
    }

    /// The frames, for a look: hold them only for as long as it takes to copy what is needed.
    pub fn frames(&self) -> MutexGuard<'_, Frames> {
        // Frames are consistent at every step, so those that a panic left behind can be read on.
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of every change from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed
            .get_or_init(|| watch::Sender::new(()))
            .subscribe()
    }

    /// Tells `listener` of every change from now on, for as long as somebody holds it.
    pub fn listen(&self, listener: Weak<dyn Listener>) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if listeners.len() == listeners.capacity() {
            // Instead of growing for ever on a channel where nothing happens.
            listeners.retain(|listener| listener.strong_count() > 0);
        }
        listeners.push(listener);
    }

    /// Changes the frames and wakes whoever watches or listens.
    pub fn update(&self, change: impl FnOnce(&mut Frames)) {
        change(&mut self.frames());
        if let Some(changed) = self.changed.get() {
            changed.send_replace(());
        }
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| {
            let listener = listener.upgrade();
            if let Some(listener) = &listener {
                listener.tail_changed();
            }
            listener.is_some()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(ms: u64) -> Stored {
        Stored {
            id: EventId::new(ms, 0),
            kind: "click".into(),
            data: "x".into(),
        }
    }

    fn frames(events_max: usize, bytes_max: usize) -> Frames {
        let mut frames = Frames::new(TailLimits {
            events_max: NonZeroUsize::new(events_max).unwrap(),
            bytes_max,
        });
        frames.join(EventId::ZERO);
        frames
    }

    #[test]
    fn the_floor_rises_to_the_newest_event_dropped() {
        for mut frames in [
            frames(3, usize::MAX),
            frames(100, 3 * "id: 1-0\nevent: click\ndata: x\n\n".len()),
        ] {
            frames.push((1..=5).map(stored).collect());
            assert_eq!(frames.floor(), EventId::new(2, 0));
            assert_eq!(frames.end(), EventId::new(5, 0));
            assert!(frames.knows(EventId::new(2, 0)) && frames.knows(EventId::new(4, 0)));
            assert!(!frames.knows(EventId::new(1, 0)) && !frames.knows(EventId::new(4, 1)));
            assert_eq!(
                frames
                    .after(EventId::new(3, 7))
                    .map(|frame| frame.id.ms)
                    .collect::<Vec<_>>(),
                [4, 5]
            );
        }
    }

    #[test]
    fn a_frame_still_has_the_data_as_it_was_published() {
        for data in [
            "",
            "x",
            "\n",
            "a\nb",
            "a\r\nb\rc\n",
            "\r",
            "data: x\ndata: y",
            "\ndata: ",
            " é\u{2028} ",
        ] {
            let frame = Frame::new(
                Stored {
                    data: data.into(),
                    ..stored(1)
                },
                &mut BytesMut::new(),
            );
            assert_eq!(frame.data(), data);
            assert_eq!(
                frame.enveloped(|data| Bytes::from(format!("<{data}>"))),
                format!("<{data}>").as_bytes()
            );
            assert!(
                !frame.enveloped(|_| Bytes::new()).is_empty(),
                "it is made once"
            );
        }
    }

    #[test]
    fn an_event_larger_than_the_whole_tail_leaves_it_empty_but_known() {
        let mut frames = frames(10, 5);
        frames.push(vec![stored(1)]);
        assert_eq!(
            (frames.floor(), frames.end()),
            (EventId::new(1, 0), EventId::new(1, 0))
        );
        assert_eq!(frames.after(EventId::ZERO).count(), 0);
    }

    #[test]
    fn rewinding_drops_what_was_lost_and_keeps_the_generation() {
        for (back_to, floor, kept) in [(4, 2, vec![3, 4]), (2, 2, vec![]), (1, 1, vec![])] {
            let mut frames = frames(3, usize::MAX);
            frames.push((1..=5).map(stored).collect());
            let (generation, epoch) = (frames.generation(), frames.epoch());
            frames.rewind(EventId::new(back_to, 0));
            assert_eq!(
                (frames.floor(), frames.end()),
                (EventId::new(floor, 0), EventId::new(back_to, 0))
            );
            assert_eq!(
                frames
                    .after(EventId::ZERO)
                    .map(|frame| frame.id.ms)
                    .collect::<Vec<_>>(),
                kept
            );
            assert_eq!(
                (frames.generation(), frames.knows(EventId::new(5, 0))),
                (generation, false)
            );
            assert_ne!(
                frames.epoch(),
                epoch,
                "what was read before may have been lost"
            );
            frames.push(vec![stored(7)]);
            assert_eq!(
                frames.bytes,
                frames.after(EventId::ZERO).map(Frame::size).sum::<usize>()
            );
        }
    }

    #[test]
    fn joining_again_is_another_generation() {
        let mut frames = frames(10, usize::MAX);
        let before = frames.generation();
        frames.push(vec![stored(1)]);
        frames.join(EventId::new(9, 0));
        assert_ne!(frames.generation(), before);
        assert!(!frames.knows(EventId::new(1, 0)) && frames.knows(EventId::new(9, 0)));
    }
}
