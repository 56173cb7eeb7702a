//! Which channels the writer examines because they may be due.

use std::time::{Duration, Instant};

use sse_proto::Channel;

use super::{committed_state::CommittedState, life::is_over};
use crate::broker::{
    Retention,
    lifecycle::{ChannelLife, Classes, ClockGuard, DueIndex, EXPIRE_PER_SECOND_MAX},
};

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(200);
/// Channels that one look examines at most.
const PER_LOOK_MAX: usize = EXPIRE_PER_SECOND_MAX / 5;

/// The channels that may be due, and when to look next.
#[derive(Debug)]
pub(super) struct Expiry {
    due: DueIndex,
    guard: ClockGuard,
    next: Instant,
    /// The version of the classes by which the channels are indexed.
    classes_version: u64,
}

impl Expiry {
    /// Indexes the channels of a log that was opened.
    pub(super) fn new(state: &CommittedState, retention: &Retention, classes: &Classes) -> Self {
        let mut expiry = Self {
            due: DueIndex::default(),
            guard: ClockGuard::default(),
            next: Instant::now(),
            classes_version: 0,
        };
        expiry.index_all(state, retention, classes);
        expiry
    }

    /// Indexes all channels, after the log was opened or the classes were replaced.
    pub(super) fn index_all(
        &mut self,
        state: &CommittedState,
        retention: &Retention,
        classes: &Classes,
    ) {
        self.classes_version = classes.version();
        self.due = DueIndex::default();
        let default_life = ChannelLife::default();
        for (channel, row) in state.channels.rows() {
            let life = state.channels.lives().get(channel);
            let life = life.map_or(&default_life, |life| life);
            let effective = classes.effective(channel, life.settings, retention);
            let written_ms = life.written_ms(row.last);
            if let Some(due_ms) = effective.due_ms(life.end.is_some(), written_ms) {
                self.due.add(channel, due_ms);
            }
        }
    }

    /// Adds channels that may be due, each from a time on.
    pub(super) fn add(&mut self, due: Vec<(u64, Channel)>) {
        for (due_ms, channel) in due {
            self.due.add(&channel, due_ms);
        }
    }

    /// Returns when to look next, but at most `until`.
    pub(super) fn next_before(&self, until: Instant) -> Instant {
        if self.due.is_empty() {
            return until;
        }
        until.min(self.next)
    }

    /// Indexes all channels again if the classes were replaced.
    pub(super) fn follow_classes(
        &mut self,
        state: &CommittedState,
        retention: &Retention,
        classes: &Classes,
    ) {
        if self.classes_version != classes.version() {
            self.index_all(state, retention, classes);
        }
    }

    /// Compares the clocks, at each commit.
    pub(super) fn observe_clock(&mut self, log_ms: u64) {
        self.guard.observe(log_ms, Instant::now());
    }

    /// Removes and returns the channels to examine now, and whether tombstones are over.
    pub(super) fn take_due(&mut self, state: &CommittedState, log_ms: u64) -> (Vec<Channel>, bool) {
        let now = Instant::now();
        if now < self.next {
            return (Vec::new(), false);
        }
        self.next = now + INTERVAL;
        if !self.guard.observe(log_ms, now) {
            return (Vec::new(), false);
        }
        let due = std::iter::from_fn(|| self.due.pop(log_ms));
        let oldest = state.channels.buried().first();
        let has_old_tombstones = oldest.is_some_and(|(at, _)| is_over(*at, log_ms));
        (due.take(PER_LOOK_MAX).collect(), has_old_tombstones)
    }
}
