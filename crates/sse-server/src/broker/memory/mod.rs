//! The broker in memory (`--memory`): the same contract as on disk, until the process ends.
//!
//! Nothing waits for a disk, so every append and read runs at once, under one lock that is held for
//! about a microsecond per event. There is no thread, no commit batch and no extra copy.
//!
//! | file | holds |
//! |---|---|
//! | `log` | appends and reads within the limits |
//! | `channels` | the set of channels: creating them, and forgetting idle ones |
//! | `channel`, `events` | one channel: its events, and pages of them |
//! | `trim`, `sweep` | trimming by count, age and bytes |
//! | `life`, `deleted` | settings, deletion, expiry and lists of channels |
//! | `keys` | the idempotency keys of one channel |
//! | `revocations` | the stored revocations |

mod channel;
mod channels;
mod deleted;
mod events;
mod keys;
mod life;
mod log;
mod revocations;
mod sweep;
mod trim;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use sse_proto::{Channel, Event, EventId, Position};
use tokio::{runtime::Handle, time::sleep};

use self::{log::Log, revocations::Revocations};
use super::{
    Appended, BackPage, BrokerError, CommittedGroup, Page, PageLimits, Publisher, ReadFrom,
    Retention, Settled,
    clock::now_ms,
    idempotency::{AppendItem, AppendOutcome, count_added, ids_of_only_item},
    lifecycle::{
        ChannelDescription, ChannelSettings, Classes, Configured, Incarnation, ListPage, ListQuery,
        Tombstone, Write, Written,
    },
    notify::ChangeNotifier,
};
use crate::{metrics::Metrics, supervised::supervised_task};

/// Events and keys that a sweep removes while it holds the lock. Appends and reads wait meanwhile.
const SWEEP_BATCH: usize = 1000;

/// Pause between two looks for channels that are due.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(200);
/// Batches of channels that are examined at each look, so that at most
/// [`EXPIRE_PER_SECOND_MAX`](super::lifecycle::EXPIRE_PER_SECOND_MAX) expire per second.
const EXPIRE_BATCHES: usize = 2;

/// A handle on the log. Clones share it.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Mutex<Log>,
    classes: Classes,
    notifier: ChangeNotifier,
    revocations: Revocations,
    metrics: Metrics,
}

impl Memory {
    /// Creates an empty log. A task on `runtime` removes old events and expired keys.
    #[must_use]
    pub fn new(retention: Retention, metrics: Metrics, runtime: &Handle) -> Self {
        let classes = Classes::default();
        let shared = Arc::new(Shared {
            log: Mutex::new(Log::new(retention, classes.clone(), first_seq())),
            classes,
            notifier: ChangeNotifier::default(),
            revocations: Revocations::default(),
            metrics,
        });
        let interval = retention.sweep_interval();
        let sweep = sweep_regularly(Arc::downgrade(&shared), interval);
        runtime.spawn(supervised_task("the removal of old events", sweep));
        Self(shared)
    }

    /// Trims and deletes the channels that are due at a time of the log's clock, in milliseconds. A
    /// test can thereby let time pass.
    pub fn expire_at(&self, log_ms: u64) {
        let expire = |log: &mut Log, _| log.expire_due(log_ms, usize::MAX);
        for channel in self.0.change(expire).0 {
            self.0.notifier.notify(&channel);
        }
    }

    pub(super) fn append(
        &self,
        publisher: Publisher,
        channel: &Channel,
        events: Vec<Event>,
    ) -> Result<Appended, BrokerError> {
        let item = AppendItem::without_key(events);
        ids_of_only_item(self.append_idempotent(publisher, channel, &[item])?)
    }

    pub(super) fn append_idempotent(
        &self,
        publisher: Publisher,
        channel: &Channel,
        items: &[AppendItem],
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let write = Write::of_items(items.to_vec());
        Ok(self.write(publisher, channel, &write)?.outcomes)
    }

    pub(super) fn write(
        &self,
        publisher: Publisher,
        channel: &Channel,
        write: &Write,
    ) -> Result<Written, BrokerError> {
        let (previous, written) = self.0.write(publisher, channel, write)?;
        let added = count_added(&write.items, &written.outcomes);
        if added > 0 {
            let group = CommittedGroup::new(previous, 0, &write.items, &written.outcomes);
            self.0.notifier.hand_over(channel, &group);
            self.0.metrics.batch_committed(added);
        }
        if written.end.is_some() {
            // The end is no event, so it is read.
            self.0.notifier.notify(channel);
        }
        Ok(written)
    }

    pub(super) fn delete(&self, channel: &Channel) -> Option<Tombstone> {
        let tombstone = self.0.change(|log, now_ms| log.delete(channel, now_ms));
        self.0.notifier.notify(channel);
        tombstone
    }

    pub(super) fn configure(
        &self,
        publisher: Publisher,
        channel: &Channel,
        settings: ChannelSettings,
    ) -> Result<Configured, BrokerError> {
        self.0
            .change(|log, now_ms| log.configure(publisher, channel, settings, now_ms))
    }

    pub(super) fn keep_alive(
        &self,
        channel: &Channel,
        incarnation: Incarnation,
    ) -> Result<(), BrokerError> {
        self.0
            .change(|log, now_ms| log.keep_alive(channel, incarnation, now_ms))
    }

    pub(super) fn describe(&self, channel: &Channel) -> Option<ChannelDescription> {
        self.0.lock().describe(channel)
    }

    pub(super) fn list(&self, query: &ListQuery) -> ListPage {
        self.0.lock().list(query)
    }

    pub(super) fn is_ended(&self, channel: &Channel, position: Position) -> bool {
        self.0.lock().is_ended(channel, position)
    }

    pub(super) fn retention(&self) -> Retention {
        self.0.lock().retention
    }

    pub(super) fn classes(&self) -> &Classes {
        &self.0.classes
    }

    pub(super) fn read(&self, channel: &Channel, from: ReadFrom, limits: PageLimits) -> Page {
        self.0.lock().read(channel, from, limits)
    }

    pub(super) fn read_back(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> BackPage {
        self.0.lock().read_back(channel, before, limits)
    }

    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        self.0.lock().last_id(channel)
    }

    pub(super) fn has_channel(&self, channel: &Channel) -> bool {
        self.0.lock().has_channel(channel)
    }

    pub(super) fn check_settled(&self, channel: &Channel, bound: EventId) -> Settled {
        // Read the time under the lock: no append with an earlier time can be in flight then.
        let mut log = self.0.lock();
        log.check_settled(channel, bound, now_ms())
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.0.lock().log_ms(now_ms())
    }

    pub(super) fn notifier(&self) -> &ChangeNotifier {
        &self.0.notifier
    }
}

impl Shared {
    /// Writes. Returns the last id of the channel before the write, and the result.
    fn write(
        &self,
        publisher: Publisher,
        channel: &Channel,
        write: &Write,
    ) -> Result<(EventId, Written), BrokerError> {
        self.change(|log, now_ms| {
            let previous = log.last_id(channel);
            let written = log.write(publisher, channel, write, now_ms)?;
            Ok((previous, written))
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Log, u64) -> T) -> T {
        // Read the time under the lock, because ids are assigned in the order of the lock.
        let mut log = self.lock();
        let result = change(&mut log, now_ms());
        self.metrics.set_log_size(log.size());
        result
    }

    /// Trims and deletes channels that are due.
    fn expire(&self) {
        let mut left = EXPIRE_BATCHES * SWEEP_BATCH;
        while left > 0 {
            let (deleted, examined) = self
                .change(|log, now_ms| log.expire(now_ms, Instant::now(), left.min(SWEEP_BATCH)));
            for channel in deleted {
                self.notifier.notify(&channel);
            }
            if examined < SWEEP_BATCH {
                return;
            }
            left -= examined;
        }
    }

    /// Removes old events and expired keys. Returns true if there may be more.
    fn sweep(&self) -> bool {
        let mut log = self.lock();
        let has_more = log.sweep(now_ms(), SWEEP_BATCH);
        self.metrics.set_log_size(log.size());
        has_more
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // No code panics while it holds this lock.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chooses the sequence number of the first event in each millisecond.
///
/// After a restart, the log must not take an id of its former self for one of its own.
fn first_seq() -> u64 {
    u64::from(rand::random::<u32>().max(1))
}

/// Removes old events and expired keys, until the log is dropped.
async fn sweep_regularly(log: Weak<Shared>, interval: Duration) {
    let mut sweep_due = Instant::now() + interval;
    loop {
        sleep(interval.min(EXPIRY_INTERVAL)).await;
        let Some(shared) = log.upgrade() else {
            return;
        };
        shared.expire();
        drop(shared);
        if sweep_due <= Instant::now() {
            sweep_due = Instant::now() + interval;
            if sweep(&log).await.is_none() {
                return;
            }
        }
    }
}

/// Removes all old events and expired keys. Returns `None` if the log was dropped.
async fn sweep(log: &Weak<Shared>) -> Option<()> {
    while log.upgrade()?.sweep() {
        tokio::task::yield_now().await;
    }
    Some(())
}
