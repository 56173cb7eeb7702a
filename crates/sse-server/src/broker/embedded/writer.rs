//! The one thread that writes: group commit without a timer.
//!
//! It takes everything that is queued, commits it once, and acknowledges it all, while the next group gathers behind
//! it. After a failed write or fsync nothing is known: the group is answered [`BrokerError::OutcomeUnknown`], the file
//! is closed and opened again, and its end is read from it. If that fails as well, the log is given up and the
//! process ends, because nothing could be promised any more.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use sse_proto::{Channel, EventId};
use tokio::sync::oneshot;

use super::{
    Shared,
    commit::{CommitBatch, CommittedChange, CommittedState},
    disk::FreeSpace,
    failure_log::FailureLog,
    load_state,
    store::StoreError,
};
use crate::broker::{
    BrokerError, Retention,
    clock::now_ms,
    idempotency::{AppendItem, AppendOutcome},
};

/// A group takes no more appends once it has this many bytes. (One batch may be larger; it lies in one group.)
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Events that one commit removes at the most, beyond twice those that it appends.
const TRIMS_PER_COMMIT_MAX: u64 = 1000;

/// What the writer is asked for.
pub(super) enum Request {
    /// Add to a channel what it does not have yet.
    Append {
        channel: Channel,
        items: Vec<AppendItem>,
        /// Of types and data, for the size of the group.
        bytes: usize,
        answer: oneshot::Sender<Result<Vec<AppendOutcome>, BrokerError>>,
    },
    /// Commit, to see that it can be done.
    Check {
        answer: oneshot::Sender<Result<(), BrokerError>>,
    },
    /// Let the clock go past this id, if it is time. Committed like an event, so that after a restart with a clock that
    /// went back no id up to it is given out either.
    Pass {
        bound: EventId,
        answer: oneshot::Sender<Result<(), BrokerError>>,
    },
}

/// Where the parts of each request are; those that are no append have none.
type HistoryBudget = Vec<Result<Vec<AppendOutcome>, BrokerError>>;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: Receiver<Request>,
    pub(super) state: CommittedState,
    pub(super) retention: Retention,
    pub(super) free_space: FreeSpace,
    pub(super) failure_log: FailureLog,
}

impl Writer {
    /// Writes until nobody can ask any more. Everything that was queued is committed first.
    ///
    /// # Errors
    /// The log cannot be written and cannot be reopened.
    pub(super) fn run(mut self) -> Result<(), BrokerError> {
        let shortest = self.retention.age_max.min(self.retention.keys.window);
        let sweep_every = (shortest / 4).clamp(Duration::from_millis(50), Duration::from_secs(10));
        let mut sweep_due = Instant::now() + sweep_every;
        loop {
            let first = match self
                .requests
                .recv_timeout(sweep_due.saturating_duration_since(Instant::now()))
            {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let batch = self.gather(first);
            let due = sweep_due <= Instant::now();
            let over = self.state.bytes > self.retention.bytes_max;
            if due {
                sweep_due = Instant::now() + sweep_every;
            }
            if batch.is_empty() && !over && !self.has_excess() {
                continue;
            }
            let more_to_trim = self.commit(batch, due || over)?;
            if more_to_trim {
                sweep_due = Instant::now();
            }
        }
    }

    fn gather(&self, first: Option<Request>) -> Vec<Request> {
        let size = |request: &Request| match request {
            Request::Append { bytes, .. } => *bytes,
            Request::Check { .. } | Request::Pass { .. } => 0,
        };
        let mut bytes = first.as_ref().map_or(0, size);
        let mut batch = Vec::from_iter(first);
        while bytes < BATCH_BYTES_MAX
            && !batch.is_empty()
            && let Ok(request) = self.requests.try_recv()
        {
            bytes += size(&request);
            batch.push(request);
        }
        batch
    }

    /// Whether a channel has events that are too old or too many, or keys that have expired.
    fn has_excess(&self) -> bool {
        let age_ms = u64::try_from(self.retention.age_max.as_millis()).unwrap_or(u64::MAX);
        let now_ms = now_ms().max(self.state.clock.highest().ms);
        let cutoff = now_ms.saturating_sub(age_ms);
        let events_max = self.retention.events_max.get() as u64;
        self.state
            .rows
            .values()
            .any(|row| row.count > events_max || (row.count > 1 && row.oldest.ms < cutoff))
            || self
                .state
                .key_counts
                .values()
                .any(|key_count| key_count.oldest_ms <= now_ms)
    }

    /// Commits a group and answers it; returns whether trimming is left to do.
    fn commit(&mut self, batch: Vec<Request>, sweep: bool) -> Result<bool, BrokerError> {
        let room = self.free_space.check();
        match self.stage(&batch, sweep, &room) {
            Ok((answers, change)) => {
                let more_to_trim = change.more_to_trim;
                self.shared.committed(&change);
                self.state.apply(change);
                self.answer(batch, answers);
                if let Some(unsaid) = self.failure_log.succeeded(Instant::now()) {
                    tracing::info!(unsaid, "the log can be written again");
                }
                Ok(more_to_trim)
            }
            Err(error) => {
                if let Some(unsaid) = self.failure_log.failed(Instant::now()) {
                    tracing::error!(
                        %error, unsaid,
                        "writing the log failed; it is opened again, and the outcome is unknown (told every 30 s at the most)"
                    );
                }
                let reopened = self.reopen();
                let unknown =
                    BrokerError::OutcomeUnknown(format!("writing the log failed ({error})"));
                let answers = batch.iter().map(|_| Err(unknown.clone())).collect();
                self.answer(batch, answers);
                reopened.map(|()| false)
            }
        }
    }

    fn stage(
        &self,
        batch: &[Request],
        sweep: bool,
        room: &Result<(), BrokerError>,
    ) -> Result<(HistoryBudget, CommittedChange), StoreError> {
        self.shared.store.write(|transaction| {
            let mut staged = CommitBatch::open(
                transaction,
                &self.state,
                &self.retention,
                now_ms(),
                TRIMS_PER_COMMIT_MAX,
            )?;
            let mut answers = Vec::with_capacity(batch.len());
            for request in batch {
                answers.push(match request {
                    Request::Append { channel, items, .. } => {
                        staged.append(channel, items, room)?
                    }
                    Request::Check { .. } => room.clone().map(|()| Vec::new()),
                    Request::Pass { bound, .. } => {
                        staged.pass(*bound);
                        Ok(Vec::new())
                    }
                });
            }
            if sweep {
                staged.sweep()?;
            }
            Ok((answers, staged.finish()?))
        })
    }

    /// Answers a group in order, and rings for the channels that have new events.
    fn answer(&self, batch: Vec<Request>, answers: HistoryBudget) {
        let mut events_count = 0;
        for (request, outcome) in batch.into_iter().zip(answers) {
            // A publisher that went away does not hear its answer; its event is in the log all the same.
            match request {
                Request::Append {
                    channel,
                    items,
                    answer,
                    ..
                } => {
                    let placed = outcome.as_deref().unwrap_or_default();
                    let new = items
                        .iter()
                        .zip(placed)
                        .filter(|(_, placed)| !placed.duplicate);
                    let added: usize = new.map(|(item, _)| item.events.len()).sum();
                    if added > 0 {
                        events_count += added;
                        self.shared.notifier.notify(&channel);
                    }
                    let _ = answer.send(outcome);
                }
                Request::Check { answer } | Request::Pass { answer, .. } => {
                    let _ = answer.send(outcome.map(|_| ()));
                }
            }
        }
        if events_count > 0 {
            self.shared.metrics.batch_committed(events_count);
        }
    }

    fn reopen(&mut self) -> Result<(), BrokerError> {
        let lost = |error: String| {
            BrokerError::Unavailable(format!("the log cannot be opened again: {error}"))
        };
        self.shared
            .store
            .reopen()
            .map_err(|error| lost(error.to_string()))?;
        self.state = load_state(&self.shared.store, self.state.clock.highest())
            .map_err(|error| lost(error.to_string()))?;
        self.shared.reset_last_ids(&self.state);
        Ok(())
    }
}
