//! The one thread that writes: group commit without a timer.
//!
//! ```text
//! publishers ──► queue ──► gather ──► stage in one transaction ──► fsync ──► apply, hand over, reply
//!                  ▲                                                 │
//!                  └── the next batch gathers here meanwhile ────────┘
//! ```
//!
//! The writer takes queued requests until they have [`BATCH_BYTES_MAX`] bytes or the queue is
//! empty, commits them once, and replies to all of them. The commit of redb syncs the file. After a
//! failed write or fsync, nothing is known about the file: every request of the batch gets
//! [`BrokerError::OutcomeUnknown`], and the writer opens the file again and loads its state. If
//! that fails too, the writer gives the log up and the process ends, because no guarantee would
//! hold.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread::{Builder, JoinHandle},
    time::Instant,
};

use sse_proto::Channel;
use tokio::sync::oneshot;

use super::{
    commit::CommitBatch,
    committed_state::CommittedChange,
    disk::FreeSpace,
    error::StoreError,
    expiry::{Expiry, add_to_index},
    failure_log::FailureLog,
    recover::load_state,
    request::Request,
    shared::Shared,
    stage::{Reply, reply_all, stage_requests},
    trim::is_sweep_needed,
};
use crate::broker::{
    BrokerError, Retention, channel_usage::ChannelUsage, client_shares::ClientShares,
    clock::now_ms, lifecycle::Classes,
};

/// A batch takes no more appends once it has this many bytes. A single append may be larger.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Maximum number of events that one commit trims, on top of two per appended event.
const TRIMS_PER_COMMIT_MAX: u64 = 1000;

/// Ends with an error if the log was given up.
pub(super) type WriterThread = JoinHandle<Result<(), BrokerError>>;

/// The state of the writer thread.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: Receiver<Request>,
    pub(super) retention: Retention,
    pub(super) classes: Classes,
    pub(super) expiry: Expiry,
    pub(super) free_space: FreeSpace,
    pub(super) failure_log: FailureLog,
    pub(super) channel_usage: ChannelUsage,
    pub(super) client_shares: ClientShares,
    /// True if the clock is ahead of the one on disk.
    pub(super) is_clock_unsaved: bool,
}

impl Writer {
    /// Starts the thread. `gave_up` receives the error if the log is given up.
    pub(super) fn spawn(self, gave_up: oneshot::Sender<BrokerError>) -> io::Result<WriterThread> {
        Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || self.run_and_report(gave_up))
    }

    /// Runs the writer. `gave_up` receives its error.
    fn run_and_report(self, gave_up: oneshot::Sender<BrokerError>) -> Result<(), BrokerError> {
        self.run_caught().inspect_err(|error| {
            let _ = gave_up.send(error.clone());
        })
    }

    /// Runs the writer. A panic becomes an error.
    fn run_caught(self) -> Result<(), BrokerError> {
        catch_unwind(AssertUnwindSafe(|| self.run())).unwrap_or_else(|_| {
            let why = "the writer of the log panicked".to_owned();
            Err(BrokerError::Unavailable(why))
        })
    }

    /// Writes until every sender of requests is gone. Commits everything that was queued first.
    ///
    /// # Errors
    ///
    /// The log cannot be written and cannot be opened again.
    fn run(mut self) -> Result<(), BrokerError> {
        let interval = self.retention.sweep_interval();
        let mut sweep_due = Instant::now() + interval;
        loop {
            let Some(batch) = self.next_batch(self.next_look(sweep_due)) else {
                return self.save_clock();
            };
            self.shared.count_batch();
            let batch = self.advance_clock(batch);
            let is_due = sweep_due <= Instant::now();
            if is_due {
                sweep_due = Instant::now() + interval;
            }
            self.index_channels();
            let (expired, has_old_tombstones) = self.due_now();
            let is_expiry = !expired.is_empty() || has_old_tombstones;
            if !is_expiry && !self.is_commit_needed(&batch, is_due) {
                continue;
            }
            if self.commit(batch, &expired, is_due)? {
                sweep_due = Instant::now();
            }
        }
    }

    /// Returns true if there is a request, or something to trim or to save.
    fn is_commit_needed(&self, batch: &[Request], is_due: bool) -> bool {
        !batch.is_empty()
            || is_due && self.is_clock_unsaved
            || self.is_too_large()
            || is_due && self.is_sweep_needed()
    }

    fn is_sweep_needed(&self) -> bool {
        let state = self.shared.state();
        is_sweep_needed(&state.channels, state.clock.log_ms(now_ms()))
    }

    /// Returns when to look for channels that may be due, but at most `until`.
    fn next_look(&self, until: Instant) -> Instant {
        let state = self.shared.state();
        let log_ms = state.clock.log_ms(now_ms());
        self.expiry.next_before(until, &state.channels, log_ms)
    }

    /// Indexes some channels again after the classes were replaced.
    fn index_channels(&mut self) {
        self.expiry.follow_classes(&self.classes);
        let state = self.shared.state();
        let (channels, retention) = (&state.channels, &self.retention);
        let indexed = self.expiry.index_some(channels, retention, &self.classes);
        drop(state);
        if !indexed.is_empty() {
            add_to_index(&mut self.shared.state_mut().channels, indexed);
        }
    }

    /// Returns the channels to trim or delete, and whether tombstones are over.
    fn due_now(&mut self) -> (Vec<Channel>, bool) {
        let state = self.shared.state();
        let log_ms = state.clock.log_ms(now_ms());
        let limits = (&self.retention, &self.classes);
        let due = self.expiry.due_now(&state.channels, limits, log_ms);
        drop(state);
        if !due.later.is_empty() {
            self.shared.state_mut().channels.set_due(due.later);
        }
        (due.channels, due.has_old_tombstones)
    }

    /// Carries out a batch without a commit if its requests concern the clock only. Returns the
    /// requests that need a commit.
    fn advance_clock(&mut self, batch: Vec<Request>) -> Vec<Request> {
        if !batch.iter().all(Request::concerns_clock_only) {
            return batch;
        }
        for request in batch {
            if let Request::AdvanceClock { bound, reply } = request {
                let mut state = self.shared.state_mut();
                let before = state.highest();
                state.clock.advance_past(bound, now_ms());
                self.is_clock_unsaved |= state.highest() != before;
                drop(state);
                let _ = reply.send(Ok(()));
            }
        }
        Vec::new()
    }

    /// Commits the clock before the log is closed.
    fn save_clock(&mut self) -> Result<(), BrokerError> {
        if self.is_clock_unsaved {
            self.commit(Vec::new(), &[], false)?;
        }
        Ok(())
    }

    /// Returns true if the events have more bytes than they may.
    fn is_too_large(&self) -> bool {
        self.shared.state().bytes > self.retention.bytes_max
    }

    /// Waits for a batch. Returns an empty batch at `until`, and `None` if no request can follow.
    fn next_batch(&self, until: Instant) -> Option<Vec<Request>> {
        let wait = until.saturating_duration_since(Instant::now());
        match self.requests.recv_timeout(wait) {
            Ok(first) => Some(self.gather(first)),
            Err(RecvTimeoutError::Timeout) => Some(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Returns `first` and the queued requests that fit into the same batch.
    fn gather(&self, first: Request) -> Vec<Request> {
        let mut bytes = first.bytes();
        let mut batch = vec![first];
        while bytes < BATCH_BYTES_MAX
            && let Ok(request) = self.requests.try_recv()
        {
            bytes += request.bytes();
            batch.push(request);
        }
        batch
    }

    /// Commits a batch and sends the replies. `expired` are channels that may be due. Returns true if
    /// trimming is left to do.
    fn commit(
        &mut self,
        batch: Vec<Request>,
        expired: &[Channel],
        is_sweep: bool,
    ) -> Result<bool, BrokerError> {
        let room = self.free_space.check();
        match self.stage(&batch, expired, is_sweep, &room) {
            Ok((replies, deleted, change)) => {
                let more_to_trim = change.more_to_trim;
                let log_ms = self.apply(change);
                self.is_clock_unsaved = false;
                self.expiry.observe_clock(log_ms);
                for channel in &deleted {
                    self.shared.notifier.notify(channel);
                }
                reply_all(&self.shared, batch, replies);
                self.log_success();
                Ok(more_to_trim)
            }
            Err(error) => self.recover(batch, &error).map(|()| false),
        }
    }

    /// Applies a change that is on disk. Returns the log's time.
    fn apply(&self, change: CommittedChange) -> u64 {
        let before = self.shared.state().channels.count();
        self.shared.publish_change(change);
        let state = self.shared.state();
        let after = state.channels.count();
        if after > before {
            self.channel_usage.record_growth(after);
        }
        state.clock.log_ms(now_ms())
    }

    /// Writes and commits a batch. Returns the replies, the channels that were deleted because they
    /// were due, and the change that is now on disk.
    fn stage(
        &self,
        batch: &[Request],
        expired: &[Channel],
        is_sweep: bool,
        room: &Result<(), BrokerError>,
    ) -> Result<(Vec<Reply>, Vec<Channel>, CommittedChange), StoreError> {
        let state = self.shared.state();
        self.shared.store.write(|transaction| {
            let mut staged = CommitBatch::open(
                transaction,
                &state,
                (&self.retention, &self.classes),
                &self.client_shares,
                now_ms(),
                TRIMS_PER_COMMIT_MAX,
            )?;
            let replies = stage_requests(&mut staged, batch, room)?;
            let deleted = staged.expire(expired)?;
            if is_sweep {
                staged.sweep()?;
            } else if state.bytes > self.retention.bytes_max {
                staged.trim_to_bytes()?;
            }
            Ok((replies, deleted, staged.finish()?))
        })
    }

    /// Opens the file again after a failed commit, and reports to the batch that its outcome is
    /// unknown.
    fn recover(&mut self, batch: Vec<Request>, error: &StoreError) -> Result<(), BrokerError> {
        self.log_failure(error);
        self.shared.set_reopening(true);
        let reopened = self.reopen();
        self.shared.set_reopening(false);
        let unknown = BrokerError::OutcomeUnknown(format!("writing the log failed ({error})"));
        let replies = batch.iter().map(|_| Err(unknown.clone())).collect();
        reply_all(&self.shared, batch, replies);
        reopened
    }

    fn reopen(&mut self) -> Result<(), BrokerError> {
        let lost = |error: String| {
            BrokerError::Unavailable(format!("the log cannot be opened again: {error}"))
        };
        let store = &self.shared.store;
        store.reopen().map_err(|error| lost(error.to_string()))?;
        let highest = self.shared.state().highest();
        let mut state = load_state(store, highest).map_err(|error| lost(error.to_string()))?;
        let (retention, classes) = (&self.retention, &self.classes);
        let channels = &mut state.channels;
        self.expiry.index_all(channels, retention, classes);
        self.shared.publish_state(state);
        self.shared.record_reopening();
        // The failed commit may be in the file, and each tail must be proved before the next group
        // is handed over to it.
        self.shared.notifier.notify_all();
        Ok(())
    }

    fn log_success(&mut self) {
        if let Some(suppressed) = self.failure_log.record_success(Instant::now()) {
            tracing::info!(suppressed, "the log can be written again");
        }
    }

    fn log_failure(&mut self, error: &StoreError) {
        if let Some(suppressed) = self.failure_log.record_failure(Instant::now()) {
            tracing::error!(
                %error, suppressed,
                "writing the log failed; it is opened again, and the outcome is unknown (logged at \
                 most every 30 s)"
            );
        }
    }
}
