//! A model of the log and of a node's tail: the simplest thing that keeps the broker's promises.

use std::{collections::BTreeSet, num::NonZeroUsize};

use sse_proto::{EventId, Position, api::GapReason};
use sse_server::{
    broker::{
        From, Page, PageLimits, Start, Stored,
        continuity::{Extent, Trimmed, judge, judge_time},
    },
    channel::{Frames, TailLimits},
};

/// The types of events, by turns.
pub(crate) const KINDS: [&str; 3] = ["view", "click", "close"];

/// One channel's log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Every event that there ever was.
    pub(crate) all: Vec<Stored>,
    /// How many of the oldest are gone.
    pub(crate) trimmed: usize,
    /// Those that cannot be read any more.
    pub(crate) damaged: BTreeSet<EventId>,
}

impl Log {
    /// Adds an event, `pause_ms` later than the one before.
    pub(crate) fn append(&mut self, pause_ms: u64) {
        let last = self.last();
        let id = if pause_ms == 0 && last != EventId::ZERO {
            EventId::new(last.ms, last.seq + 1)
        } else {
            EventId::new(last.ms + pause_ms.max(1), 0)
        };
        let kind = KINDS[self.all.len() % KINDS.len()];
        self.all.push(Stored { id, kind: kind.into(), data: id.to_string().into() });
    }

    /// Removes some of the oldest; the newest stays.
    pub(crate) fn trim(&mut self, count: usize) {
        self.trimmed = (self.trimmed + count).min(self.all.len().saturating_sub(1)).max(self.trimmed);
    }

    /// Makes some unreadable, counted from the newest.
    pub(crate) fn damage(&mut self, back: usize, count: usize) {
        let kept = self.kept().iter().rev().skip(back).take(count).map(|event| event.id).collect::<Vec<_>>();
        self.damaged.extend(kept);
    }

    pub(crate) fn last(&self) -> EventId {
        self.all.last().map_or(EventId::ZERO, |event| event.id)
    }

    pub(crate) fn kept(&self) -> &[Stored] {
        &self.all[self.trimmed..]
    }

    /// A page, as the brokers give it.
    pub(crate) fn read(&self, from: From, limits: PageLimits) -> Page {
        let kept = self.kept();
        let trimmed = match self.trimmed.checked_sub(1) {
            Some(newest) => Trimmed::Through(self.all[newest].id),
            None => Trimmed::NothingSince(EventId::ZERO),
        };
        let extent = Extent { oldest: kept.first().map(|event| event.id), last: self.last(), trimmed };
        let (start, floor) = match from {
            From::Oldest => (Start::Contiguous, EventId::ZERO),
            From::Time(ms) => (judge_time(ms, &extent), EventId::new(ms, 0).before()),
            From::Position(position) => {
                let (Position::After(id) | Position::At(id)) = position;
                let present = kept.iter().any(|event| event.id == id);
                (judge(position, present, &extent), position.floor())
            }
        };
        let floor = if start == Start::Contiguous { floor } else { EventId::ZERO };
        let following: Vec<&Stored> = kept.iter().filter(|event| event.id > floor).collect();
        let is_damaged = |event: &&Stored| self.damaged.contains(&event.id);
        let skipped = following.iter().copied().take_while(is_damaged).count();
        let run: Vec<&Stored> = following[skipped..].iter().copied().take_while(|event| !is_damaged(event)).collect();
        let fit = limits.fit(run.iter().map(|event| event.size()));
        let events: Vec<Stored> = run[..fit].iter().copied().cloned().collect();
        let start = match skipped {
            0 => start,
            _ => Start::Gap { reason: GapReason::Damaged, oldest: events.first().map(|event| event.id), lost: None },
        };
        Page { start, events, more: skipped + fit < following.len(), last: self.last() }
    }
}

/// One node: a tail that follows the log, some events behind it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) frames: Frames,
    limits: TailLimits,
}

impl Node {
    /// A node that has joined at the end of the log.
    pub(crate) fn join(log: &Log, tail_events: usize) -> Self {
        let events_max = NonZeroUsize::new(tail_events).unwrap();
        let limits = TailLimits { events_max, bytes_max: usize::MAX };
        let mut frames = Frames::new(limits);
        frames.join(log.last());
        Self { frames, limits }
    }

    /// Reads on by up to `count` events, as the feed does.
    pub(crate) fn feed(&mut self, log: &Log, count: usize) {
        let limits = PageLimits { events_max: count.max(1), bytes_max: usize::MAX };
        let page = log.read(From::Position(Position::After(self.frames.end())), limits);
        match page.start {
            Start::Contiguous => self.frames.push(page.events),
            Start::Gap { .. } => self.frames.join(page.last),
        }
    }

    /// The process is killed and starts again.
    pub(crate) fn restart(&mut self, log: &Log) {
        self.frames = Frames::new(self.limits);
        self.frames.join(log.last());
    }
}
