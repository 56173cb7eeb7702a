//! What the writer and the readers of an embedded log share.

use std::sync::{
    PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use sse_proto::{Channel, api::GapReason};

use super::{
    backup::Backups,
    commit::StagedWrite,
    committed_state::{CommittedChange, CommittedState},
    damage_log::DamageLog,
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
    state: RwLock<CommittedState>,
    /// How many times the file was opened again.
    reopenings: AtomicU64,
    /// How many batches the writer has taken from its queue, empty ones included.
    batches: AtomicU64,
    /// The writer opens the file again after a failed commit.
    is_reopening: AtomicBool,
}

impl Shared {
    pub(super) fn new(store: Store, state: CommittedState, metrics: Metrics) -> Self {
        metrics.set_log_size(state.size());
        Self {
            store,
            notifier: ChangeNotifier::default(),
            waiting: metrics.publishes_waiting(),
            metrics,
            damage_log: DamageLog::default(),
            revocation_version: RevocationVersion::default(),
            backups: Backups::default(),
            state: RwLock::new(state),
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
    pub(super) fn publish_change(&self, change: CommittedChange) {
        let mut state = self.state_mut();
        state.apply(change);
        self.metrics.set_log_size(state.size());
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

    /// Shows the readers the state that was loaded after the file was opened again.
    pub(super) fn publish_state(&self, state: CommittedState) {
        self.metrics.set_log_size(state.size());
        *self.state_mut() = state;
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

    /// The state as of the last commit. The writer reads it while it stages a batch, and only the
    /// writer changes it, so readers never wait for a batch.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, CommittedState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state. Readers wait meanwhile.
    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, CommittedState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
