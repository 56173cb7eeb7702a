//! Pages of history for streams that are behind the tail.
//!
//! Pages are read on the tokio runtime, away from the fan-out threads, and all pages together fit a
//! fixed memory. The cache shares reads in two ways:
//!
//! ```text
//! stream 1 ─┐                                     ┌─► stream 1
//! stream 2 ─┼─ same PageKey ─► one read in flight ┼─► stream 2      (streams that wait now)
//! stream 3 ─┘                       │             └─► stream 3
//!                                   └─► kept for 5 s ──► stream 4   (streams that come later)
//! ```
//!
//! When a stream asks for the page that follows a kept page, it reads on. Then the page after that
//! is read ahead, while the stream is sent this one.

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
    retry::RETRY_INTERVAL,
};

/// Bytes per read. With the fields around the data this makes about one chunk.
const PAGE_BYTES_MAX: usize = 48 << 10;
/// Bytes of all pages: in flight, waiting for their streams, and kept.
const BYTES_MAX: usize = 32 << 20;
/// Bytes of the kept pages.
const KEPT_BYTES_MAX: usize = BYTES_MAX / 2;
/// Keep a page for 5 s instead of dropping it with its last reader. After an outage, thousands of
/// clients resume from the same position but read at different speeds. Without the cache, each slow
/// client would repeat the read.
const KEEP_TIME: Duration = Duration::from_secs(5);
/// Bytes of an event besides its text.
const EVENT_OVERHEAD_BYTES: usize = 64;

/// Identifies a page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PageKey {
    /// Channel of the page.
    pub channel: Channel,
    /// Where the page starts.
    pub from: ReadFrom,
    /// Most events in the page.
    pub events_max: usize,
    /// Epoch of the channel's tail. A failover starts a new epoch, because pages that were read
    /// before may contain events that the log has lost.
    pub epoch: u64,
}

impl PageKey {
    /// Returns the key of the page after `page`; `None` if the log ends there for now.
    fn next_page(&self, page: &Page) -> Option<Self> {
        page.more.then(|| Self {
            from: ReadFrom::Position(page.end(self.from)),
            ..self.clone()
        })
    }
}

/// A page, with its share of the memory for all pages; clones share it.
#[derive(Debug, Clone)]
pub struct SharedPage(Arc<(Page, OwnedSemaphorePermit)>);

impl Deref for SharedPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.0.0
    }
}

impl SharedPage {
    /// Returns whether both are clones of one page.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

type PageResult = Result<SharedPage, BrokerError>;
type InFlight = Shared<BoxFuture<'static, PageResult>>;

/// Reads pages and keeps them for a moment; clones share the cache.
#[derive(Clone)]
pub struct PageCache(Arc<Inner>);

struct Inner {
    broker: Broker,
    metrics: Metrics,
    runtime: Handle,
    /// Memory that is left for pages, in KiB.
    memory: Arc<Semaphore>,
    /// Memory that a read reserves until the size of its page is known.
    reserved_kib: u32,
    state: Mutex<CacheState>,
}

#[derive(Default)]
struct CacheState {
    in_flight: HashMap<PageKey, InFlight>,
    kept: HashMap<PageKey, SharedPage>,
    /// Keys of the pages that follow kept pages. A stream that asks for one of them reads on.
    expected: HashSet<PageKey>,
    /// Kept pages with their size and age, oldest first.
    by_age: VecDeque<(PageKey, usize, Instant)>,
    kept_bytes: usize,
}

impl fmt::Debug for PageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageCache").finish_non_exhaustive()
    }
}

impl PageCache {
    /// Creates a cache that reads `broker` on `runtime`.
    ///
    /// A page has at least one event, so a read reserves memory for `event_bytes_max`.
    #[must_use]
    pub fn new(broker: Broker, event_bytes_max: usize, metrics: Metrics, runtime: Handle) -> Self {
        let reserved = event_bytes_max.clamp(PAGE_BYTES_MAX, BYTES_MAX / 4);
        Self(Arc::new(Inner {
            broker,
            metrics,
            runtime,
            memory: Arc::new(Semaphore::new(BYTES_MAX >> 10)),
            reserved_kib: kib(reserved),
            state: Mutex::default(),
        }))
    }

    /// Returns the page if it is kept.
    #[must_use]
    pub fn cached(&self, key: &PageKey) -> Option<SharedPage> {
        self.find_kept(&mut self.0.lock_state(), key)
    }

    /// Returns the page, which another stream may have read a moment ago.
    ///
    /// # Errors
    ///
    /// - [`BrokerError::Unavailable`]: the broker did not answer. The error comes after a pause of
    ///   `RETRY_INTERVAL`, so the caller can repeat the read at once.
    /// - [`BrokerError::Damaged`]: the log is unreadable at this position, after the same pause.
    pub async fn read(&self, key: PageKey) -> PageResult {
        let read = {
            let mut state = self.0.lock_state();
            if let Some(page) = self.find_kept(&mut state, &key) {
                return Ok(page);
            }
            let reads_on = state.expected.contains(&key);
            let in_flight = state.in_flight.get(&key).cloned();
            in_flight.unwrap_or_else(|| self.start_read(&mut state, key, reads_on))
        };
        read.await
    }

    fn find_kept(&self, state: &mut CacheState, key: &PageKey) -> Option<SharedPage> {
        let page = state.find_kept(key)?;
        if state.expected.contains(key) {
            self.read_ahead(state, key, &page);
        }
        Some(page)
    }

    /// Starts the read of a page, and of the next one afterwards if `reads_on`.
    ///
    /// The read is a task of its own. It ends even if all its streams are closed, and keeps its
    /// page for the streams that come later.
    fn start_read(&self, state: &mut CacheState, key: PageKey, reads_on: bool) -> InFlight {
        let (sender, result) = oneshot::channel();
        let pages = self.clone();
        let read_key = key.clone();
        self.0.runtime.spawn(async move {
            let result = pages.0.read(&read_key).await;
            let mut state = pages.0.lock_state();
            state.finish_read(&read_key, &result);
            if let (true, Ok(page)) = (reads_on, &result) {
                pages.read_ahead(&mut state, &read_key, page);
            }
            drop(state);
            // All streams that waited may be closed.
            let _ = sender.send(result);
        });
        let stopping = || BrokerError::Unavailable("the server is stopping".to_owned());
        let read = result.map(move |result| result.unwrap_or_else(|_| Err(stopping())));
        let read = read.boxed().shared();
        state.in_flight.insert(key, read.clone());
        read
    }

    /// Reads the page after `page`, unless streams may soon wait for the memory that it takes.
    fn read_ahead(&self, state: &mut CacheState, key: &PageKey, page: &Page) {
        let has_memory = self.0.memory.available_permits() >= 2 * self.0.reserved_kib as usize;
        if let Some(next) = key.next_page(page)
            && has_memory
            && !state.kept.contains_key(&next)
            && !state.in_flight.contains_key(&next)
        {
            drop(self.start_read(state, next, false));
        }
    }
}

impl Inner {
    /// Reads a page from the broker, once there is memory for it.
    async fn read(&self, key: &PageKey) -> PageResult {
        let memory = self.memory.clone().acquire_many_owned(self.reserved_kib);
        let mut memory = memory.await.expect("the semaphore is never closed");
        let limits = PageLimits {
            events_max: key.events_max,
            bytes_max: PAGE_BYTES_MAX,
        };
        self.metrics.page_read();
        match self.broker.read(&key.channel, key.from, limits).await {
            Ok(page) => {
                let unused = self.reserved_kib.saturating_sub(kib(page_bytes(&page)));
                drop(memory.split(unused as usize));
                Ok(SharedPage(Arc::new((page, memory))))
            }
            Err(error) => {
                sleep(RETRY_INTERVAL).await;
                Err(error)
            }
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, CacheState> {
        // No code panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheState {
    fn finish_read(&mut self, key: &PageKey, result: &PageResult) {
        self.in_flight.remove(key);
        if let Ok(page) = result
            && may_be_kept(page)
        {
            self.keep(key.clone(), page.clone());
        }
    }

    fn find_kept(&mut self, key: &PageKey) -> Option<SharedPage> {
        self.discard_old();
        self.kept.get(key).cloned()
    }

    fn keep(&mut self, key: PageKey, page: SharedPage) {
        let bytes = page_bytes(&page);
        self.kept_bytes += bytes;
        self.expected.extend(key.next_page(&page));
        self.kept.insert(key.clone(), page);
        self.by_age.push_back((key, bytes, Instant::now()));
        self.discard_old();
    }

    /// Discards pages that are too old, and the oldest pages if the kept pages are too large.
    fn discard_old(&mut self) {
        while let Some((key, bytes, kept_at)) = self.by_age.front()
            && (self.kept_bytes > KEPT_BYTES_MAX || kept_at.elapsed() > KEEP_TIME)
        {
            if let Some(next_page) = self.kept.remove(key).and_then(|page| key.next_page(&page)) {
                self.expected.remove(&next_page);
            }
            self.kept_bytes -= bytes;
            self.by_age.pop_front();
        }
    }
}

/// Returns whether a page stays correct for [`KEEP_TIME`].
///
/// A page with a `lost-tail` gap does not, because the gap record may be written a moment later. A
/// page with no events does not, because an event may follow at any time. Other gaps are permanent.
fn may_be_kept(page: &Page) -> bool {
    match page.start {
        Continuity::Contiguous => !page.events.is_empty(),
        Continuity::Gap { reason, .. } => reason != GapReason::LostTail,
    }
}

fn page_bytes(page: &Page) -> usize {
    let text_bytes = page.events.iter().map(Stored::size).sum::<usize>();
    text_bytes + page.events.len() * EVENT_OVERHEAD_BYTES
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use sse_proto::Event;

    use super::*;
    use crate::{broker::Publisher, fanout::test_support::memory_broker};

    #[tokio::test]
    async fn the_next_page_is_read_ahead_for_a_stream_that_reads_on() {
        let broker = memory_broker();
        let event = |number: usize| Event {
            kind: "number".parse().unwrap(),
            data: number.to_string().into(),
        };
        let (channel, events) = (Channel::default_channel(), (0..25).map(event).collect());
        let appended = broker.append(Publisher::default(), &channel, events).await;
        appended.unwrap();
        let pages = PageCache::new(broker, 1000, Metrics::new(), Handle::current());
        let mut key = PageKey {
            channel,
            from: ReadFrom::Oldest,
            events_max: 10,
            epoch: 1,
        };

        let first = pages.read(key.clone()).await.unwrap();
        key = key.next_page(&first).unwrap();
        assert!(pages.cached(&key).is_none(), "no stream has read on yet");
        let second = pages.read(key.clone()).await.unwrap();
        key = key.next_page(&second).unwrap();
        while pages.cached(&key).is_none() {
            tokio::task::yield_now().await;
        }
        let third = pages.cached(&key).unwrap();
        let pages = [&first, &second, &third].into_iter();
        let read = pages.flat_map(|page| page.events.iter().map(|event| event.data.to_string()));
        assert!(read.eq((0..25).map(|number: usize| number.to_string())));
        assert_eq!(key.next_page(&third), None, "the log ends here for now");
    }
}
