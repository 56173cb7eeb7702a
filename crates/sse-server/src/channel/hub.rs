//! Hub: the channels that have subscribers, each with a tail that is fed from the log.
//!
//! A channel without subscribers costs nothing here, and a channel without new events has no task.
//! A channel follows the log first and reads it then, so it misses no event. Each read proves that
//! the log still continues the tail; the module `feed` decides what a page means.
//!
//! An in-process log hands over each group of events after its commit. If the group continues the
//! tail, the thread that committed appends it, and no task reads: the only wake-up is that of the
//! thread which owns the sockets. Otherwise the log is read.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak},
};

use smallvec::SmallVec;
use sse_proto::Channel;
use tokio::runtime::Handle;

use super::{
    feed::{FeedStep, TailChange},
    feed_outage::{FailingChannel, FeedOutage},
    feed_read::read_next,
    feed_state::{Feed, FeedPosition},
    tail::{Tail, TailLimits},
    tail_memory::TailMemory,
    write_order::{Rank, Ranked, WriteOrder},
};
use crate::{
    broker::{Broker, CommittedGroup, FollowLimitReached, FollowPermit, notify::Watcher},
    budget::ClientNet,
    metrics::Metrics,
    supervised::supervised_task,
};

/// All channels that have subscribers.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: Broker,
    limits: TailLimits,
    memory: TailMemory,
    /// The channels whose tails have frames.
    order: WriteOrder<LiveChannel>,
    /// Locked while a task cuts the tails.
    cutting: Mutex<()>,
    metrics: Metrics,
    runtime: Handle,
    channels: Mutex<HashMap<Channel, Weak<LiveChannel>>>,
    outage: Arc<FeedOutage>,
}

impl Hub {
    /// A hub that reads the log on `runtime`. All tails together take up to `tails_bytes_max`.
    #[must_use]
    pub fn new(
        broker: Broker,
        limits: TailLimits,
        tails_bytes_max: usize,
        metrics: Metrics,
        runtime: Handle,
    ) -> Self {
        Self(Arc::new(Inner {
            broker,
            limits,
            memory: TailMemory::new(tails_bytes_max, &metrics),
            order: WriteOrder::default(),
            cutting: Mutex::default(),
            metrics,
            runtime,
            channels: Mutex::default(),
            outage: Arc::default(),
        }))
    }

    /// The broker that the hub reads.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.0.broker
    }

    /// Reserves channels for a stream of `client` that may join them soon.
    ///
    /// A reserved channel counts as followed, but it is not fed before a stream joins it.
    ///
    /// # Errors
    ///
    /// The broker follows as many channels as it may.
    pub(crate) fn reserve(
        &self,
        channels: &[Channel],
        client: Option<ClientNet>,
    ) -> Result<ReservedChannels, FollowLimitReached> {
        let reserve =
            |channel| self.find_or_create(channel, client, || self.0.broker.follow_permit(client));
        channels
            .iter()
            .map(reserve)
            .collect::<Result<_, _>>()
            .map(ReservedChannels)
    }

    /// Returns the channel, whose tail is fed until the last subscriber drops it.
    #[must_use]
    pub fn join(&self, channel: &Channel) -> Arc<LiveChannel> {
        let Ok(live) = self.find_or_create(channel, None, || Ok::<_, Infallible>(None));
        live.start(&self.0.broker);
        live
    }

    fn find_or_create<E>(
        &self,
        channel: &Channel,
        client: Option<ClientNet>,
        permit: impl FnOnce() -> Result<Option<FollowPermit>, E>,
    ) -> Result<Arc<LiveChannel>, E> {
        let mut channels = self.0.lock();
        if let Some(live) = channels.get(channel).and_then(Weak::upgrade) {
            return Ok(live);
        }
        let live = Arc::new(LiveChannel {
            tail: Tail::new(self.0.limits, self.0.memory.clone()),
            channel: channel.clone(),
            feed: Mutex::default(),
            rank: Rank::default(),
            client,
            started: Once::new(),
            hub: Arc::downgrade(&self.0),
            _permit: permit()?,
        });
        channels.insert(channel.clone(), Arc::downgrade(&live));
        Ok(live)
    }

    /// The channels that have subscribers, in no order.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        let channels = self.0.lock();
        let is_live = |live: &Weak<LiveChannel>| live.strong_count() > 0;
        let live = channels.iter().filter(|(_, live)| is_live(live));
        live.map(|(channel, _)| channel.clone()).collect()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<Channel, Weak<LiveChannel>>> {
        // No code panics while it holds this lock.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the tails with the oldest last write if all tails take too much.
    fn limit_tails(&self) {
        if !self.memory.is_exceeded() {
            return;
        }
        let Ok(_cutting) = self.cutting.try_lock() else {
            return;
        };
        while let excess @ 1.. = self.memory.excess()
            && let Some(channel) = self.order.take_oldest()
        {
            if channel.tail.frames().cut(excess) {
                self.order.put_back(&channel);
            }
            self.metrics.tail_cut();
        }
    }
}

/// A channel with subscribers. Its feed ends when the last of them drops it.
#[derive(Debug)]
pub struct LiveChannel {
    /// The newest events.
    pub tail: Tail,
    channel: Channel,
    feed: Mutex<Feed>,
    /// Place of the tail among all tails.
    rank: Rank,
    /// The client that opened the channel, for which its newest id is looked up.
    client: Option<ClientNet>,
    /// Done once the channel follows the log.
    started: Once,
    hub: Weak<Inner>,
    /// Released after the channel is no longer followed.
    _permit: Option<FollowPermit>,
}

/// Channels that can be joined. They stay reserved until this is dropped.
#[derive(Debug)]
pub struct ReservedChannels(
    #[expect(dead_code, reason = "it keeps the channels")] SmallVec<[Arc<LiveChannel>; 1]>,
);

impl LiveChannel {
    /// Begins to feed the tail, unless it is fed already.
    fn start(self: &Arc<Self>, broker: &Broker) {
        self.started.call_once(|| {
            // Follow before reading: the other order loses every event published between the two.
            let watcher: Arc<dyn Watcher> = self.clone();
            broker.follow(&self.channel, Arc::downgrade(&watcher));
            watcher.changed();
        });
    }

    fn feed(&self) -> MutexGuard<'_, Feed> {
        // The state is valid after every statement, so a panic of another thread does no harm.
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_tail(self: &Arc<Self>, change: TailChange) {
        if change == TailChange::None {
            return;
        }
        change.log(&self.channel, self.tail.frames().end());
        let has_events = change.has_events();
        self.tail.update(|frames| change.apply(frames));
        if has_events {
            self.record_write();
        }
    }

    /// Records that the tail was written, and cuts tails if all of them take too much.
    fn record_write(self: &Arc<Self>) {
        if let Some(hub) = self.hub.upgrade() {
            hub.order.record_write(self);
            hub.limit_tails();
        }
    }

    /// Cuts tails if those of all channels take too much. No tail may be locked.
    pub fn limit_tails(&self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.limit_tails();
        }
    }
}

impl Ranked for LiveChannel {
    fn rank(&self) -> &Rank {
        &self.rank
    }
}

impl Watcher for LiveChannel {
    fn changed(self: Arc<Self>) {
        let Some(hub) = self.hub.upgrade() else {
            return;
        };
        let Some(position) = self.feed().start_read() else {
            return;
        };
        let channel = self.channel.clone();
        let task = feed_tail(hub.clone(), channel, position, Arc::downgrade(&self));
        hub.runtime
            .spawn(supervised_task("the feed of a channel", task));
    }

    fn committed(self: Arc<Self>, group: &CommittedGroup<'_>) {
        // Locked until the group is in the tail, because another publisher may hand over the next one.
        let is_taken = self.feed().take_group(group, &self.tail);
        if is_taken {
            self.tail.notify();
            self.record_write();
        } else {
            self.changed();
        }
    }
}

impl Drop for LiveChannel {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            let mut channels = hub.lock();
            // A new subscriber may have replaced the entry meanwhile.
            if channels
                .get(&self.channel)
                .is_some_and(|live| live.strong_count() == 0)
            {
                channels.remove(&self.channel);
            }
            drop(channels);
            hub.order.remove(&self.rank);
            hub.broker.remove_dropped_watchers(&self.channel);
        }
    }
}

/// Feeds a tail with the events after `position`, until the log has no more, or the channel has no
/// subscriber.
async fn feed_tail(
    hub: Arc<Inner>,
    channel: Channel,
    mut position: FeedPosition,
    live: Weak<LiveChannel>,
) {
    while let Some((live, step, reopenings)) = read_until_ok(&hub, &channel, position, &live).await
    {
        let FeedStep { change, end, more } = step;
        live.change_tail(change);
        if !more && live.feed().finish_read(end, reopenings) {
            return;
        }
        position = FeedPosition::After(end);
    }
}

/// Reads the log after `position` until a read succeeds. Returns how many times the log had been
/// opened again before that read, or `None` if the channel has no subscriber any more.
async fn read_until_ok(
    hub: &Inner,
    channel: &Channel,
    position: FeedPosition,
    live: &Weak<LiveChannel>,
) -> Option<(Arc<LiveChannel>, FeedStep, u64)> {
    let client = live.upgrade()?.client;
    let mut failing: Option<FailingChannel> = None;
    loop {
        let reopenings = hub.broker.reopenings();
        let result = read_next(&hub.broker, channel, position, client).await;
        // Upgrade after the read: all subscribers may leave while it runs.
        let live = live.upgrade()?;
        match result {
            Ok(step) => {
                if let Some(failing) = failing {
                    failing.recover();
                }
                return Some((live, step, reopenings));
            }
            Err(error) if failing.is_none() => {
                let followed = hub.lock().len();
                failing = Some(hub.outage.begin_failure(channel, followed, &error));
            }
            Err(_) => {}
        }
        // The pause must not keep the channel alive.
        drop(live);
        hub.outage.pause().await;
    }
}
