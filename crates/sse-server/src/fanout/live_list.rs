//! The list of what is live, which many requests may ask for at the same time.
//!
//! A list costs each fan-out thread a look at all of its streams, while no stream is served. So only
//! one list is made at a time. It answers all requests that arrived before it was begun, and between
//! two lists is a pause that is longer than the list took:
//!
//! ```text
//! requests   1      2  3             4
//! list       ├──────┤   pause   ├──────┤          the first list answers 1, the second 2, 3 and 4
//! ```

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sse_proto::Channel;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

use super::mailbox::StreamInfo;

/// The pause after a list, as a multiple of the time that the list took: fan-out threads make lists
/// for at most a twentieth of their time.
const PAUSE_FACTOR: u32 = 19;
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The live channels and streams of one server.
#[derive(Debug, Clone, Default)]
pub struct LiveList {
    /// Channels with subscribers on this server, in no order.
    pub channels: Vec<Channel>,
    /// Open streams, in no order. Without access rules, a stream is listed once its opening is
    /// sent.
    pub streams: Vec<StreamInfo>,
    counts: OnceLock<HashMap<Channel, usize>>,
}

impl LiveList {
    pub(super) const fn new(channels: Vec<Channel>, streams: Vec<StreamInfo>) -> Self {
        Self {
            channels,
            streams,
            counts: OnceLock::new(),
        }
    }

    /// Returns the number of streams of a channel.
    pub(crate) fn count_streams(&self, channel: &Channel) -> usize {
        let counts = self.counts.get_or_init(|| self.count_all());
        counts.get(channel).copied().unwrap_or(0)
    }

    fn count_all(&self) -> HashMap<Channel, usize> {
        let mut counts = HashMap::new();
        for channel in self.streams.iter().flat_map(|stream| &stream.channels) {
            *counts.entry(channel.clone()).or_default() += 1;
        }
        counts
    }
}

/// Makes one list at a time; clones share it.
#[derive(Debug, Clone, Default)]
pub struct ListTurns(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    last: Mutex<Option<LastList>>,
    /// Requests that wait for a list or have just got one.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct LastList {
    begun: Instant,
    /// When the next list may be begun.
    next: Instant,
    /// `None` once no request waits for it.
    list: Option<Arc<LiveList>>,
}

impl ListTurns {
    /// Returns a list that was begun after this call.
    pub(super) async fn list(&self, make: impl AsyncFnOnce() -> LiveList) -> Arc<LiveList> {
        let asked = Instant::now();
        let waiting = WaitingRequest::new(&self.0.waiting);
        let mut previous = self.0.last.lock().await;
        let list = match &*previous {
            Some(LastList {
                begun,
                list: Some(list),
                ..
            }) if *begun > asked => list.clone(),
            _ => {
                if let Some(previous) = &*previous {
                    sleep_until(previous.next).await;
                }
                let begun = Instant::now();
                let list = Arc::new(make().await);
                let pause = (begun.elapsed() * PAUSE_FACTOR).min(PAUSE_MAX);
                *previous = Some(LastList {
                    begun,
                    next: Instant::now() + pause,
                    list: Some(list.clone()),
                });
                list
            }
        };
        if waiting.is_only_one()
            && let Some(previous) = &mut *previous
        {
            previous.list = None;
        }
        list
    }
}

/// Counts a request while it waits.
struct WaitingRequest<'a>(&'a AtomicUsize);

impl<'a> WaitingRequest<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }

    fn is_only_one(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }
}

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    /// The paused clock advances whenever the test has nothing else to wait for.
    #[tokio::test(start_paused = true)]
    async fn requests_that_arrive_during_a_list_share_the_next_one() {
        let turns = ListTurns::default();
        let count = AtomicUsize::new(0);
        let list = async || {
            let make = async || {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
                LiveList::default()
            };
            turns.list(make).await
        };
        let begun = Instant::now();
        let later = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            join_all((0..100).map(|_| list())).await
        };
        tokio::join!(list(), later);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        // Two lists and the pause between them.
        assert_eq!(begun.elapsed(), Duration::from_millis(10 + 190 + 10));
        let previous = turns.0.last.lock().await;
        assert!(
            previous
                .as_ref()
                .is_some_and(|previous| previous.list.is_none())
        );
    }
}
