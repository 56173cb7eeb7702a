//! A model of the log and of a node's tail: the simplest implementation that keeps the broker's
//! guarantees.

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
    channel::{Frames, TailLimits, feed::FeedStep},
};

/// The event types, used in turn.
pub(crate) const KINDS: [&str; 3] = ["view", "click", "close"];

/// The log of one channel.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) channel: Channel,
    /// Every event that was ever published.
    pub(crate) all: Vec<Stored>,
    /// Entries that are kept: events and gap records.
    pub(crate) kept: Vec<Stored>,
    /// Id of the newest trimmed entry.
    pub(crate) trimmed: Option<EventId>,
    /// Ids of events that failovers lost.
    pub(crate) lost: BTreeSet<EventId>,
    /// Ids of events that are no longer readable.
    pub(crate) damaged: BTreeSet<EventId>,
    /// The losses that gap records report, including records that are gone.
    pub(crate) losses: Vec<Lost>,
    last: EventId,
    /// The highest id of a commit that failed.
    assigned: EventId,
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
            assigned: EventId::ZERO,
        }
    }

    /// Adds an event, `pause_ms` later than the previous one.
    pub(crate) fn append(&mut self, pause_ms: u64) {
        let highest = self.last.max(self.assigned);
        self.last = if pause_ms == 0 && highest != EventId::ZERO {
            EventId::new(highest.ms, highest.seq + 1)
        } else {
            EventId::new(highest.ms + pause_ms.max(1), 0)
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

    /// Removes the newest `count` entries, which a failed commit did not keep. `last` is the last id
    /// before them. Their ids are not assigned again.
    pub(crate) fn roll_back(&mut self, count: usize, last: EventId) {
        self.assigned = self.last;
        self.last = last;
        for log in [&mut self.all, &mut self.kept] {
            log.truncate(log.len() - count);
        }
    }

    /// Removes up to `count` of the oldest entries; the newest entry stays.
    pub(crate) fn trim(&mut self, count: usize) {
        let gone = self
            .kept
            .drain(..count.min(self.kept.len().saturating_sub(1)));
        self.trimmed = gone.last().map(|entry| entry.id).or(self.trimmed);
    }

    /// Makes `count` entries unreadable, `back` entries before the newest. A log with failovers is
    /// not damaged, because it models Redis.
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

    /// Fails over: the newest entries are lost, `early` events are published, and then the loss is
    /// detected and recorded.
    pub(crate) fn fail_over(&mut self, lost: usize, early: usize) {
        let mut left = self.kept.len().saturating_sub(lost);
        // Losing a gap record, but not the events published just before it, is a residual case
        // (docs/design/lost-events.md, "Residual cases"). The model excludes the case: it loses
        // those events too.
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
            return; // nothing to lose, no event to return to, or not a model of Redis
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

    /// Returns a page as the brokers do.
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

/// One node: a tail that follows the log, possibly some events behind it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) frames: Frames,
    limits: TailLimits,
}

impl Node {
    /// Returns a node that has joined at the end of the log.
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

    /// Reads up to `count` more events, as the feed does.
    pub(crate) fn feed(&mut self, log: &Log, count: usize) {
        let limits = PageLimits {
            events_max: count.max(1),
            bytes_max: usize::MAX,
        };
        let page = log.read(
            ReadFrom::Position(Position::After(self.frames.end())),
            limits,
        );
        let end = self.frames.end();
        FeedStep::from_page(end, page)
            .change
            .apply(&mut self.frames);
    }

    /// Models a kill and restart of the process.
    pub(crate) fn restart(&mut self, log: &Log) {
        self.frames = Frames::new(self.limits);
        self.frames.join(log.last());
    }
}
