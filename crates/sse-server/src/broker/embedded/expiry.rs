//! Which channels the writer examines because they may be due.

use std::time::{Duration, Instant};

use sse_proto::Channel;

use super::{
    committed_state::CommittedState, life::is_over, record::ChannelRow, staged_channels::Changes,
};
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

    /// Adds channels that may be due, each from a time on, and removes those that a commit has
    /// deleted.
    pub(super) fn apply(&mut self, due: Vec<(u64, Channel)>, rows: &Changes<ChannelRow>) {
        for (due_ms, channel) in due {
            self.due.add(&channel, due_ms);
        }
        for (channel, _) in rows.iter().filter(|(_, row)| row.is_none()) {
            self.due.remove(channel);
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

    /// Removes and returns the channels to trim or delete now, and whether tombstones are over.
    pub(super) fn take_due(
        &mut self,
        state: &CommittedState,
        (retention, classes): (&Retention, &Classes),
        log_ms: u64,
    ) -> (Vec<Channel>, bool) {
        let now = Instant::now();
        if now < self.next {
            return (Vec::new(), false);
        }
        self.next = now + INTERVAL;
        if !self.guard.observe(log_ms, now) {
            return (Vec::new(), false);
        }
        let mut due = Vec::new();
        for _ in 0..PER_LOOK_MAX {
            let Some(channel) = self.due.pop(log_ms) else {
                break;
            };
            match next_look(state, (retention, classes), &channel, log_ms) {
                NextLook::Now => due.push(channel),
                NextLook::At(due_ms) => self.due.add(&channel, due_ms),
                NextLook::Never => {}
            }
        }
        let oldest = state.channels.buried().first();
        let has_old_tombstones = oldest.is_some_and(|(at, _)| is_over(*at, log_ms));
        (due, has_old_tombstones)
    }
}

/// When there may be something to trim or to delete in a channel.
enum NextLook {
    Now,
    At(u64),
    Never,
}

/// Decides on a channel that came up. Only one with something to remove needs a commit: a channel
/// that is empty and has a short time to live comes up again and again.
fn next_look(
    state: &CommittedState,
    (retention, classes): (&Retention, &Classes),
    channel: &Channel,
    log_ms: u64,
) -> NextLook {
    let Some(row) = state.channels.rows().get(channel) else {
        return NextLook::Never;
    };
    let default_life = ChannelLife::default();
    let life = state.channels.lives().get(channel);
    let life = life.map_or(&default_life, |life| life);
    let effective = classes.effective(channel, life.settings, retention);
    let written_ms = life.written_ms(row.last);
    match effective.due_ms(life.end.is_some(), written_ms) {
        None => NextLook::Never,
        Some(due_ms) if due_ms > log_ms => NextLook::At(due_ms),
        Some(due_ms) if life.end.is_none() && row.count == 0 => {
            let ttl_ms = due_ms.saturating_sub(written_ms).max(1);
            NextLook::At(log_ms.saturating_add(ttl_ms))
        }
        Some(_) => NextLook::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{commit::CommitBatch, test_log::TestLog},
        *,
    };
    use crate::broker::lifecycle::ChannelClass;

    fn take_due(
        expiry: &mut Expiry,
        log: &TestLog,
        classes: &Classes,
        log_ms: u64,
    ) -> Vec<Channel> {
        expiry.next = Instant::now();
        let limits = (&log.retention, classes);
        expiry.take_due(&log.state, limits, log_ms).0
    }

    #[test]
    fn an_empty_channel_needs_no_commit_however_short_its_life_is() {
        let (mut log, classes) = (TestLog::new(), Classes::default());
        let mut class = ChannelClass::new("*".parse().unwrap());
        class.defaults.ttl_ms = Some(1);
        classes.replace(vec![class]);
        log.append("a", 1, 10, 0).unwrap();
        let mut expiry = Expiry::new(&log.state, &log.retention, &classes);
        let due = take_due(&mut expiry, &log, &classes, 20);
        assert_eq!(due, ["a".parse().unwrap()]);
        let change = log.store.write(|transaction| {
            let limits = (&log.retention, &classes);
            let mut batch =
                CommitBatch::open(transaction, &log.state, limits, &log.shares, 20, 100)?;
            batch.expire(&due)?;
            batch.finish()
        });
        let mut change = change.unwrap();
        expiry.apply(std::mem::take(&mut change.due), &change.channels.rows);
        log.state.apply(change);
        assert_eq!(log.count("a"), 0);
        for log_ms in 22..30 {
            assert_eq!(take_due(&mut expiry, &log, &classes, log_ms), []);
        }
        log.append("a", 1, 30, 0).unwrap();
        assert_eq!(take_due(&mut expiry, &log, &classes, 40).len(), 1);
    }
}
