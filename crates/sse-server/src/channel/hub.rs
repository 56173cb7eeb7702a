//! The channels that somebody listens to now: for each a tail, which is fed from the log.
//!
//! A channel without subscribers costs nothing here, and one where nothing happens no task. Each follows its channel
//! first and reads the log then, so it misses nothing; each read proves that the log still continues the tail.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use sse_proto::{Channel, EventId, Position};
use tokio::{runtime::Handle, time::sleep};

use super::tail::{Tail, TailLimits};
use crate::broker::{self, Broker, BrokerError, Page, PageLimits, ReadFrom, notify::Watcher};

/// One read of the log for a tail.
const FEED_LIMITS: PageLimits = PageLimits {
    events_max: 1000,
    bytes_max: 1 << 20,
};
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
    /// A hub that reads the log on `runtime`.
    #[must_use]
    pub fn new(broker: Broker, limits: TailLimits, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            broker,
            limits,
            runtime,
            channels: Mutex::default(),
        }))
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
        let live = Arc::new(LiveChannel {
            tail: Tail::new(self.0.limits),
            channel: channel.clone(),
            feed: Mutex::new(Feed::Resting { position: None }),
            hub: Arc::downgrade(&self.0),
        });
        channels.insert(channel.clone(), Arc::downgrade(&live));
        // Follow before reading: the other order loses every event published between the two.
        let watcher: Arc<dyn Watcher> = live.clone();
        self.0.broker.follow(channel, Arc::downgrade(&watcher));
        watcher.changed();
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
    pub tail: Tail,
    channel: Channel,
    feed: Mutex<Feed>,
    hub: Weak<Inner>,
}

/// What is done to feed a tail. Very many channels do nothing but wait for their bell, so they have no task for it.
#[derive(Debug)]
enum Feed {
    /// Nothing: everything up to here was read; not even where the log ends, if there is no position.
    Resting { position: Option<EventId> },
    /// A task reads. `again` if the bell has rung since.
    Reading { again: bool },
}

impl LiveChannel {
    fn feed(&self) -> MutexGuard<'_, Feed> {
        // It is valid at every step.
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rests at a position behind which nothing was found. False if the bell has rung meanwhile.
    fn rests(&self, position: EventId) -> bool {
        let mut feed = self.feed();
        let has_rung = matches!(*feed, Feed::Reading { again: true });
        *feed = if has_rung {
            Feed::Reading { again: false }
        } else {
            Feed::Resting {
                position: Some(position),
            }
        };
        !has_rung
    }

    /// Takes over what was found behind a position. Returns its end, and whether more may follow.
    fn take(&self, position: EventId, page: Page) -> (EventId, bool) {
        let channel = &self.channel;
        let (end, more) = (page.end(after(position)).floor(), page.more);
        // What came instead lies before lost events that were sent (the clock of the log was set back): there is no tail
        // that has both in order.
        let is_interleaved = page
            .events
            .first()
            .is_some_and(|first| first.id <= position);
        if let broker::Continuity::Gap {
            lost: Some(lost), ..
        } = page.start
            && !is_interleaved
        {
            tracing::warn!(%channel, after = %position, ?lost, "the log has lost its end; going on with what came instead");
            // The gap is told by its record, which is one of these or follows them.
            self.tail.update(|frames| {
                frames.rewind(lost.after);
                frames.push(page.events);
            });
            return (end, more);
        }
        if let broker::Continuity::Gap { reason, .. } = page.start {
            tracing::warn!(%channel, after = %position, ?reason, "the log does not continue here; proving every cursor");
            let last = page.last;
            self.tail.update(|frames| frames.join(last));
            return (last, false);
        }
        if !page.events.is_empty() {
            self.tail.update(|frames| frames.push(page.events));
        }
        (end, more)
    }
}

impl Watcher for LiveChannel {
    fn changed(self: Arc<Self>) {
        let Some(hub) = self.hub.upgrade() else {
            return;
        };
        let mut feed = self.feed();
        match &mut *feed {
            Feed::Reading { again } => *again = true,
            Feed::Resting { position } => {
                let position = *position;
                *feed = Feed::Reading { again: false };
                drop(feed);
                let task = read_on(
                    hub.broker.clone(),
                    self.channel.clone(),
                    position,
                    Arc::downgrade(&self),
                );
                hub.runtime.spawn(task);
            }
        }
    }
}

impl Drop for LiveChannel {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            let mut channels = hub.lock();
            // Somebody may have joined anew meanwhile.
            if channels
                .get(&self.channel)
                .is_some_and(|live| live.strong_count() == 0)
            {
                channels.remove(&self.channel);
            }
            drop(channels);
            hub.broker.remove_dropped_watchers(&self.channel);
        }
    }
}

/// Feeds a tail with what follows `position` in the log, until there is nothing more, or nobody listens.
async fn read_on(
    broker: Broker,
    channel: Channel,
    mut position: Option<EventId>,
    live: Weak<LiveChannel>,
) {
    let mut trouble = Trouble::default();
    loop {
        let found = match position {
            Some(position) => broker
                .read(&channel, after(position), FEED_LIMITS)
                .await
                .map(|page| (position, Some(page))),
            None => broker.last_id(&channel).await.map(|head| (head, None)),
        };
        // Only now: while a read is under way, everybody may leave.
        let Some(live) = live.upgrade() else { return };
        match found {
            Ok((before, Some(page))) => {
                trouble = Trouble::default();
                let (end, more) = live.take(before, page);
                if !more && live.rests(end) {
                    return;
                }
                position = Some(end);
            }
            Ok((head, None)) => {
                live.tail.update(|frames| frames.join(head));
                position = Some(head);
            }
            Err(error) => {
                drop(live);
                trouble.pause(&channel, &error).await;
            }
        }
    }
}

const fn after(position: EventId) -> ReadFrom {
    ReadFrom::Position(Position::After(position))
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
