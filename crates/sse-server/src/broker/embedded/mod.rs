//! The embedded broker: a log in a redb file with one writer thread. Nothing else is installed.
//!
//! An event is acknowledged after the fsync of its commit batch. Reads run on blocking threads,
//! each on a snapshot, and never wait for the writer.
//!
//! ```text
//! append ──► writer ──► commit ──► staged_log ──► redb file ──► reader ◄── read
//!                         │ channels, trim, keys       ▲
//!                         ▼                            │ open, recover
//!                  committed_state                     store
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `writer`, `request`, `progress` | the thread that gathers requests, commits them and replies; whether it makes progress |
//! | `commit`, `stage` | one commit batch: writes and the other requests |
//! | `staged_log`, `staged_channels`, `staged_lives`, `staged_order` | the log as a transaction has it |
//! | `life`, `expiry`, `lifecycle` | settings, ends, deletion, expiry and lists of channels |
//! | `channels`, `numbers`, `trim`, `keys` | creating channels, trimming, idempotency keys |
//! | `committed_{state,channels,keys}`, `packed_row`, `shared` | what memory holds of the log |
//! | `reader`, `chain`, `revocations` | a page from a snapshot, with the proof that it is complete; the stored revocations |
//! | `backup`, `restore`, `restores`, `transfer` | copies of the log, and what a restored log knows to be lost; what `sse-server copy` reads |
//! | `record`, `life_record`, `key_record`, `checksum`, `tables` | the format of the file |
//! | `data_files`, `open`, `recover`, `store` | permissions of the files, opening, loading the state, transactions |
//! | `catch_panic`, `damage_log`, `failure_log`, `disk`, `error` | faults |

mod backup;
mod catch_panic;
mod chain;
mod channels;
mod checksum;
mod commit;
mod committed_channels;
mod committed_keys;
mod committed_state;
mod damage_log;
mod data_files;
mod disk;
mod error;
mod expiry;
mod failure_log;
mod key_record;
mod keys;
mod life;
mod life_record;
mod lifecycle;
mod numbers;
mod open;
mod packed_row;
mod progress;
mod reader;
mod record;
mod recover;
mod request;
mod restore;
mod restores;
mod revocations;
mod shared;
mod stage;
mod staged_channels;
mod staged_lives;
mod staged_log;
mod staged_order;
mod store;
mod tables;
#[cfg(test)]
mod test_log;
pub(crate) mod transfer;
mod trim;
mod writer;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use sse_proto::{Channel, Event, EventId};
use tokio::{runtime::Handle, sync::oneshot};

pub use self::{
    catch_panic::is_catching_panic,
    data_files::DataMode,
    error::OpenError,
    open::Location,
    progress::WriterProgress,
    restore::{RestoreError, Restored, restore},
};
use self::{
    disk::FreeSpace,
    expiry::Expiry,
    failure_log::FailureLog,
    recover::load_state,
    request::{ReplySender, Request},
    shared::Shared,
    store::Store,
    writer::{Writer, WriterThread},
};
use super::{
    Appended, BackPage, BrokerError, Page, PageLimits, Publisher, ReadFrom, Retention, Settled,
    channel_usage::ChannelUsage,
    client_shares::ClientShares,
    clock,
    idempotency::{AppendItem, AppendOutcome, ids_of_only_item},
    lifecycle::{Classes, Write},
    notify::ChangeNotifier,
};
use crate::metrics::Metrics;

/// Requests that may wait for the writer. A publish beyond this limit is rejected (503), and
/// nothing is stored.
const QUEUE_MAX: usize = 16_384;

/// A handle on the log. Clones share it.
#[derive(Debug, Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
    /// `None` once the log is closed. The writer ends when the sender is dropped.
    requests: Arc<Mutex<Option<SyncSender<Request>>>>,
    writer: Arc<Mutex<Option<WriterThread>>>,
    blocking: Handle,
    classes: Classes,
    retention: Retention,
}

impl Embedded {
    /// Opens the log and starts its writer. Reads run on the blocking threads of `blocking`.
    ///
    /// `gave_up` receives an error if the log can no longer be written. The process should end
    /// then.
    ///
    /// # Errors
    ///
    /// The log is in use, cannot be read, or has another format.
    pub fn open(
        location: Location,
        retention: Retention,
        disk_reserve_bytes: u64,
        metrics: Metrics,
        blocking: Handle,
        gave_up: oneshot::Sender<BrokerError>,
    ) -> Result<Self, OpenError> {
        let directory = location.directory().to_owned();
        let store = Store::open(location)?;
        let mut state =
            load_state(&store, EventId::ZERO).map_err(|error| OpenError::Unreadable {
                path: directory.clone(),
                why: error.to_string(),
            })?;
        let classes = Classes::default();
        let expiry = Expiry::new(&mut state.channels, &retention, &classes);
        let shared = Arc::new(Shared::new(store, state, metrics));
        let (requests, receiver) = sync_channel(QUEUE_MAX);
        let writer = Writer {
            shared: shared.clone(),
            requests: receiver,
            expiry,
            retention,
            classes: classes.clone(),
            free_space: FreeSpace::new(directory.clone(), disk_reserve_bytes),
            failure_log: FailureLog::new(),
            channel_usage: ChannelUsage::new(retention.channels_max),
            client_shares: ClientShares::new(&retention),
            is_clock_unsaved: false,
        };
        let writer = writer
            .spawn(gave_up)
            .map_err(|error| OpenError::Io(directory, error))?;
        Ok(Self {
            shared,
            requests: Arc::new(Mutex::new(Some(requests))),
            writer: Arc::new(Mutex::new(Some(writer))),
            blocking,
            classes,
            retention,
        })
    }

    /// Commits what is queued, stops the writer and closes the file.
    ///
    /// Other handles stay valid, but every later append and read is rejected.
    pub fn close(&self) {
        self.shared.backups.stop();
        drop(lock(&self.requests).take());
        let writer = lock(&self.writer).take();
        if let Some(Err(_panicked)) = writer.map(JoinHandle::join) {
            tracing::error!("the writer of the log panicked");
        }
        self.shared.store.close();
    }

    pub(super) async fn append(
        &self,
        publisher: Publisher,
        channel: &Channel,
        events: Vec<Event>,
    ) -> Result<Appended, BrokerError> {
        let items = vec![AppendItem::without_key(events)];
        ids_of_only_item(self.append_idempotent(publisher, channel, items).await?)
    }

    pub(super) async fn append_idempotent(
        &self,
        publisher: Publisher,
        channel: &Channel,
        items: Vec<AppendItem>,
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let write = Write::of_items(items);
        Ok(self.write(publisher, channel, write).await?.outcomes)
    }

    pub(super) async fn check(&self) -> Result<(), BrokerError> {
        let check = |reply| Request::Check { reply };
        self.request(check, BrokerError::Unavailable).await
    }

    /// Sends a request to the writer and waits for the reply.
    ///
    /// `closed` makes the error if the log is closed before the reply.
    async fn request<T>(
        &self,
        request: impl FnOnce(ReplySender<T>) -> Request,
        closed: fn(String) -> BrokerError,
    ) -> Result<T, BrokerError> {
        let (sender, reply) = oneshot::channel();
        self.enqueue(request(sender))?;
        reply
            .await
            .unwrap_or_else(|_| Err(closed("the log was closed meanwhile".to_owned())))
    }

    fn enqueue(&self, request: Request) -> Result<(), BrokerError> {
        let requests = lock(&self.requests);
        let requests = requests.as_ref().ok_or_else(log_is_closed)?;
        requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => too_many_waiting(),
            TrySendError::Disconnected(_) => log_is_closed(),
        })
    }

    pub(super) async fn read(
        &self,
        channel: &Channel,
        from: ReadFrom,
        limits: PageLimits,
    ) -> Result<Page, BrokerError> {
        let channel = channel.clone();
        self.run_blocking(move |shared| {
            let store = &shared.store;
            let page =
                store.read(|snapshot| reader::read_page(snapshot, &channel, from, limits))?;
            shared.report_damage(&channel, from, page.start);
            Ok(page)
        })
        .await
    }

    pub(super) async fn read_back(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> Result<BackPage, BrokerError> {
        let channel = channel.clone();
        self.run_blocking(move |shared| {
            let store = &shared.store;
            store.read(|snapshot| reader::read_back_page(snapshot, &channel, before, limits))
        })
        .await
    }

    /// Runs `work` on a blocking thread.
    async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let shared = self.shared.clone();
        let result = self.blocking.spawn_blocking(move || work(&shared)).await;
        result.unwrap_or_else(|_| {
            let why = "the server is stopping".to_owned();
            Err(BrokerError::Unavailable(why))
        })
    }

    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        self.shared.state().last_id(channel)
    }

    pub(super) fn has_channel(&self, channel: &Channel) -> bool {
        self.shared.state().contains(channel)
    }

    pub(super) async fn check_settled(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Settled, BrokerError> {
        if let Some(last) = self.last_id_if_past(channel, bound) {
            return Ok(Settled::Through(last));
        }
        let now_ms = clock::now_ms();
        let not_yet = Settled::not_before(bound, now_ms);
        if bound.ms > now_ms {
            return Ok(not_yet);
        }
        // A commit in flight may have an earlier time. Only the writer knows.
        self.advance_clock_past(bound).await?;
        let last = self.last_id_if_past(channel, bound);
        Ok(last.map_or(not_yet, Settled::Through))
    }

    async fn advance_clock_past(&self, bound: EventId) -> Result<(), BrokerError> {
        let advance = |reply| Request::AdvanceClock { bound, reply };
        self.request(advance, BrokerError::Unavailable).await
    }

    /// Returns the last id of `channel` if the log's clock is past `bound`.
    fn last_id_if_past(&self, channel: &Channel, bound: EventId) -> Option<EventId> {
        let state = self.shared.state();
        (state.highest() >= bound).then(|| state.newest(channel))
    }

    pub(super) fn now_ms(&self) -> u64 {
        clock::now_ms().max(self.shared.state().highest().ms)
    }

    pub(super) fn reopenings(&self) -> u64 {
        self.shared.reopenings()
    }

    pub(super) fn notifier(&self) -> &ChangeNotifier {
        &self.shared.notifier
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn log_is_closed() -> BrokerError {
    BrokerError::Unavailable("the log is closed".to_owned())
}

fn too_many_waiting() -> BrokerError {
    let why = format!("{QUEUE_MAX} publishes are waiting for the disk already");
    BrokerError::Unavailable(why)
}
