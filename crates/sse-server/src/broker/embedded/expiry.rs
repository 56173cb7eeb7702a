//! Which channels the writer examines because they may be due.

use std::time::{Duration, Instant};

use sse_proto::Channel;

use super::{committed_channels::Channels, life::is_over, record::ChannelRow, trim::next_trim_ms};
use crate::broker::{
    Retention,
    channel_index::Slot,
    lifecycle::{ChannelLife, Classes, ClockGuard, EXPIRE_PER_SECOND_MAX, Tombstone},
};

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(200);
/// Channels that one look examines at most.
const PER_LOOK_MAX: usize = EXPIRE_PER_SECOND_MAX / 5;
/// Channels that one look indexes again at most, after the classes were replaced.
const INDEXED_PER_LOOK: usize = 10_000;

/// When to look for channels that may be due.
#[derive(Debug)]
pub(super) struct Expiry {
    guard: ClockGuard,
    next: Instant,
    /// The version of the classes by which the channels are indexed.
    classes_version: u64,
    /// Where the channels begin that are still indexed by earlier classes.
    index_from: Option<Slot>,
}

/// A channel with what the indexes have of it: from when it may be due, and from when it may have
/// events to trim.
type Indexed = (Slot, Option<u64>, Option<u64>);

impl Expiry {
    /// Indexes the channels of a log that was opened.
    pub(super) fn new(channels: &mut Channels, retention: &Retention, classes: &Classes) -> Self {
        let mut expiry = Self {
            guard: ClockGuard::default(),
            next: Instant::now(),
            classes_version: 0,
            index_from: None,
        };
        expiry.index_all(channels, retention, classes);
        expiry
    }

    /// Indexes all channels of a log that was opened.
    pub(super) fn index_all(
        &mut self,
        channels: &mut Channels,
        retention: &Retention,
        classes: &Classes,
    ) {
        self.classes_version = classes.version();
        self.index_from = Some(Slot::FIRST);
        while self.index_from.is_some() {
            let indexed = self.index_some(channels, retention, classes);
            add_to_index(channels, indexed);
        }
    }

    /// Returns when to look next, but at most `until`.
    pub(super) fn next_before(&self, until: Instant, channels: &Channels, log_ms: u64) -> Instant {
        let first_ms = match (self.index_from, channels.due().first_ms()) {
            (Some(_), _) => log_ms,
            (None, Some(first_ms)) => first_ms,
            (None, None) => return until,
        };
        let wait = Duration::from_millis(first_ms.saturating_sub(log_ms));
        let due = Instant::now().checked_add(wait);
        due.map_or(until, |due| until.min(self.next.max(due)))
    }

    /// Begins to index all channels again if the classes were replaced.
    pub(super) fn follow_classes(&mut self, classes: &Classes) {
        let version = classes.version();
        if self.classes_version != version {
            self.classes_version = version;
            self.index_from = Some(Slot::FIRST);
        }
    }

    /// Returns what the indexes need next, after the classes were replaced. Each call is a step over
    /// some channels, so that neither publishers nor readers wait for all of them.
    pub(super) fn index_some(
        &mut self,
        channels: &Channels,
        retention: &Retention,
        classes: &Classes,
    ) -> Vec<Indexed> {
        let Some(first) = self.index_from.take() else {
            return Vec::new();
        };
        let mut indexed = Vec::new();
        for (nth, (slot, channel, row, life)) in channels.iter_from(first).enumerate() {
            if nth == INDEXED_PER_LOOK {
                self.index_from = Some(slot);
                break;
            }
            let (due_ms, trim_ms) = times_of(channel, &row, life, retention, classes);
            if due_ms.is_some() || trim_ms.is_some() {
                indexed.push((slot, due_ms, trim_ms));
            }
        }
        indexed
    }

    /// Compares the clocks, at each commit.
    pub(super) fn observe_clock(&mut self, log_ms: u64) {
        self.guard.observe(log_ms, Instant::now());
    }

    /// Returns the channels to examine now, and whether tombstones are over.
    pub(super) fn due_now(&mut self, channels: &Channels, log_ms: u64) -> (Vec<Channel>, bool) {
        let now = Instant::now();
        if now < self.next {
            return (Vec::new(), false);
        }
        self.next = now + INTERVAL;
        if !self.guard.observe(log_ms, now) {
            return (Vec::new(), false);
        }
        let due = channels.due().due(log_ms).take(PER_LOOK_MAX);
        let due = due.filter_map(|slot| channels.name(slot).cloned());
        let oldest = channels.tombstones().first();
        let is_over = |(_, oldest): (_, Tombstone)| is_over(oldest.at.ms, log_ms);
        let has_old_tombstones = oldest.is_some_and(is_over);
        (due.collect(), has_old_tombstones)
    }
}

/// Adds channels to the indexes.
pub(super) fn add_to_index(channels: &mut Channels, indexed: Vec<Indexed>) {
    for (slot, due_ms, trim_ms) in indexed {
        channels.index(slot, due_ms, trim_ms);
    }
}

/// Returns from when a channel may be due, and from when it may have events to trim.
fn times_of(
    channel: &Channel,
    row: &ChannelRow,
    life: Option<&ChannelLife>,
    retention: &Retention,
    classes: &Classes,
) -> (Option<u64>, Option<u64>) {
    let own = life.map(|life| life.settings).unwrap_or_default();
    let effective = classes.effective(channel, own, retention);
    let (is_closed, written_ms) = life.map_or((false, row.last.ms), |life| {
        (life.end.is_some(), life.written_ms(row.last))
    });
    let due_ms = effective.due_ms(is_closed, written_ms);
    (due_ms, next_trim_ms(row, &effective))
}
