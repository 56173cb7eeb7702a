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
const KEPT_BYTES_MAX: usize = BYTES_MAX / 2;
/// How long a page is kept: long enough for a crowd that comes back at once and reads at different speeds.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// What an event takes beyond its text.
const EVENT_BYTES: usize = 64;
/// Between two attempts to reach a broker that is away.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Which page is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Of this channel.
    pub channel: Channel,
    /// From here on.
    pub from: ReadFrom,
    /// At most so many events.
    pub events_max: usize,
    /// Of the channel's tail: after a fork of the log its old pages are wrong.
    pub epoch: u64,
}

impl Ask {
    /// For the page behind this one; none if nothing is there yet.
    fn following(&self, page: &Page) -> Option<Self> {
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

type Answer = Result<SharedPage, BrokerError>;
type Flight = Shared<BoxFuture<'static, Answer>>;

/// Reads pages, and keeps them for a moment; clones share them.
#[derive(Clone)]
pub struct Pages(Arc<Inner>);

struct Inner {
    broker: Broker,
    metrics: Metrics,
    runtime: Handle,
    /// In KiB.
    room: Arc<Semaphore>,
    /// What a page is taken to be until it is read.
    reserve_kib: u32,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    flights: HashMap<Ask, Flight>,
    pages: HashMap<Ask, SharedPage>,
    /// What follows a page that is kept: whoever asks for it reads on.
    expected: HashSet<Ask>,
    /// In the order in which they came.
    order: VecDeque<(Ask, usize, Instant)>,
    bytes: usize,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

impl Pages {
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
            kept: Mutex::default(),
        };
        Self(Arc::new(inner))
    }

    /// The page, if it is at hand.
    #[must_use]
    pub fn at_hand(&self, ask: &Ask) -> Option<SharedPage> {
        self.kept_page(&mut self.0.kept(), ask)
    }

    /// The page, which may have been read for somebody else a moment ago. With the broker away the error comes after a
    /// pause.
    ///
    /// # Errors
    /// `Unavailable`, `Damaged`.
    pub async fn read(&self, ask: Ask) -> Answer {
        let flight = {
            let mut kept = self.0.kept();
            if let Some(page) = self.kept_page(&mut kept, &ask) {
                return Ok(page);
            }
            let reads_on = kept.expected.contains(&ask);
            kept.flights
                .get(&ask)
                .cloned()
                .unwrap_or_else(|| self.take_off(&mut kept, ask, reads_on))
        };
        flight.await
    }

    fn kept_page(&self, kept: &mut Kept, ask: &Ask) -> Option<SharedPage> {
        let page = kept.page(ask)?;
        if kept.expected.contains(ask) {
            self.read_ahead(kept, ask, &page);
        }
        Some(page)
    }

    /// Runs to its end even if nobody waits any more, so that it gives back what it holds.
    fn take_off(&self, kept: &mut Kept, ask: Ask, reads_on: bool) -> Flight {
        let (done, answer) = oneshot::channel();
        let pages = self.clone();
        let asked = ask.clone();
        self.0.runtime.spawn(async move {
            let answer = pages.0.read(&asked).await;
            let mut kept = pages.0.kept();
            kept.land(&asked, &answer);
            if let (true, Ok(page)) = (reads_on, &answer) {
                pages.read_ahead(&mut kept, &asked, page);
            }
            drop(kept);
            // Nobody may wait any more.
            let _ = done.send(answer);
        });
        let lost = || BrokerError::Unavailable("the server is stopping".to_owned());
        let flight = answer
            .map(move |answer| answer.unwrap_or_else(|_| Err(lost())))
            .boxed()
            .shared();
        kept.flights.insert(ask, flight.clone());
        flight
    }

    /// Reads what follows a page, unless the memory is wanted for pages that somebody waits for.
    fn read_ahead(&self, kept: &mut Kept, ask: &Ask, page: &Page) {
        let has_room = self.0.room.available_permits() >= 2 * self.0.reserve_kib as usize;
        if let Some(next) = ask.following(page)
            && has_room
            && !kept.pages.contains_key(&next)
            && !kept.flights.contains_key(&next)
        {
            drop(self.take_off(kept, next, false));
        }
    }
}

impl Inner {
    async fn read(&self, ask: &Ask) -> Answer {
        let room = self.room.clone().acquire_many_owned(self.reserve_kib);
        let mut room = room.await.expect("it is never closed");
        let limits = PageLimits {
            events_max: ask.events_max,
            bytes_max: PAGE_BYTES_MAX,
        };
        self.metrics.page_read();
        match self.broker.read(&ask.channel, ask.from, limits).await {
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

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it holds this lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn land(&mut self, ask: &Ask, answer: &Answer) {
        self.flights.remove(ask);
        if let Ok(page) = answer
            && is_true_for_a_while(page)
        {
            self.keep(ask.clone(), page.clone());
        }
    }

    fn page(&mut self, ask: &Ask) -> Option<SharedPage> {
        self.discard();
        self.pages.get(ask).cloned()
    }

    fn keep(&mut self, ask: Ask, page: SharedPage) {
        let bytes = size(&page);
        self.bytes += bytes;
        self.expected.extend(ask.following(&page));
        self.pages.insert(ask.clone(), page);
        self.order.push_back((ask, bytes, Instant::now()));
        self.discard();
    }

    /// Throws away what is too old or too much.
    fn discard(&mut self) {
        while let Some((ask, bytes, at)) = self.order.front()
            && (self.bytes > KEPT_BYTES_MAX || at.elapsed() > KEPT_FOR)
        {
            if let Some(following) = self.pages.remove(ask).and_then(|page| ask.following(&page)) {
                self.expected.remove(&following);
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
        let pages = Pages::new(broker, 1000, Metrics::new(), Handle::current());
        let mut ask = Ask {
            channel: Channel::default_channel(),
            from: ReadFrom::Oldest,
            events_max: 10,
            epoch: 1,
        };

        let first = pages.read(ask.clone()).await.unwrap();
        ask = ask.following(&first).unwrap();
        assert!(pages.at_hand(&ask).is_none(), "nobody has read on yet");
        let second = pages.read(ask.clone()).await.unwrap();
        ask = ask.following(&second).unwrap();
        while pages.at_hand(&ask).is_none() {
            tokio::task::yield_now().await;
        }
        let third = pages.at_hand(&ask).unwrap();
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
        assert_eq!(ask.following(&third), None, "this is the end for now");
    }
}
