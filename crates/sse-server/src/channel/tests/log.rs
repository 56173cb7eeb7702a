//! The model of one channel: a log that is trimmed, and the tail of one node.

use std::num::NonZeroUsize;

use sse_proto::{Channel, EventId, Position};

use crate::{
    broker::{
        Continuity, Page, PageLimits, ReadFrom, Stored,
        continuity::{Extent, Trimmed, judge},
    },
    channel::{Frames, TailLimits},
};

/// A channel: all events that it ever had, and its tail.
pub(super) struct Log {
    pub(super) channel: Channel,
    pub(super) events: Vec<Stored>,
    /// The number of events that are trimmed.
    pub(super) trimmed: usize,
    pub(super) tail: Frames,
    /// The number of events that the tail has got.
    fed: usize,
}

impl Log {
    pub(super) fn new(name: &str) -> Self {
        let limits = TailLimits {
            events_max: NonZeroUsize::new(3).unwrap(),
            bytes_max: usize::MAX,
        };
        let mut tail = Frames::new(limits);
        tail.join(EventId::ZERO);
        Self {
            channel: name.parse().unwrap(),
            events: Vec::new(),
            trimmed: 0,
            tail,
            fed: 0,
        }
    }

    fn kept(&self) -> &[Stored] {
        &self.events[self.trimmed..]
    }

    pub(super) fn last(&self) -> EventId {
        self.events.last().map_or(EventId::ZERO, |event| event.id)
    }

    pub(super) fn feed(&mut self) {
        self.tail.push(self.events[self.fed..].to_vec());
        self.fed = self.events.len();
    }

    /// Reads as the contract of the broker requires.
    pub(super) fn read(&self, from: ReadFrom, events_max: usize) -> Page {
        let (start, floor) = self.judge_start(from);
        let kept = self.kept().iter();
        let mut events: Vec<Stored> = kept.filter(|event| event.id > floor).cloned().collect();
        let limits = PageLimits {
            events_max,
            bytes_max: usize::MAX,
        };
        let fit = limits.fit(events.iter().map(Stored::size));
        let more = events.len() > fit;
        events.truncate(fit);
        Page {
            start,
            events,
            more,
            last: self.last(),
        }
    }

    /// Returns how a read continues, and the id after which it begins.
    fn judge_start(&self, from: ReadFrom) -> (Continuity, EventId) {
        let ReadFrom::Position(position) = from else {
            return (Continuity::Contiguous, EventId::ZERO);
        };
        let (Position::After(id) | Position::At(id)) = position;
        let present = self.kept().iter().any(|event| event.id == id);
        let start = judge(position, present, &self.extent());
        let floor = match start {
            Continuity::Contiguous => position.floor(),
            Continuity::Gap { .. } => EventId::ZERO,
        };
        (start, floor)
    }

    fn extent(&self) -> Extent {
        let newest_trimmed = self.trimmed.checked_sub(1).map(|nth| self.events[nth].id);
        Extent {
            oldest: self.kept().first().map(|event| event.id),
            last: self.last(),
            trimmed: newest_trimmed.map_or(Trimmed::NothingSince(EventId::ZERO), Trimmed::Through),
        }
    }
}
