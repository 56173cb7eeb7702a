//! The key set that an issuer serves by URL.
//!
//! One task fetches the set: at start, when it is no longer fresh, and when a token names a key
//! that the set does not have. Fetches begin at least [`FetchTiming::interval`] apart, so tokens
//! with invented keys cause no load on the issuer.
//!
//! A request with an unknown key waits for a fetch that begins *after* it. An earlier fetch proves
//! nothing: the issuer may have added the key since. [`WAITERS_MAX`] requests can wait, a quarter of
//! them of one client; for others, and after a failed fetch, the issuer is unavailable, and the client
//! retries.
//!
//! ```text
//! request  reads begun = 7 ── requests a fetch ── waits until a fetch later than 7 has ended
//! task            fetch 7 ──────────┤   pause   ├── fetch 8 ──┤ ended = 8
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures::FutureExt as _;
use jsonwebtoken::Algorithm;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};
use url::Url;

use super::{
    fetch::{Fetched, Fetcher},
    key_set::KeySet,
};
use crate::{
    access::generation::Generation,
    budget::{Budget, ClientNet},
};

/// Requests of one issuer that wait for a fetch.
pub(crate) const WAITERS_MAX: usize = 64;
/// Those of one client, which can invent the names of keys.
const CLIENT_WAITERS_MAX: usize = 16;

/// When a set is fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchTiming {
    /// The shortest time from the beginning of a fetch to that of the next.
    pub(crate) interval: Duration,
    /// The longest time of a fetch.
    pub(crate) timeout: Duration,
    /// How long a set is fresh if the issuer does not state it.
    pub(crate) fresh: Duration,
    /// The least and the most that the issuer can state.
    pub(crate) fresh_range: (Duration, Duration),
    /// The time until the next fetch after one that failed.
    pub(crate) retry: Duration,
    /// How long a set is used after it was fetched.
    pub(crate) keep: Duration,
}

impl Default for FetchTiming {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            fresh: Duration::from_mins(5),
            fresh_range: (Duration::from_mins(1), Duration::from_hours(1)),
            retry: Duration::from_secs(30),
            keep: Duration::from_hours(24),
        }
    }
}

/// The keys of an issuer, and the task that fetches them, which ends with this.
#[derive(Debug)]
pub(crate) struct RemoteKeys {
    shared: Arc<Shared>,
    /// `None` if there was no runtime to start it in.
    task: Option<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    url: Url,
    rsa_algorithm: Algorithm,
    timing: FetchTiming,
    set: ArcSwapOption<KeySet>,
    generation: Arc<Generation>,
    waiters: Budget,
    wanted: Notify,
    /// The number of the last fetch that has begun.
    begun: AtomicU64,
    ended: watch::Sender<EndedFetch>,
}

#[derive(Debug, Clone, Copy, Default)]
struct EndedFetch {
    number: u64,
    succeeded: bool,
}

impl EndedFetch {
    const fn has_failed(self) -> bool {
        self.number > 0 && !self.succeeded
    }
}

/// The keys cannot be fetched now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeysUnavailable;

impl RemoteKeys {
    /// Starts to fetch the set of `url`.
    pub(crate) fn start(
        url: Url,
        rsa_algorithm: Algorithm,
        timing: FetchTiming,
        generation: Arc<Generation>,
        runtime: Option<&Handle>,
    ) -> Self {
        let shared = Arc::new(Shared {
            url,
            rsa_algorithm,
            timing,
            set: ArcSwapOption::empty(),
            generation,
            waiters: Budget::new(WAITERS_MAX, CLIENT_WAITERS_MAX),
            wanted: Notify::new(),
            begun: AtomicU64::new(0),
            ended: watch::Sender::default(),
        });
        let task = runtime.map(|runtime| runtime.spawn(keep_fetching(shared.clone())));
        Self {
            shared,
            task: task.map(|task| task.abort_handle()),
        }
    }

    /// Returns whether this fetches the same set.
    pub(crate) fn is_of(&self, url: &Url, rsa_algorithm: Algorithm) -> bool {
        self.shared.url == *url && self.shared.rsa_algorithm == rsa_algorithm
    }

    /// Returns the present set; `None` if it was never fetched, or too long ago.
    pub(crate) fn current(&self) -> Option<Arc<KeySet>> {
        self.shared.set.load_full()
    }

    /// Returns the number of the last fetch that has begun. A later one proves what the set contains
    /// now.
    pub(crate) fn begun(&self) -> u64 {
        self.shared.begun.load(Ordering::SeqCst)
    }

    /// Waits until a fetch has ended that may have found the key of a request of `client`, and returns
    /// whether it is proof: whether it began after fetch number `begun`.
    ///
    /// Without a set, the fetch that is in progress may find the key.
    ///
    /// # Errors
    ///
    /// The fetch failed, or too many requests wait already. Without a set, a request does not wait
    /// if the last fetch failed.
    pub(crate) async fn wait_for_fetch(
        &self,
        begun: u64,
        client: Option<ClientNet>,
    ) -> Result<bool, KeysUnavailable> {
        let shared = &self.shared;
        let share = shared.waiters.try_acquire(client, 1);
        let _share = share.ok_or(KeysUnavailable)?;
        // The task ends early only if it has no HTTP client.
        if self.task.as_ref().is_none_or(AbortHandle::is_finished) {
            return Err(KeysUnavailable);
        }
        shared.wanted.notify_one();
        let mut ended = shared.ended.subscribe();
        let last = *ended.borrow();
        let has_set = shared.set.load().is_some();
        if !has_set && last.has_failed() {
            return Err(KeysUnavailable);
        }
        let after = if has_set { begun } else { last.number };
        let wait = ended.wait_for(|fetch| fetch.number > after);
        // The pause before the fetch, a fetch that is in progress, and the fetch itself.
        let longest = shared.timing.interval + 2 * shared.timing.timeout;
        match timeout(longest, wait).await {
            Ok(Ok(fetch)) if fetch.succeeded => Ok(fetch.number > begun),
            _ => Err(KeysUnavailable),
        }
    }
}

impl Drop for RemoteKeys {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Fetches the set again and again.
async fn keep_fetching(shared: Arc<Shared>) {
    let timing = shared.timing;
    let client = Fetcher::new(shared.url.clone(), shared.rsa_algorithm, timing.timeout);
    let mut client = match client {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(url = %shared.url, error, "the keys of an issuer are never fetched");
            return;
        }
    };
    let mut progress = Progress::default();
    loop {
        let number = shared.begin_fetch();
        let begun_at = Instant::now();
        let fetched = client.fetch(shared.set.load().is_some()).await;
        let succeeded = fetched.is_ok();
        let pause = shared.apply(fetched, &mut progress);
        shared.ended.send_replace(EndedFetch { number, succeeded });
        tokio::select! {
            () = shared.wanted.notified() => {}
            () = sleep_until(begun_at + pause) => {}
        }
        sleep_until(begun_at + timing.interval).await;
    }
}

/// What the task knows about earlier fetches.
#[derive(Debug, Default)]
struct Progress {
    succeeded_at: Option<Instant>,
    is_failing: bool,
}

impl Shared {
    /// Returns the number of the fetch that begins now.
    fn begin_fetch(&self) -> u64 {
        // Requests before this moment are served by this fetch.
        let _ = self.wanted.notified().now_or_never();
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Uses what a fetch found, and returns the time from its beginning until the next.
    fn apply(&self, fetched: Result<Fetched, String>, progress: &mut Progress) -> Duration {
        match fetched {
            Ok(fetched) => {
                progress.succeeded_at = Some(Instant::now());
                if std::mem::take(&mut progress.is_failing) {
                    tracing::info!(url = %self.url, "the keys of an issuer can be fetched again");
                }
                if let Some(set) = fetched.set {
                    self.replace(Some(set));
                }
                let (least, most) = self.timing.fresh_range;
                fetched
                    .max_age
                    .unwrap_or(self.timing.fresh)
                    .clamp(least, most)
            }
            Err(error) => {
                if !std::mem::replace(&mut progress.is_failing, true) {
                    tracing::warn!(url = %self.url, error, "the keys of an issuer cannot be fetched");
                }
                self.drop_outdated(progress);
                self.timing.retry
            }
        }
    }

    /// Forgets the set if it is too old.
    fn drop_outdated(&self, progress: &Progress) {
        let is_old = |at: Instant| at.elapsed() >= self.timing.keep;
        if progress.succeeded_at.is_some_and(is_old) {
            self.replace(None);
        }
    }

    /// Replaces the set. What was verified with the old one must be checked again if it differs.
    fn replace(&self, set: Option<KeySet>) {
        let old = self.set.load_full();
        if old.as_deref() == set.as_ref() {
            return;
        }
        tracing::info!(url = %self.url, keys = set.as_ref().map_or(0, KeySet::len), "the keys of an issuer have changed");
        self.set.store(set.map(Arc::new));
        self.generation.increase();
    }
}
