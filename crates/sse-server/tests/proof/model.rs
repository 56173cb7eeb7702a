//! A model of the log and of a node's tail: the simplest thing that keeps the broker's promises.

use std::{collections::BTreeSet, num::NonZeroUsize};

use sse_proto::{
    Channel, EventId, Position,
    api::{Gap, GapReason, Lost},
};
use sse_server::{
    broker::{
        Continuity, GAP, Page, PageLimits, ReadFrom, Stored,
        continuity::{Extent, Trimmed, judge, judge_time},
    },
    channel::{Frames, TailLimits},
};

/// The types of events, by turns.
pub(crate) const KINDS: [&str; 3] = ["view", "click", "close"];

/// One channel's log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) channel: Channel,
    /// Every event that there ever was.
    pub(crate) all: Vec<Stored>,
    /// What is kept: events, and records of losses.
    pub(crate) kept: Vec<Stored>,
    /// The newest that was trimmed.
    pub(crate) trimmed: Option<EventId>,
    /// Events that were lost by fail-overs.
    pub(crate) lost: BTreeSet<EventId>,
    /// Events that cannot be read any more.
    pub(crate) damaged: BTreeSet<EventId>,
    /// What the records say, those that are gone included.
    pub(crate) losses: Vec<Lost>,
    last: EventId,
}

impl Log {
    pub(crate) fn new(channel: Channel) -> Self {
        let (all, kept, losses) = (Vec::new(), Vec::new(), Vec::new());
        let (lost, damaged) = (BTreeSet::new(), BTreeSet::new());
        Self {
            channel,
            all,
            kept,
            trimmed: None,
            lost,
            damaged,
            losses,
            last: EventId::ZERO,
        }
    }

    /// Adds an event, `pause_ms` later than the one before.
    pub(crate) fn append(&mut self, pause_ms: u64) {
        self.last = if pause_ms == 0 && self.last != EventId::ZERO {
            EventId::new(self.last.ms, self.last.seq + 1)
        } else {
            EventId::new(self.last.ms + pause_ms.max(1), 0)
        };
        let kind = KINDS[self.all.len() % KINDS.len()];
        let event = Stored {
            id: self.last,
            kind: kind.into(),
            data: self.last.to_string().into(),
        };
        self.all.push(event.clone());
        self.kept.push(event);
    }

    /// Removes some of the oldest; the newest stays.
    pub(crate) fn trim(&mut self, count: usize) {
        let gone = self
            .kept
            .drain(..count.min(self.kept.len().saturating_sub(1)));
        self.trimmed = gone.last().map(|entry| entry.id).or(self.trimmed);
    }

    /// Makes some unreadable, counted from the newest. A log that has fail-overs is Redis', which verifies what it has.
    pub(crate) fn damage(&mut self, back: usize, count: usize) {
        if self.losses.is_empty() {
            self.damaged.extend(
                self.kept
                    .iter()
                    .rev()
                    .skip(back)
                    .take(count)
                    .map(|event| event.id),
            );
        }
    }

    /// A fail-over: the newest entries are lost, somebody publishes so many events, and then it is found and recorded.
    pub(crate) fn fail_over(&mut self, lost: usize, early: usize) {
        let mut left = self.kept.len().saturating_sub(lost);
        // Left over, and stated in the README: a record is lost, and not what was published just before it. So all goes.
        while let Some(earlier) = self.kept[left..]
            .iter()
            .filter_map(Stored::lost)
            .map(|lost| lost.after)
            .min()
            && left > 0
            && self.kept[left - 1].id > earlier
        {
            left -= 1;
        }
        if left == self.kept.len()
            || (left == 0 && self.trimmed.is_some())
            || !self.damaged.is_empty()
        {
            return; // there is nothing to lose, or no event to go back to, or this is no Redis
        }
        let gone = self.kept.split_off(left);
        self.lost.extend(
            gone.iter()
                .filter(|entry| !entry.is_gap())
                .map(|entry| entry.id),
        );
        let after = self.kept.last().map_or(EventId::ZERO, |entry| entry.id);
        (0..early).for_each(|_| self.append(1));
        self.last = EventId::new(self.last.ms + 1, 0);
        let lost = Lost {
            after,
            before: self.last,
        };
        let gap = Gap {
            channel: self.channel.clone(),
            after: after.to_string(),
            oldest: Some(lost.before),
            reason: GapReason::LostTail,
            lost: Some(lost),
        };
        let data = serde_json::to_string(&gap).unwrap();
        self.kept.push(Stored {
            id: lost.before,
            kind: GAP.into(),
            data: data.into(),
        });
        self.losses.push(lost);
    }

    pub(crate) const fn last(&self) -> EventId {
        self.last
    }

    fn has(&self, id: EventId) -> bool {
        self.kept.iter().any(|entry| entry.id == id)
    }

    /// A page, as the brokers give it.
    pub(crate) fn read(&self, from: ReadFrom, limits: PageLimits) -> Page {
        let trimmed = self
            .trimmed
            .map_or(Trimmed::NothingSince(EventId::ZERO), Trimmed::Through);
        let extent = Extent {
            oldest: self.kept.first().map(|entry| entry.id),
            last: self.last,
            trimmed,
        };
        let (mut start, mut floor) = match from {
            ReadFrom::Oldest => (Continuity::Contiguous, EventId::ZERO),
            ReadFrom::Time(ms) => (judge_time(ms, &extent), EventId::new(ms, 0).before()),
            ReadFrom::Position(position) => {
                let (Position::After(id) | Position::At(id)) = position;
                (judge(position, self.has(id), &extent), position.floor())
            }
        };
        if let (
            Continuity::Gap { reason, .. },
            ReadFrom::Position(Position::After(id) | Position::At(id)),
        ) = (start, from)
        {
            floor = EventId::ZERO;
            let recorded = self
                .losses
                .iter()
                .find(|lost| lost.has(id) && self.has(lost.before));
            if let (GapReason::LostTail | GapReason::Unknown, Some(lost)) = (reason, recorded) {
                floor = lost.after;
                let oldest = self
                    .kept
                    .iter()
                    .map(|entry| entry.id)
                    .find(|id| *id > floor);
                start = Continuity::Gap {
                    reason: GapReason::LostTail,
                    oldest,
                    lost: Some(*lost),
                };
            }
        }
        let following: Vec<&Stored> = self.kept.iter().filter(|event| event.id > floor).collect();
        let is_damaged = |event: &&Stored| self.damaged.contains(&event.id);
        let skipped = following.iter().copied().take_while(is_damaged).count();
        let run: Vec<&Stored> = following[skipped..]
            .iter()
            .copied()
            .take_while(|event| !is_damaged(event))
            .collect();
        let fit = limits.fit(run.iter().map(|event| event.size()));
        let events: Vec<Stored> = run[..fit].iter().copied().cloned().collect();
        if skipped > 0 {
            let oldest = events.first().map(|event| event.id);
            start = Continuity::Gap {
                reason: GapReason::Damaged,
                oldest,
                lost: None,
            };
        }
        Page {
            start,
            events,
            more: skipped + fit < following.len(),
            last: self.last,
        }
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
        let limits = TailLimits {
            events_max,
            bytes_max: usize::MAX,
        };
        let mut frames = Frames::new(limits);
        frames.join(log.last());
        Self { frames, limits }
    }

    /// Reads on by up to `count` events, as the feed does.
    pub(crate) fn feed(&mut self, log: &Log, count: usize) {
        let limits = PageLimits {
            events_max: count.max(1),
            bytes_max: usize::MAX,
        };
        let page = log.read(
            ReadFrom::Position(Position::After(self.frames.end())),
            limits,
        );
        match page.start {
            Continuity::Contiguous => self.frames.push(page.events),
            Continuity::Gap {
                lost: Some(lost), ..
            } => {
                self.frames.rewind(lost.after);
                self.frames.push(page.events);
            }
            Continuity::Gap { .. } => self.frames.join(page.last),
        }
    }

    /// The process is killed and starts again.
    pub(crate) fn restart(&mut self, log: &Log) {
        self.frames = Frames::new(self.limits);
        self.frames.join(log.last());
    }
}
