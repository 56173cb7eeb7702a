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
//!
//! A client may start 16 reads at a time, so thousands of streams of one client
//! that are all behind at positions of their own delay no other client.

mod kept;

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, ready},
};
use sse_proto::Channel;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::sleep,
};

use self::kept::{CacheState, page_bytes};
use crate::{
    broker::{Broker, BrokerError, Page, PageLimits, ReadFrom},
    budget::{Budget, ClientNet, Share},
    channel::{Searcher, Searches},
    metrics::{Level, Metrics, Waiting},
    retry::RETRY_INTERVAL,
};

/// Bytes per read. With the fields around the data this makes about one chunk.
const PAGE_BYTES_MAX: usize = 48 << 10;
/// Events in a page of the usual size, before it is read.
const SEARCH_PAGE_EVENTS: usize = 500;
/// Bytes of all pages: in flight, waiting for their streams, and kept.
const BYTES_MAX: usize = 32 << 20;
/// Reads that the streams of one client may start at a time.
const CLIENT_READS_MAX: usize = 16;

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
    searches: Searches,
    metrics: Metrics,
    runtime: Handle,
    /// The reads that streams have started. Only the memory limits all of them together.
    reads: Budget,
    reads_waiting: Level,
    /// Memory that is left for pages, in KiB.
    memory: Arc<Semaphore>,
    /// Memory that a read reserves until the size of its page is known.
    reserved_kib: u32,
    state: Mutex<CacheState>,
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
            searches: Searches::new(metrics.clone()),
            reads: Budget::new(usize::MAX, CLIENT_READS_MAX),
            reads_waiting: metrics.page_reads_waiting(),
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

    /// The limits of searches.
    pub(crate) fn searches(&self) -> &Searches {
        &self.0.searches
    }

    /// Returns the page for a stream whose filter may keep all its events back.
    ///
    /// The turn belongs to the caller and not to the read, which streams of other clients may share.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub(crate) async fn search(&self, key: PageKey, searcher: Searcher) -> PageResult {
        let turn = searcher.start_page(SEARCH_PAGE_EVENTS).await?;
        if let Some(page) = self.cached(&key) {
            turn.finish(0);
            return Ok(page);
        }
        let page = self.read(key, searcher.client()).await?;
        turn.finish(page.events.len());
        Ok(page)
    }

    /// Returns the page for a stream of `client`, which another stream may have read a moment ago.
    ///
    /// # Errors
    ///
    /// - [`BrokerError::Unavailable`]: the broker did not answer. The error comes after a pause of
    ///   `RETRY_INTERVAL`, so the caller can repeat the read at once.
    /// - [`BrokerError::Damaged`]: the log is unreadable at this position, after the same pause.
    pub(crate) async fn read(&self, key: PageKey, client: Option<ClientNet>) -> PageResult {
        let known = self.find(&mut self.0.lock_state(), &key);
        if let Some(known) = known {
            return known.await;
        }
        let waiting = Waiting::new(&self.0.reads_waiting);
        let turn = self.0.reads.acquire(client, 1, Duration::MAX).await;
        drop(waiting);
        let read = {
            let mut state = self.0.lock_state();
            let known = self.find(&mut state, &key);
            known.unwrap_or_else(|| {
                let reads_on = state.expected.contains(&key);
                self.start_read(&mut state, key, reads_on, turn)
            })
        };
        read.await
    }

    /// Returns the page if it is kept or in flight.
    fn find(&self, state: &mut CacheState, key: &PageKey) -> Option<InFlight> {
        if let Some(page) = self.find_kept(state, key) {
            return Some(ready(Ok(page)).boxed().shared());
        }
        state.in_flight.get(key).cloned()
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
    /// page for the streams that come later. The `turn` of the client belongs to it: a client that
    /// closes its stream cannot start another read meanwhile.
    fn start_read(
        &self,
        state: &mut CacheState,
        key: PageKey,
        reads_on: bool,
        turn: Option<Share>,
    ) -> InFlight {
        let (sender, result) = oneshot::channel();
        let pages = self.clone();
        let read_key = key.clone();
        self.0.runtime.spawn(async move {
            let result = pages.0.read(&read_key).await;
            drop(turn);
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
            drop(self.start_read(state, next, false, None));
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

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
