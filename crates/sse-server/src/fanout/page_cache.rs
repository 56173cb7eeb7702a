//! Pages of history for streams that are behind the tail: read away from the threads that write, once for all that
//! stand at the same place, and never more of them at a time than fit into a fixed memory. For whoever reads on, the
//! next page is read while this one is written.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use sse_proto::{Channel, api::GapReason};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::sleep,
};

use crate::{
    broker::{Broker, BrokerError, Continuity, Page, PageLimits, ReadFrom, Stored},
    metrics::Metrics,
};

/// One read of history: with the fields around the data it makes about one chunk.
const PAGE_BYTES_MAX: usize = 48 << 10;
/// All pages together: those that are read now, wait for their subscribers, or are kept for the next one.
const BYTES_MAX: usize = 32 << 20;
/// Those of them that are kept for the next one.
const CACHE_BYTES_MAX: usize = BYTES_MAX / 2;
/// How long a page is kept: long enough for a crowd that comes back at once and reads at different speeds.
const CACHE_TIME: Duration = Duration::from_secs(5);
/// What an event takes beyond its text.
const EVENT_BYTES: usize = 64;
/// Between two attempts to reach a broker that is away.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Which page is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PageKey {
    /// Of this channel.
    pub channel: Channel,
    /// From here on.
    pub from: ReadFrom,
    /// At most so many events.
    pub events_max: usize,
    /// Of the channel's tail: after a fork of the log its old pages are wrong.
    pub epoch: u64,
}

impl PageKey {
    /// For the page behind this one; none if nothing is there yet.
    fn next_page(&self, page: &Page) -> Option<Self> {
        page.more.then(|| Self {
            from: ReadFrom::Position(page.end(self.from)),
            ..self.clone()
        })
    }
}

/// A page, and its share of the memory for all of them.
#[derive(Debug, Clone)]
pub struct SharedPage(Arc<(Page, OwnedSemaphorePermit)>);

impl Deref for SharedPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.0.0
    }
}

impl SharedPage {
    /// Whether they are the same one.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

type PageResult = Result<SharedPage, BrokerError>;
type InFlight = Shared<BoxFuture<'static, PageResult>>;

/// Reads pages, and keeps them for a moment; clones share them.
#[derive(Clone)]
pub struct PageCache(Arc<Inner>);

struct Inner {
    broker: Broker,
    metrics: Metrics,
    runtime: Handle,
    /// In KiB.
    room: Arc<Semaphore>,
    /// What a page is taken to be until it is read.
    reserve_kib: u32,
    state: Mutex<CacheState>,
}

#[derive(Default)]
struct CacheState {
    in_flight: HashMap<PageKey, InFlight>,
    pages: HashMap<PageKey, SharedPage>,
    /// What follows a page that is kept: whoever asks for it reads on.
    expected: HashSet<PageKey>,
    /// In the order in which they came.
    order: VecDeque<(PageKey, usize, Instant)>,
    bytes: usize,
}

impl fmt::Debug for PageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

impl PageCache {
    /// Pages of this broker, read on `runtime`. A page has one event at least, and that may have `event_bytes_max`.
    #[must_use]
    pub fn new(broker: Broker, event_bytes_max: usize, metrics: Metrics, runtime: Handle) -> Self {
        let reserve = event_bytes_max.clamp(PAGE_BYTES_MAX, BYTES_MAX / 4);
        let inner = Inner {
            broker,
            metrics,
            runtime,
            room: Arc::new(Semaphore::new(BYTES_MAX >> 10)),
            reserve_kib: kib(reserve),
            state: Mutex::default(),
        };
        Self(Arc::new(inner))
    }

    /// The page, if it is at hand.
    #[must_use]
    pub fn cached(&self, key: &PageKey) -> Option<SharedPage> {
        self.cached_page(&mut self.0.state(), key)
    }

    /// The page, which may have been read for somebody else a moment ago. With the broker away the error comes after a
    /// pause.
    ///
    /// # Errors
    /// `Unavailable`, `Damaged`.
    pub async fn read(&self, key: PageKey) -> PageResult {
        let in_flight_read = {
            let mut state = self.0.state();
            if let Some(page) = self.cached_page(&mut state, &key) {
                return Ok(page);
            }
            let reads_on = state.expected.contains(&key);
            state
                .in_flight
                .get(&key)
                .cloned()
                .unwrap_or_else(|| self.start_read(&mut state, key, reads_on))
        };
        in_flight_read.await
    }

    fn cached_page(&self, state: &mut CacheState, key: &PageKey) -> Option<SharedPage> {
        let page = state.page(key)?;
        if state.expected.contains(key) {
            self.read_ahead(state, key, &page);
        }
        Some(page)
    }

    /// Runs to its end even if nobody waits any more, so that it gives back what it holds.
    fn start_read(&self, state: &mut CacheState, key: PageKey, reads_on: bool) -> InFlight {
        let (done, result) = oneshot::channel();
        let pages = self.clone();
        let read_key = key.clone();
        self.0.runtime.spawn(async move {
            let result = pages.0.read(&read_key).await;
            let mut state = pages.0.state();
            state.finish_read(&read_key, &result);
            if let (true, Ok(page)) = (reads_on, &result) {
                pages.read_ahead(&mut state, &read_key, page);
            }
            drop(state);
            // Nobody may wait any more.
            let _ = done.send(result);
        });
        let lost = || BrokerError::Unavailable("the server is stopping".to_owned());
        let in_flight_read = result
            .map(move |result| result.unwrap_or_else(|_| Err(lost())))
            .boxed()
            .shared();
        state.in_flight.insert(key, in_flight_read.clone());
        in_flight_read
    }

    /// Reads what follows a page, unless the memory is wanted for pages that somebody waits for.
    fn read_ahead(&self, state: &mut CacheState, key: &PageKey, page: &Page) {
        let has_room = self.0.room.available_permits() >= 2 * self.0.reserve_kib as usize;
        if let Some(next) = key.next_page(page)
            && has_room
            && !state.pages.contains_key(&next)
            && !state.in_flight.contains_key(&next)
        {
            drop(self.start_read(state, next, false));
        }
    }
}

impl Inner {
    async fn read(&self, key: &PageKey) -> PageResult {
        let room = self.room.clone().acquire_many_owned(self.reserve_kib);
        let mut room = room.await.expect("it is never closed");
        let limits = PageLimits {
            events_max: key.events_max,
            bytes_max: PAGE_BYTES_MAX,
        };
        self.metrics.page_read();
        match self.broker.read(&key.channel, key.from, limits).await {
            Ok(page) => {
                let unused = self.reserve_kib.saturating_sub(kib(size(&page)));
                drop(room.split(unused as usize));
                Ok(SharedPage(Arc::new((page, room))))
            }
            Err(error) => {
                sleep(RETRY_AFTER).await;
                Err(error)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, CacheState> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheState {
    fn finish_read(&mut self, key: &PageKey, result: &PageResult) {
        self.in_flight.remove(key);
        if let Ok(page) = result
            && is_true_for_a_while(page)
        {
            self.keep(key.clone(), page.clone());
        }
    }

    fn page(&mut self, key: &PageKey) -> Option<SharedPage> {
        self.discard();
        self.pages.get(key).cloned()
    }

    fn keep(&mut self, key: PageKey, page: SharedPage) {
        let bytes = size(&page);
        self.bytes += bytes;
        self.expected.extend(key.next_page(&page));
        self.pages.insert(key.clone(), page);
        self.order.push_back((key, bytes, Instant::now()));
        self.discard();
    }

    /// Throws away what is too old or too much.
    fn discard(&mut self) {
        while let Some((key, bytes, at)) = self.order.front()
            && (self.bytes > CACHE_BYTES_MAX || at.elapsed() > CACHE_TIME)
        {
            if let Some(next_page) = self.pages.remove(key).and_then(|page| key.next_page(&page)) {
                self.expected.remove(&next_page);
            }
            self.bytes -= bytes;
            self.order.pop_front();
        }
    }
}

/// What was trimmed or wiped stays so: the crowd of a node that slept is told by one read. But the record of a loss may be
/// found a moment later, and a page without an event would be asked for again and again.
fn is_true_for_a_while(page: &Page) -> bool {
    match page.start {
        Continuity::Contiguous => !page.events.is_empty(),
        Continuity::Gap { reason, .. } => reason != GapReason::LostTail,
    }
}

fn size(page: &Page) -> usize {
    page.events.iter().map(Stored::size).sum::<usize>() + page.events.len() * EVENT_BYTES
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use sse_proto::Event;

    use super::*;
    use crate::broker::{Retention, idempotency::KeyLimits, memory::Memory};

    #[tokio::test]
    async fn for_whoever_reads_on_the_next_page_is_there_before_it_is_asked_for() {
        let retention = Retention {
            events_max: NonZeroUsize::MAX,
            age_max: Duration::MAX,
            bytes_max: u64::MAX,
            channels_max: 1,
            keys: KeyLimits {
                window: Duration::MAX,
                keys_max: 0,
            },
        };
        let broker = Broker::Memory(Memory::new(retention, Metrics::new(), &Handle::current()));
        let event = |number: usize| Event {
            kind: "number".parse().unwrap(),
            data: number.to_string().into(),
        };
        broker
            .append(&Channel::default_channel(), (0..25).map(event).collect())
            .await
            .unwrap();
        let pages = PageCache::new(broker, 1000, Metrics::new(), Handle::current());
        let mut key = PageKey {
            channel: Channel::default_channel(),
            from: ReadFrom::Oldest,
            events_max: 10,
            epoch: 1,
        };

        let first = pages.read(key.clone()).await.unwrap();
        key = key.next_page(&first).unwrap();
        assert!(pages.cached(&key).is_none(), "nobody has read on yet");
        let second = pages.read(key.clone()).await.unwrap();
        key = key.next_page(&second).unwrap();
        while pages.cached(&key).is_none() {
            tokio::task::yield_now().await;
        }
        let third = pages.cached(&key).unwrap();
        let data = |page: &SharedPage| {
            page.events
                .iter()
                .map(|event| event.data.to_string())
                .collect::<Vec<_>>()
        };
        let read = [data(&first), data(&second), data(&third)].concat();
        assert!(
            read.into_iter()
                .eq((0..25).map(|number: usize| number.to_string()))
        );
        assert_eq!(key.next_page(&third), None, "this is the end for now");
    }
}
