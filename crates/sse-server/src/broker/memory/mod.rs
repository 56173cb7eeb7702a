//! The log in memory (`--memory`): the same contract as on disk, for as long as the process lives.
//!
//! There is nothing to wait for, so whoever appends or reads does it at once, under one lock that is held for about a
//! microsecond an event. No thread, no group, no copy on the way.
//!
//! | file | holds |
//! |---|---|
//! | `log` | all channels: appends, limits, trims |
//! | `kept` | one channel: its events, and pages of them |
//! | `keys` | the keys of publishes that may be sent again |

mod channel;
mod keys;
mod log;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use sse_proto::{Channel, Event, EventId};
use tokio::{runtime::Handle, time::sleep};

use self::log::Log;
use super::{
    Appended, BackPage, BrokerError, Page, PageLimits, ReadFrom, Retention, Settled,
    clock::now_ms,
    idempotency::{AppendItem, AppendOutcome},
    notify::ChangeNotifier,
};
use crate::metrics::Metrics;

/// What is removed in one go because it is too old: the others wait meanwhile.
const SWEPT_IN_A_ROW: usize = 1000;

/// A handle on the log; clones share it.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Mutex<Log>,
    notifier: ChangeNotifier,
    metrics: Metrics,
}

impl Memory {
    /// An empty log. What is too old is removed by a task on `runtime`.
    #[must_use]
    pub fn new(retention: Retention, metrics: Metrics, runtime: &Handle) -> Self {
        // After a restart the log must not take an id of its former self for one of its own.
        let first_seq = u64::from(rand::random::<u32>().max(1));
        let log = Mutex::new(Log::new(retention, first_seq));
        let shared = Arc::new(Shared {
            log,
            notifier: ChangeNotifier::default(),
            metrics,
        });
        let shortest = retention.age_max.min(retention.keys.window);
        let every = (shortest / 4).clamp(Duration::from_millis(50), Duration::from_secs(10));
        runtime.spawn(sweep(Arc::downgrade(&shared), every));
        Self(shared)
    }

    pub(super) fn append(
        &self,
        channel: &Channel,
        events: Vec<Event>,
    ) -> Result<Appended, BrokerError> {
        let placed = self.append_idempotent(
            channel,
            &[AppendItem {
                events,
                idempotency: None,
            }],
        )?;
        let first = placed.first().map(|placed| placed.ids);
        first.ok_or_else(|| BrokerError::OutcomeUnknown("the log told no id".to_owned()))
    }

    pub(super) fn append_idempotent(
        &self,
        channel: &Channel,
        items: &[AppendItem],
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let placed = {
            // The time is taken under the lock: ids are given out in its order.
            let mut log = self.log();
            log.append(channel, items, now_ms())?
        };
        let new = items
            .iter()
            .zip(&placed)
            .filter(|(_, placed)| !placed.duplicate);
        let added: usize = new.map(|(item, _)| item.events.len()).sum();
        if added > 0 {
            self.0.notifier.notify(channel);
            self.0.metrics.batch_committed(added);
        }
        Ok(placed)
    }

    pub(super) fn read(&self, channel: &Channel, from: ReadFrom, limits: PageLimits) -> Page {
        self.log().page(channel, from, limits)
    }

    pub(super) fn read_back(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> BackPage {
        self.log().back_page(channel, before, limits)
    }

    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        self.log().last_id(channel)
    }

    pub(super) fn check_settled(&self, channel: &Channel, bound: EventId) -> Settled {
        // The time is taken under the lock: no append can be under way with an older one.
        let mut log = self.log();
        log.check_settled(channel, bound, now_ms())
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.log().now_ms(now_ms())
    }

    pub(super) fn notifier(&self) -> &ChangeNotifier {
        &self.0.notifier
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.log()
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        // Nothing panics while it holds this lock.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what is too old, until the log is dropped.
async fn sweep(log: Weak<Shared>, every: Duration) {
    loop {
        sleep(every).await;
        loop {
            let Some(shared) = log.upgrade() else { return };
            if !shared.log().sweep(now_ms(), SWEPT_IN_A_ROW) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}
