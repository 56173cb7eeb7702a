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

    /// Returns what is due now.
    pub(super) fn due_now(
        &mut self,
        channels: &Channels,
        limits: (&Retention, &Classes),
        log_ms: u64,
    ) -> DueNow {
        let mut found = DueNow::default();
        let now = Instant::now();
        if now < self.next {
            return found;
        }
        self.next = now + INTERVAL;
        if !self.guard.observe(log_ms, now) {
            return found;
        }
        for slot in channels.due().due(log_ms).take(PER_LOOK_MAX) {
            match next_look(channels, limits, slot, log_ms) {
                NextLook::Now(channel) => found.channels.push(channel),
                NextLook::At(due_ms) => found.later.push((slot, due_ms)),
            }
        }
        let oldest = channels.tombstones().first();
        let is_over = |(_, oldest): (_, Tombstone)| is_over(oldest.at.ms, log_ms);
        found.has_old_tombstones = oldest.is_some_and(is_over);
        found
    }
}

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct DueNow {
    /// The channels to trim or delete.
    pub(super) channels: Vec<Channel>,
    /// Channels that are not due, and from when on they may be.
    pub(super) later: Vec<(Slot, Option<u64>)>,
    /// Whether tombstones are over.
    pub(super) has_old_tombstones: bool,
}

/// When there may be something to trim or to delete in a channel.
enum NextLook {
    Now(Channel),
    At(Option<u64>),
}

/// Decides on a channel that came up. Only one with something to remove needs a commit: a channel
/// that is empty and has a short time to live comes up again and again.
fn next_look(
    channels: &Channels,
    (retention, classes): (&Retention, &Classes),
    slot: Slot,
    log_ms: u64,
) -> NextLook {
    let Some((channel, row, life)) = channels.at(slot) else {
        return NextLook::At(None);
    };
    let (due_ms, _) = times_of(channel, &row, life, retention, classes);
    let Some(due_ms) = due_ms.filter(|due_ms| *due_ms <= log_ms) else {
        return NextLook::At(due_ms);
    };
    if row.count > 0 || life.is_some_and(|life| life.end.is_some()) {
        return NextLook::Now(channel.clone());
    }
    let written_ms = life.map_or(row.last.ms, |life| life.written_ms(row.last));
    let ttl_ms = due_ms.saturating_sub(written_ms).max(1);
    NextLook::At(Some(log_ms.saturating_add(ttl_ms)))
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

#[cfg(test)]
mod tests {
    use super::{
        super::{commit::CommitBatch, test_log::TestLog},
        *,
    };
    use crate::broker::lifecycle::ChannelClass;

    fn due_now(
        expiry: &mut Expiry,
        log: &mut TestLog,
        classes: &Classes,
        log_ms: u64,
    ) -> Vec<Channel> {
        expiry.next = Instant::now();
        let limits = (&log.retention, classes);
        let due = expiry.due_now(&log.state.channels, limits, log_ms);
        log.state.channels.set_due(due.later);
        // Otherwise the channel would take a place in each look.
        assert!(due.channels.len() == 1 || !log.state.channels.due().is_any_due(log_ms));
        due.channels
    }

    #[test]
    fn an_empty_channel_needs_no_commit_however_short_its_life_is() {
        let (mut log, classes) = (TestLog::new(), Classes::default());
        let mut class = ChannelClass::new("*".parse().unwrap());
        class.defaults.ttl_ms = Some(1);
        classes.replace(vec![class]);
        log.append("a", 1, 10, 0).unwrap();
        let channels = &mut log.state.channels;
        let mut expiry = Expiry::new(channels, &log.retention, &classes);
        let due = due_now(&mut expiry, &mut log, &classes, 20);
        assert_eq!(due, ["a".parse().unwrap()]);
        let change = log.store.write(|transaction| {
            let limits = (&log.retention, &classes);
            let mut batch =
                CommitBatch::open(transaction, &log.state, limits, &log.shares, 20, 100)?;
            batch.expire(&due)?;
            batch.finish()
        });
        log.state.apply(change.unwrap());
        assert_eq!(log.count("a"), 0);
        for log_ms in 22..30 {
            assert_eq!(due_now(&mut expiry, &mut log, &classes, log_ms), []);
        }
        log.append("a", 1, 30, 0).unwrap();
        assert_eq!(due_now(&mut expiry, &mut log, &classes, 40).len(), 1);
    }
}
