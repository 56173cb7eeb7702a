//! Tail: the newest events of one channel, in memory, shared by all subscribers of the channel.
//!
//! Reads of the log feed a tail in order and without a hole, so a tail holds *every* event after
//! its floor:
//!
//! ```text
//! log    1  2  3  4  5  6  7  8  9
//! tail               floor=5  [6  7  8  9]     end=9
//!        └─ history ──────┘└── memory ────┘
//! ```
//!
//! If the log does not continue the tail (it was wiped, or lost its end), the tail starts again
//! with another generation, and every cursor must be verified again.

use std::{
    collections::VecDeque,
    fmt,
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::BytesMut;
use smallvec::SmallVec;
use sse_proto::EventId;
use tokio::sync::watch;

use super::frame::Frame;
use crate::broker::Stored;

/// Limits of one tail. A subscriber that falls behind the tail is served from history.
#[derive(Debug, Clone, Copy)]
pub struct TailLimits {
    /// Number of events.
    pub events_max: NonZeroUsize,
    /// Bytes of all frames together.
    pub bytes_max: usize,
}

fn next_epoch() -> u64 {
    static EPOCHS: AtomicU64 = AtomicU64::new(1);
    EPOCHS.fetch_add(1, Ordering::Relaxed)
}

/// The frames of a tail at one moment.
#[derive(Debug)]
pub struct Frames {
    limits: TailLimits,
    /// See [`Frames::generation`]; 0 until the end of the channel's log is known.
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

    /// Whether the tail knows where it continues the log.
    #[must_use]
    pub const fn is_joined(&self) -> bool {
        self.generation > 0
    }

    /// A number that changes when the log did not continue the tail.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// A number that changes when pages read earlier may be wrong: with the generation, and when
    /// the tail is rewound. No two tails have the same epoch.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The id after which the tail has every event.
    #[must_use]
    pub const fn floor(&self) -> EventId {
        self.floor
    }

    /// The id of the newest event, or the floor if the tail is empty.
    #[must_use]
    pub fn end(&self) -> EventId {
        self.newest.back().map_or(self.floor, |frame| frame.id)
    }

    /// Whether the tail proves that the log had an event with exactly this id.
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

    /// Drops all frames and starts a new generation after `head`, the newest id of the log.
    pub fn join(&mut self, head: EventId) {
        self.generation += 1;
        self.epoch = next_epoch();
        self.floor = head;
        self.newest.clear();
        self.bytes = 0;
    }

    /// Drops the frames after `id`, because the log has lost those events.
    ///
    /// The generation stays, so cursors remain verified, also those beyond `id`. The caller then
    /// pushes the events that follow `id` now.
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

    /// Appends `events`, which follow the end of the tail in the log.
    pub fn push(&mut self, events: Vec<Stored>) {
        let mut buffer = BytesMut::new();
        for event in events {
            let frame = Frame::encode(event, &mut buffer);
            self.bytes += frame.size();
            self.newest.push_back(frame);
        }
        self.drop_oldest();
    }

    fn drop_oldest(&mut self) {
        while (self.newest.len() > self.limits.events_max.get()
            || self.bytes > self.limits.bytes_max)
            && let Some(oldest) = self.newest.pop_front()
        {
            self.bytes -= oldest.size();
            self.floor = oldest.id;
        }
    }
}

/// A receiver of change notifications, implemented in `fanout/mailbox`. It must only record the
/// notification, because the task that feeds the tail waits for it.
pub trait TailListener: fmt::Debug + Send + Sync {
    /// Called after each change of the tail.
    fn tail_changed(&self);
}

/// The tail of a channel, shared by the task that feeds it and the subscribers.
#[derive(Debug)]
pub struct Tail {
    frames: Mutex<Frames>,
    /// Created for the first watcher, because it is larger than the rest of an empty tail.
    changed: OnceLock<watch::Sender<()>>,
    /// Usually one: the only view of the channel.
    listeners: Mutex<SmallVec<[Weak<dyn TailListener>; 1]>>,
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

    /// Locks the frames. Hold the lock only to copy what is needed.
    pub fn frames(&self) -> MutexGuard<'_, Frames> {
        // Frames are consistent after every statement, so a panic of another thread does no harm.
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a receiver of every change from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed
            .get_or_init(|| watch::Sender::new(()))
            .subscribe()
    }

    /// Notifies `listener` of every change from now on, until it is dropped.
    pub fn listen(&self, listener: Weak<dyn TailListener>) {
        let mut listeners = self.listeners();
        if listeners.len() == listeners.capacity() {
            // A channel without events never calls `update`, so the list would grow forever.
            listeners.retain(|listener| listener.strong_count() > 0);
        }
        listeners.push(listener);
    }

    /// Changes the frames, and then notifies all watchers and listeners.
    pub fn update(&self, change: impl FnOnce(&mut Frames)) {
        change(&mut self.frames());
        if let Some(changed) = self.changed.get() {
            changed.send_replace(());
        }
        self.listeners().retain(|listener| {
            let listener = listener.upgrade();
            if let Some(listener) = &listener {
                listener.tail_changed();
            }
            listener.is_some()
        });
    }

    fn listeners(&self) -> MutexGuard<'_, SmallVec<[Weak<dyn TailListener>; 1]>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
    fn an_event_larger_than_the_whole_tail_leaves_it_empty_but_joined() {
        let mut frames = frames(10, 5);
        frames.push(vec![stored(1)]);
        assert_eq!(
            (frames.floor(), frames.end()),
            (EventId::new(1, 0), EventId::new(1, 0))
        );
        assert_eq!(frames.after(EventId::ZERO).count(), 0);
    }

    #[test]
    fn rewinding_drops_the_lost_events_and_keeps_the_generation() {
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
            assert_ne!(frames.epoch(), epoch, "pages read earlier may be wrong");
            frames.push(vec![stored(7)]);
            assert_eq!(
                frames.bytes,
                frames.after(EventId::ZERO).map(Frame::size).sum::<usize>()
            );
        }
    }

    #[test]
    fn joining_again_starts_another_generation() {
        let mut frames = frames(10, usize::MAX);
        let before = frames.generation();
        frames.push(vec![stored(1)]);
        frames.join(EventId::new(9, 0));
        assert_ne!(frames.generation(), before);
        assert!(!frames.knows(EventId::new(1, 0)) && frames.knows(EventId::new(9, 0)));
    }
}
