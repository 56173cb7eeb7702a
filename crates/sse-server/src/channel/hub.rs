//! The channels that somebody listens to now: for each a tail, and one task that feeds it from the log.
//!
//! A channel without subscribers costs nothing here. The feeding task follows the channel first and reads the log
//! then, so it misses nothing; each of its reads proves that the log still continues the tail.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use sse_proto::{Channel, EventId, Position};
use tokio::{runtime::Handle, task::AbortHandle, time::sleep};

use super::tail::{Tail, TailLimits};
use crate::broker::{self, Broker, BrokerError, From, PageLimits};

/// One read of the log for a tail.
const FEED_LIMITS: PageLimits = PageLimits { events_max: 1000, bytes_max: 1 << 20 };
/// Between two attempts to reach a broker that is away.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// All channels that somebody listens to.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: Broker,
    limits: TailLimits,
    runtime: Handle,
    channels: Mutex<HashMap<Channel, Weak<LiveChannel>>>,
}

impl Hub {
    /// A hub whose feeding tasks run on `runtime`.
    #[must_use]
    pub fn new(broker: Broker, limits: TailLimits, runtime: Handle) -> Self {
        Self(Arc::new(Inner { broker, limits, runtime, channels: Mutex::default() }))
    }

    /// The broker behind it.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.0.broker
    }

    /// The channel, fed for as long as somebody holds it.
    #[must_use]
    pub fn join(&self, channel: &Channel) -> Arc<LiveChannel> {
        let mut channels = self.0.lock();
        if let Some(live) = channels.get(channel).and_then(Weak::upgrade) {
            return live;
        }
        let tail = Arc::new(Tail::new(self.0.limits));
        let feed = self.0.runtime.spawn(feed(self.0.broker.clone(), channel.clone(), tail.clone()));
        let live = Arc::new(LiveChannel {
            tail,
            channel: channel.clone(),
            feed: feed.abort_handle(),
            hub: Arc::downgrade(&self.0),
        });
        channels.insert(channel.clone(), Arc::downgrade(&live));
        live
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<Channel, Weak<LiveChannel>>> {
        // No code panics while it holds this lock.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel that somebody listens to. Its feed ends when nobody holds it any more.
#[derive(Debug)]
pub struct LiveChannel {
    /// The newest events.
    pub tail: Arc<Tail>,
    channel: Channel,
    feed: AbortHandle,
    hub: Weak<Inner>,
}

impl Drop for LiveChannel {
    fn drop(&mut self) {
        self.feed.abort();
        if let Some(hub) = self.hub.upgrade() {
            let mut channels = hub.lock();
            // Somebody may have joined anew meanwhile.
            if channels.get(&self.channel).is_some_and(|live| live.strong_count() == 0) {
                channels.remove(&self.channel);
            }
        }
    }
}

/// Feeds a tail from the log, for ever.
async fn feed(broker: Broker, channel: Channel, tail: Arc<Tail>) {
    // Follow before reading: the other order loses every event published between the two.
    let bell = broker.follow(&channel);
    let mut trouble = Trouble::default();
    // In boxes, because very many channels do nothing but wait for their bell.
    let mut position = loop {
        match Box::pin(broker.head(&channel)).await {
            Ok(head) => break head,
            Err(error) => Box::pin(trouble.pause(&channel, &error)).await,
        }
    };
    tail.update(|frames| frames.join(position));
    loop {
        match Box::pin(read_on(&broker, &channel, position, &tail)).await {
            Ok((end, more)) => {
                trouble = Trouble::default();
                position = end;
                if !more {
                    bell.rung().await;
                }
            }
            Err(error) => Box::pin(trouble.pause(&channel, &error)).await,
        }
    }
}

/// Adds a page to the tail; returns its end, and whether more follows.
async fn read_on(
    broker: &Broker,
    channel: &Channel,
    position: EventId,
    tail: &Tail,
) -> Result<(EventId, bool), BrokerError> {
    let asked = From::Position(Position::After(position));
    let page = broker.read(channel, asked, FEED_LIMITS).await?;
    let (end, more) = (page.end(asked).floor(), page.more);
    // What came instead lies before lost events that were sent (the clock of the log was set back): there is no tail that has
    // both in order.
    let is_interleaved = page.events.first().is_some_and(|first| first.id <= position);
    if let broker::Start::Gap { lost: Some(lost), .. } = page.start
        && !is_interleaved
    {
        tracing::warn!(%channel, after = %position, ?lost, "the log has lost its end; going on with what came instead");
        // The gap is told by its record, which is one of these or follows them.
        tail.update(|frames| {
            frames.rewind(lost.after);
            frames.push(page.events);
        });
        return Ok((end, more));
    }
    if let broker::Start::Gap { reason, .. } = page.start {
        tracing::warn!(%channel, after = %position, ?reason, "the log does not continue here; proving every cursor");
        let last = page.last;
        tail.update(|frames| frames.join(last));
        return Ok((last, false));
    }
    if !page.events.is_empty() {
        tail.update(|frames| frames.push(page.events));
    }
    Ok((end, more))
}

/// The broker cannot be read: says so once, and waits between attempts.
#[derive(Debug, Default)]
struct Trouble {
    said: bool,
}

impl Trouble {
    async fn pause(&mut self, channel: &Channel, error: &BrokerError) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!(%channel, %error, "the log cannot be read; trying again until it can");
        }
        sleep(RETRY_AFTER).await;
    }
}
