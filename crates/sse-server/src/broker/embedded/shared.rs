//! What the writer and the readers of an embedded log share.

use std::sync::{
    PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use sse_proto::{Channel, EventId, api::GapReason};

use super::{
    backup::Backups,
    commit::StagedWrite,
    committed_state::{CommittedChange, CommittedState},
    damage_log::DamageLog,
    last_ids::LastIds,
    progress::WriterProgress,
    revocations::RevocationVersion,
    store::Store,
};
use crate::{
    broker::{
        CommittedGroup, Continuity, ReadFrom,
        idempotency::{AppendItem, count_added},
        notify::ChangeNotifier,
    },
    metrics::{Level, Metrics},
};

/// The shared part of a log.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) notifier: ChangeNotifier,
    pub(super) metrics: Metrics,
    /// The number of publishes that wait for the writer.
    pub(super) waiting: Level,
    pub(super) damage_log: DamageLog,
    pub(super) revocation_version: RevocationVersion,
    pub(super) backups: Backups,
    last_ids: RwLock<LastIds>,
    /// How many times the file was opened again.
    reopenings: AtomicU64,
    /// How many batches the writer has taken from its queue, empty ones included.
    batches: AtomicU64,
    /// The writer opens the file again after a failed commit.
    is_reopening: AtomicBool,
}

impl Shared {
    pub(super) fn new(store: Store, state: &CommittedState, metrics: Metrics) -> Self {
        metrics.set_log_size(state.size());
        Self {
            store,
            notifier: ChangeNotifier::default(),
            waiting: metrics.publishes_waiting(),
            metrics,
            damage_log: DamageLog::default(),
            revocation_version: RevocationVersion::default(),
            backups: Backups::default(),
            last_ids: RwLock::new(LastIds::new(state)),
            batches: AtomicU64::new(0),
            is_reopening: AtomicBool::new(false),
            reopenings: AtomicU64::new(0),
        }
    }

    /// Returns how many times the file was opened again.
    pub(super) fn reopenings(&self) -> u64 {
        self.reopenings.load(Ordering::Acquire)
    }

    /// Records that the file was opened again, and that readers see its state.
    pub(super) fn record_reopening(&self) {
        self.reopenings.fetch_add(1, Ordering::Release);
    }

    /// Shows the readers a change that is on disk.
    pub(super) fn publish_change(&self, change: &CommittedChange) {
        self.write_last_ids().apply(change);
    }

    /// Hands the new events of a committed append over to the watchers of its channel. Returns their
    /// number.
    pub(super) fn hand_over(
        &self,
        channel: &Channel,
        items: &[AppendItem],
        staged: &StagedWrite,
    ) -> usize {
        let StagedWrite { previous, written } = staged;
        let outcomes = &written.outcomes;
        let added = count_added(items, outcomes);
        if added > 0 {
            let group = CommittedGroup::new(*previous, self.reopenings(), items, outcomes);
            self.notifier.hand_over(channel, &group);
        }
        if written.end.is_some() {
            // The end is no event, so it is read.
            self.notifier.notify(channel);
        }
        added
    }

    /// Shows the readers how far the log's clock is.
    pub(super) fn publish_clock(&self, highest: EventId) {
        self.write_last_ids().set_highest(highest);
    }

    /// Shows the readers the state that was loaded after the file was opened again.
    pub(super) fn publish_state(&self, state: &CommittedState) {
        *self.write_last_ids() = LastIds::new(state);
        self.metrics.set_log_size(state.size());
    }

    /// Counts a batch that the writer has taken from its queue.
    pub(super) fn count_batch(&self) {
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    /// Marks that the writer opens the file again.
    pub(super) fn set_reopening(&self, is_reopening: bool) {
        self.is_reopening.store(is_reopening, Ordering::Relaxed);
    }

    /// Returns how far the writer has come.
    pub(super) fn writer_progress(&self) -> WriterProgress {
        if self.is_reopening.load(Ordering::Relaxed) {
            WriterProgress::Reopening
        } else {
            WriterProgress::Batches(self.batches.load(Ordering::Relaxed))
        }
    }

    /// Logs damaged events that a page read `from` a position skips, if its start reports them.
    pub(super) fn report_damage(&self, channel: &Channel, from: ReadFrom, start: Continuity) {
        if let Continuity::Gap {
            reason: GapReason::Damaged,
            oldest,
            ..
        } = start
        {
            let store = &self.store;
            self.damage_log.report(store, channel, from, oldest);
        }
    }

    pub(super) fn last_ids(&self) -> RwLockReadGuard<'_, LastIds> {
        self.last_ids.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_last_ids(&self) -> RwLockWriteGuard<'_, LastIds> {
        self.last_ids
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
