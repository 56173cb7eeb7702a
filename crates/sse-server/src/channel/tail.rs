//! Tail: the newest events of one channel, in memory, shared by all subscribers of the channel.
//!
//! Reads of the log, and groups that the log has committed, feed a tail in order and without a hole, so
//! a tail holds *every* event after its floor:
//!
//! ```text
//! log    1  2  3  4  5  6  7  8  9
//! tail               floor=5  [6  7  8  9]     end=9
//!        └─ history ──────┘└── memory ────┘
//! ```
//!
//! All tails of a server share a bound ([`TailMemory`]). If they take more, those with the oldest last
//! write keep only their newest events.
//!
//! If the log has lost the tail's newest events and a gap record names the loss, the tail is
//! usually rewound and keeps its generation. If the log does not continue the tail for another
//! reason, such as a wipe, the tail starts again with another generation, and every cursor must be
//! verified again. The module `feed` decides between the two.

mod shared;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use sse_proto::EventId;

pub use self::shared::{Tail, TailListener};
use super::{frame::Frame, tail_memory::TailMemory};
use crate::broker::Stored;

/// Limits of one tail. A subscriber that falls behind the tail is served from history.
#[derive(Debug, Clone, Copy)]
pub struct TailLimits {
    /// Number of events.
    pub events_max: NonZeroUsize,
    /// Memory of all frames together.
    pub bytes_max: usize,
}

/// Length of a buffer that the frames of small events share. The oldest buffer of a tail remains
/// until its last frame is dropped.
const BUFFER_BYTES: usize = 16 << 10;

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
    /// Sum of the charges of the frames.
    charges: usize,
    /// Memory of the blocks with envelopes. It grows while the frames are only read.
    enveloped: AtomicUsize,
    /// What `memory` contains of this tail.
    counted: AtomicUsize,
    memory: TailMemory,
}

impl Frames {
    /// An empty tail that is not joined to a log and shares no bound.
    #[must_use]
    pub fn new(limits: TailLimits) -> Self {
        Self::in_memory(limits, TailMemory::unlimited())
    }

    /// An empty tail that is not joined to a log, and counts in `memory`.
    #[must_use]
    pub fn in_memory(limits: TailLimits, memory: TailMemory) -> Self {
        Self {
            limits,
            generation: 0,
            epoch: 0,
            floor: EventId::ZERO,
            newest: VecDeque::new(),
            charges: 0,
            enveloped: AtomicUsize::new(0),
            counted: AtomicUsize::new(0),
            memory,
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

    /// A number that changes when pages read earlier may be wrong: with the generation, when the
    /// tail is rewound, and at the end of a channel. No two tails have the same epoch.
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
        self.newest = VecDeque::new();
        (self.charges, *self.enveloped.get_mut()) = (0, 0);
        self.count();
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
            *self.enveloped.get_mut() -= lost.envelope_bytes();
            // The buffer of the frame remains if it has other frames.
            self.charges -= match self.newest.back_mut() {
                Some(last) => last.inherit_charge(lost.charge()),
                None => lost.charge(),
            };
        }
        if self.newest.is_empty() {
            self.floor = id;
        }
        self.count();
    }

    /// Appends a group of `events` if `previous`, the id before them in the log, is the end of the
    /// tail. Returns whether it is.
    #[must_use]
    pub fn push_group(&mut self, previous: EventId, events: Vec<Stored>) -> bool {
        let continues = self.is_joined() && self.end() == previous;
        if continues {
            self.push(events);
        }
        continues
    }

    /// Appends `events`, which follow the end of the tail in the log.
    pub fn push(&mut self, events: Vec<Stored>) {
        let ends = events.iter().any(Stored::is_end);
        if ends || self.newest.back().is_some_and(Frame::is_end) {
            // Pages from before a deletion have events that are gone.
            self.epoch = next_epoch();
        }
        let buffer_max = BUFFER_BYTES.min(self.limits.bytes_max / 8);
        let (mut batch, mut length) = (Vec::new(), 0);
        for event in events {
            let block = Frame::block_len(&event);
            if !batch.is_empty() && length + block > buffer_max {
                self.push_buffer(std::mem::take(&mut batch), length);
                length = 0;
            }
            length += block;
            batch.push(event);
        }
        self.push_buffer(batch, length);
        self.count();
    }

    /// Appends events whose blocks share a buffer of `length` bytes.
    fn push_buffer(&mut self, events: Vec<Stored>, length: usize) {
        let last_kind = self.newest.back().map(|frame| frame.kind.clone());
        for frame in Frame::encode_all(events, length, last_kind) {
            if self.newest.len() == self.limits.events_max.get() {
                self.drop_oldest();
            }
            self.charges += frame.charge();
            self.newest.push_back(frame);
        }
        self.shrink_frames(self.limits.bytes_max);
    }

    /// Drops the oldest frames to free about `excess` bytes. Returns whether frames remain.
    pub(super) fn cut(&mut self, excess: usize) -> bool {
        self.shrink_frames(self.bytes().saturating_sub(excess));
        self.newest.shrink_to(self.newest.len());
        self.count();
        !self.newest.is_empty()
    }

    fn shrink_frames(&mut self, bytes_max: usize) {
        while self.frame_bytes(self.newest.len()) > bytes_max && !self.newest.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.newest.pop_front() {
            self.charges -= oldest.charge();
            *self.enveloped.get_mut() -= oldest.envelope_bytes();
            self.floor = oldest.id;
        }
    }

    /// Returns the memory of the tail if it has room for `count` frames.
    fn frame_bytes(&self, count: usize) -> usize {
        let enveloped = self.enveloped.load(Ordering::Relaxed);
        self.charges + enveloped + count * size_of::<Frame>()
    }

    /// Returns the memory that the tail takes.
    pub(super) fn bytes(&self) -> usize {
        self.frame_bytes(self.newest.capacity())
    }

    /// Updates what is counted in the memory of all tails.
    fn count(&mut self) {
        let bytes = self.bytes();
        self.memory.change(*self.counted.get_mut(), bytes);
        *self.counted.get_mut() = bytes;
    }

    /// Counts `bytes` of blocks with envelopes, which were encoded while the tail was read.
    pub(super) fn add_envelope_bytes(&self, bytes: usize) {
        if bytes > 0 {
            self.enveloped.fetch_add(bytes, Ordering::Relaxed);
            self.counted.fetch_add(bytes, Ordering::Relaxed);
            self.memory.change(0, bytes);
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.memory.change(*self.counted.get_mut(), 0);
    }
}
