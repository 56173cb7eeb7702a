//! The embedded broker: a log in redb, one writer thread, nothing to install.
//!
//! An event is acknowledged after the fsync of its group.
//!
//! | file | holds |
//! |---|---|
//! | `writer` | the thread: groups what is queued, commits, answers |
//! | `batch` | one commit: appends, limits, trims |
//! | `keys` | the keys of publishes that may be sent again |
//! | `reader` | a page out of a snapshot, with the proof that it is whole |
//! | `record` | the bytes of an event and of a channel's row |
//! | `damage_log` | what the operator is told of events that cannot be read |
//! | `store` | the file: opening, tables, transactions |
//! | `catch_panic` | panics of redb, which become errors |
//! | `failure_log` | how often it is told that the log cannot be written |
//! | `disk` | the reserve of free space |

mod catch_panic;
mod commit;
mod damage_log;
mod disk;
mod failure_log;
mod keys;
mod reader;
mod record;
mod store;
mod writer;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use redb::{ReadableTable, ReadableTableMetadata as _};
use sse_proto::{Channel, Event, EventId, api::GapReason};
use tokio::{runtime::Handle, sync::oneshot};

pub use self::{
    catch_panic::is_catching_panic,
    store::{OpenError, Place},
};
use self::{
    commit::{CommittedChange, CommittedState},
    damage_log::DamageLog,
    disk::FreeSpace,
    failure_log::FailureLog,
    keys::KeyCount,
    record::{ChannelRow, decode_forgotten},
    store::{CHANNELS, FORGOTTEN, KEY_TALLIES, Store, StoreError},
    writer::{Request, Writer},
};
use super::{
    Appended, BackPage, BrokerError, Continuity, Page, PageLimits, ReadFrom, Retention, Settled,
    clock::{self, Clock},
    idempotency::{AppendItem, AppendOutcome},
    notify::ChangeNotifier,
};
use crate::metrics::Metrics;

/// Publishes that may wait for the writer. When it is full, a publish is refused (503): nothing was stored.
const QUEUE_MAX: usize = 16_384;

/// A handle on the log; clones share it.
#[derive(Debug, Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
    /// Taken at the end, so that the writer finishes.
    requests: Arc<Mutex<Option<SyncSender<Request>>>>,
    writer: Arc<Mutex<Option<WriterThread>>>,
    blocking: Handle,
}

/// Ends with why the log was given up, if it was.
type WriterThread = JoinHandle<Result<(), BrokerError>>;

/// What the writer and the readers share.
#[derive(Debug)]
struct Shared {
    store: Store,
    notifier: ChangeNotifier,
    last_ids: RwLock<LastIds>,
    metrics: Metrics,
    damage_log: DamageLog,
}

/// The last id of each channel, as of the last commit.
#[derive(Debug)]
struct LastIds {
    by_channel: HashMap<Channel, EventId>,
    /// Of channels of which nothing is known.
    origin: EventId,
    /// The highest id that was given out, or that the clock has passed: none up to it will be given out again.
    highest: EventId,
}

impl Shared {
    fn committed(&self, change: &CommittedChange) {
        let mut last_ids = self
            .last_ids
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        last_ids.origin = change.origin();
        last_ids.highest = change.highest();
        for (channel, last) in change.last_ids() {
            match last {
                Some(last) => drop(last_ids.by_channel.insert(channel.clone(), last)),
                None => drop(last_ids.by_channel.remove(channel)),
            }
        }
    }

    fn reset_last_ids(&self, state: &CommittedState) {
        let mut last_ids = self
            .last_ids
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *last_ids = LastIds::of(state);
    }
}

impl LastIds {
    fn of(state: &CommittedState) -> Self {
        let kept = state
            .rows
            .iter()
            .map(|(channel, row)| (channel.clone(), row.last));
        let forgotten = state
            .forgotten
            .iter()
            .map(|(channel, last)| (channel.clone(), *last));
        Self {
            by_channel: forgotten.chain(kept).collect(),
            origin: state.origin,
            highest: state.clock.highest(),
        }
    }

    fn last_id(&self, channel: &Channel) -> EventId {
        self.by_channel.get(channel).copied().unwrap_or(self.origin)
    }
}

impl Embedded {
    /// Opens the log and starts its writer. Reads run on the blocking threads of `blocking`.
    ///
    /// `gave_up` is told when the log can no longer be written: the process should end then.
    ///
    /// # Errors
    /// The log is in use, cannot be read, or is of a newer version.
    pub fn open(
        place: Place,
        retention: Retention,
        disk_reserve_bytes: u64,
        metrics: Metrics,
        blocking: Handle,
        gave_up: oneshot::Sender<BrokerError>,
    ) -> Result<Self, OpenError> {
        let directory = place.directory().to_owned();
        let store = Store::open(place)?;
        let state = load_state(&store, EventId::ZERO).map_err(|error| OpenError::Unreadable {
            path: directory.clone(),
            why: error.to_string(),
        })?;
        let last_ids = RwLock::new(LastIds::of(&state));
        let damage_log = DamageLog::default();
        let shared = Arc::new(Shared {
            store,
            notifier: ChangeNotifier::default(),
            last_ids,
            metrics,
            damage_log,
        });

        let (requests, receiver) = sync_channel(QUEUE_MAX);
        let free_space = FreeSpace::new(directory.clone(), disk_reserve_bytes);
        let failure_log = FailureLog::default();
        let writer = Writer {
            shared: shared.clone(),
            requests: receiver,
            state,
            retention,
            free_space,
            failure_log,
        };
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || {
                let panicked = |_| {
                    Err(BrokerError::Unavailable(
                        "the writer of the log panicked".to_owned(),
                    ))
                };
                let ended =
                    catch_unwind(AssertUnwindSafe(|| writer.run())).unwrap_or_else(panicked);
                if let Err(error) = &ended {
                    let _ = gave_up.send(error.clone());
                }
                ended
            });
        let thread = thread.map_err(|error| OpenError::Io(directory, error))?;
        Ok(Self {
            shared,
            requests: Arc::new(Mutex::new(Some(requests))),
            writer: Arc::new(Mutex::new(Some(thread))),
            blocking,
        })
    }

    /// Finishes what is queued, stops the writer and closes the file, whoever else still has a handle. Later appends and
    /// reads are refused.
    pub fn close(&self) {
        drop(
            self.requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Err(_panicked)) = writer.map(JoinHandle::join) {
            tracing::error!("the writer of the log panicked");
        }
        self.shared.store.close();
    }

    pub(super) async fn append(
        &self,
        channel: &Channel,
        events: Vec<Event>,
    ) -> Result<Appended, BrokerError> {
        let placed = self
            .append_idempotent(
                channel,
                vec![AppendItem {
                    events,
                    idempotency: None,
                }],
            )
            .await?;
        let first = placed.first().map(|placed| placed.ids);
        first.ok_or_else(|| BrokerError::OutcomeUnknown("the log told no id".to_owned()))
    }

    pub(super) async fn append_idempotent(
        &self,
        channel: &Channel,
        items: Vec<AppendItem>,
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let events = items.iter().flat_map(|item| &item.events);
        let bytes = events
            .map(|event| event.kind.as_str().len() + event.data.len())
            .sum();
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Append {
            channel: channel.clone(),
            items,
            bytes,
            answer,
        })?;
        answered.await.unwrap_or_else(|_| {
            Err(BrokerError::OutcomeUnknown(
                "the log was closed meanwhile".to_owned(),
            ))
        })
    }

    pub(super) async fn check(&self) -> Result<(), BrokerError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Check { answer })?;
        answered.await.unwrap_or_else(|_| {
            Err(BrokerError::Unavailable(
                "the log was closed meanwhile".to_owned(),
            ))
        })
    }

    fn ask(&self, request: Request) -> Result<(), BrokerError> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(requests) = requests.as_ref() else {
            return Err(BrokerError::Unavailable("the log is closed".to_owned()));
        };
        requests.try_send(request).map_err(|error| {
            BrokerError::Unavailable(match error {
                TrySendError::Full(_) => {
                    format!("{QUEUE_MAX} publishes are waiting for the disk already")
                }
                TrySendError::Disconnected(_) => "the log is closed".to_owned(),
            })
        })
    }

    pub(super) async fn read(
        &self,
        channel: &Channel,
        from: ReadFrom,
        limits: PageLimits,
    ) -> Result<Page, BrokerError> {
        let shared = self.shared.clone();
        let channel = channel.clone();
        let read = self.blocking.spawn_blocking(move || {
            let page = shared
                .store
                .read(|transaction| reader::page(transaction, &channel, from, limits))?;
            if let Continuity::Gap {
                reason: GapReason::Damaged,
                oldest,
                ..
            } = page.start
            {
                shared
                    .damage_log
                    .found(&shared.store, &channel, from, oldest);
            }
            Ok(page)
        });
        read.await.unwrap_or_else(|_| {
            Err(BrokerError::Unavailable(
                "the server is stopping".to_owned(),
            ))
        })
    }

    pub(super) async fn read_back(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> Result<BackPage, BrokerError> {
        let shared = self.shared.clone();
        let channel = channel.clone();
        let read = self.blocking.spawn_blocking(move || {
            shared
                .store
                .read(|transaction| reader::back_page(transaction, &channel, before, limits))
        });
        read.await.unwrap_or_else(|_| {
            Err(BrokerError::Unavailable(
                "the server is stopping".to_owned(),
            ))
        })
    }

    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        self.last_ids().last_id(channel)
    }

    pub(super) async fn check_settled(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Settled, BrokerError> {
        let settled = || {
            let last_ids = self.last_ids();
            (last_ids.highest >= bound).then(|| Settled::Through(last_ids.last_id(channel)))
        };
        if let Some(settled) = settled() {
            return Ok(settled);
        }
        let to_come_ms = bound.ms.saturating_sub(clock::now_ms());
        // The clock must be past the millisecond, not in it.
        let not_yet = Settled::NotFor(Duration::from_millis(to_come_ms.saturating_add(1)));
        if to_come_ms > 0 {
            return Ok(not_yet);
        }
        // A group may be under way whose time is older than ours. The writer knows.
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Pass { bound, answer })?;
        answered.await.unwrap_or_else(|_| {
            Err(BrokerError::Unavailable(
                "the log was closed meanwhile".to_owned(),
            ))
        })?;
        Ok(settled().unwrap_or(not_yet))
    }

    pub(super) fn now_ms(&self) -> u64 {
        clock::now_ms().max(self.last_ids().highest.ms)
    }

    fn last_ids(&self) -> RwLockReadGuard<'_, LastIds> {
        self.shared
            .last_ids
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notifier(&self) -> &ChangeNotifier {
        &self.shared.notifier
    }
}

/// Reads the state of the log from its tables. Its clock goes on above `given_out` and everything that is there.
fn load_state(store: &Store, given_out: EventId) -> Result<CommittedState, StoreError> {
    store.try_read(|transaction| {
        let numbers = reader::numbers(transaction)?;
        let mut rows = HashMap::new();
        let channels = transaction.open_table(CHANNELS)?;
        for entry in channels.iter()? {
            let (name, row) = entry?;
            let damaged = || StoreError::Damaged(format!("the row of channel {:?}", name.value()));
            let channel: Channel = name.value().parse().map_err(|_| damaged())?;
            // A channel that a reader does not find would be taken for one that never was.
            let is_found = channels
                .get(name.value())?
                .is_some_and(|found| found.value() == row.value());
            let row = ChannelRow::decode(name.value(), row.value())
                .filter(|_| is_found)
                .ok_or_else(damaged)?;
            rows.insert(channel, row);
        }
        if rows.len() as u64 != channels.len()? {
            let (found, expected) = (rows.len(), channels.len()?);
            return Err(StoreError::Damaged(format!(
                "{found} of {expected} channels are there"
            )));
        }
        let mut forgotten = HashMap::new();
        let forgotten_rows = transaction.open_table(FORGOTTEN)?;
        for entry in forgotten_rows.iter()? {
            let (name, last) = entry?;
            let damaged =
                || StoreError::Damaged(format!("the forgotten channel {:?}", name.value()));
            let last = decode_forgotten(name.value(), last.value()).ok_or_else(damaged)?;
            forgotten.insert(name.value().parse().map_err(|_| damaged())?, last);
        }
        if forgotten.len() as u64 != forgotten_rows.len()? {
            let (found, expected) = (forgotten.len(), forgotten_rows.len()?);
            return Err(StoreError::Damaged(format!(
                "{found} of {expected} forgotten channels are there"
            )));
        }
        let mut key_counts = HashMap::new();
        for entry in transaction.open_table(KEY_TALLIES)?.iter()? {
            let (number, key_count) = entry?;
            let damaged = || {
                StoreError::Damaged(format!(
                    "the count of the keys of channel {}",
                    number.value()
                ))
            };
            key_counts.insert(
                number.value(),
                KeyCount::decode(number.value(), key_count.value()).ok_or_else(damaged)?,
            );
        }
        keys::verify(
            transaction,
            key_counts.values().map(|key_count| key_count.count).sum(),
        )?;
        let last = rows.values().map(|row| row.last).max().unwrap_or_default();
        let last_number = rows.values().map(|row| row.number).max().unwrap_or(0);
        Ok(CommittedState {
            bytes: rows.values().map(|row| row.bytes).sum(),
            rows,
            key_counts,
            forgotten,
            clock: Clock::new(given_out.max(numbers.highest).max(last), 0),
            // Numbers start at 1; none is given out twice.
            next_number: numbers.next_number.max(last_number + 1),
            origin: numbers.origin,
        })
    })
}
