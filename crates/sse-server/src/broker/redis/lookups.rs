//! Lookups of the newest ids of channels: one queue, answered in batches.
//!
//! Each stream looks up where its channels end, and so does each tail. On their own, the lookups of
//! one client's streams would flood Redis, and after a failure all of them would be repeated at the
//! same moments. The queue treats them together:
//!
//! - Lookups of a channel that wait at the same time are one command.
//! - One batch is at Redis at a time. Clients take turns in it, channel by channel, so a client with
//!   one channel waits for at most one batch, however many channels another client has. A channel of
//!   several clients is looked up when the first of them has its turn.
//! - A batch that fails is repeated after a pause that grows. A lookup waits up to its time limit.
//!
//! Each primary has a queue of its own, so one that is away delays only its own channels.
//! [`LookupQueue`] knows nothing of Redis; [`run`] answers it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use sse_proto::{Channel, EventId};
use tokio::sync::{Notify, oneshot};

use super::{backoff::Backoff, replies::parse_last_id, scripts::stream_extent, shards::Shards};
use crate::{
    broker::BrokerError,
    budget::{ClientNet, Turns},
    metrics::Level,
};

/// Channels per batch.
const BATCH: usize = 32;

type Reply = Result<EventId, BrokerError>;
/// An address, or all clients without one.
type Client = Option<ClientNet>;

/// Who waits for the newest id of a channel.
#[derive(Debug, Default)]
struct Waiters {
    clients: HashSet<Client>,
    senders: Vec<oneshot::Sender<Reply>>,
}

impl Waiters {
    fn remove_cancelled(&mut self) {
        self.senders.retain(|sender| !sender.is_closed());
    }
}

/// The lookups that wait.
#[derive(Debug)]
pub(super) struct LookupQueue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    /// The number of channels that wait.
    level: Level,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The channels of each client. One without waiters was looked up for another client.
    channels: Turns<Channel>,
    waiters: HashMap<Channel, Waiters>,
}

impl LookupQueue {
    /// Creates an empty queue, which adds the number of its channels to `level`.
    pub(super) fn new(level: Level) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            level,
        }
    }

    /// Adds a lookup. Dropping the receiver cancels it.
    pub(super) fn add(&self, client: Client, channel: &Channel) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        self.change(|waiting| waiting.add(client, channel, sender));
        self.arrived.notify_one();
        receiver
    }

    async fn wait_for_lookups(&self) {
        while self.waiting().channels.is_empty() {
            self.arrived.notified().await;
        }
    }

    fn take_batch(&self) -> Vec<(Channel, Waiters)> {
        self.change(Waiting::take_batch)
    }

    /// Returns the lookups of a batch that failed to the queue, which forgets what was cancelled.
    fn put_back(&self, batch: Vec<(Channel, Waiters)>) {
        self.change(|waiting| {
            for (channel, waiters) in batch {
                waiting.put_back(channel, waiters);
            }
            waiting.tidy();
        });
    }

    /// Changes what waits, and updates the metric.
    fn change<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        let mut waiting = self.waiting();
        let before = waiting.waiters.len();
        let result = change(&mut waiting);
        let count = |channels: usize| i64::try_from(channels).unwrap_or(i64::MAX);
        self.level
            .inc_by(count(waiting.waiters.len()) - count(before));
        result
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // No code panics while it holds this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, client: Client, channel: &Channel, waiter: oneshot::Sender<Reply>) {
        self.add_client(client, channel);
        let waiters = self.waiters.entry(channel.clone()).or_default();
        waiters.senders.push(waiter);
    }

    /// Adds `client` to those for whom `channel` is looked up.
    fn add_client(&mut self, client: Client, channel: &Channel) {
        let waiters = self.waiters.entry(channel.clone()).or_default();
        if !waiters.clients.insert(client) {
            return;
        }
        self.channels.push(client, channel.clone());
    }

    fn put_back(&mut self, channel: Channel, waiters: Waiters) {
        for client in waiters.clients {
            self.add_client(client, &channel);
        }
        let again = self.waiters.entry(channel).or_default();
        again.senders.extend(waiters.senders);
    }

    fn take_batch(&mut self) -> Vec<(Channel, Waiters)> {
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(channel) = self.channels.pop()
        {
            let mut waiters = self.waiters.remove(&channel).unwrap_or_default();
            waiters.remove_cancelled();
            if !waiters.senders.is_empty() {
                batch.push((channel, waiters));
            }
        }
        batch
    }

    /// Removes cancelled lookups, and channels that a client waits for twice.
    fn tidy(&mut self) {
        let waiters = &mut self.waiters;
        waiters.retain(|_, waiters| {
            waiters.remove_cancelled();
            !waiters.senders.is_empty()
        });
        self.channels.change_each(|channels| {
            let mut seen = HashSet::new();
            channels
                .retain(|channel| waiters.contains_key(channel) && seen.insert(channel.clone()));
        });
    }
}

/// A queue that is dropped with its primary leaves nothing in the metric.
impl Drop for LookupQueue {
    fn drop(&mut self) {
        self.change(|waiting| waiting.waiters.clear());
    }
}

/// Answers the lookups of a primary, for ever.
pub(super) async fn run(shards: Weak<Shards>, queue: Arc<LookupQueue>) {
    let mut backoff = Backoff::default();
    loop {
        queue.wait_for_lookups().await;
        let batch = queue.take_batch();
        let Some(shards) = shards.upgrade() else {
            return;
        };
        match read_last_ids(&shards, &batch).await {
            Ok(ids) => {
                backoff.reset();
                answer(batch, ids);
            }
            Err(error) => {
                tracing::debug!(%error, "lookups failed and are repeated");
                queue.put_back(batch);
                drop(shards);
                backoff.wait().await;
            }
        }
    }
}

/// The last ids ever assigned in the channels of a batch, or why one of them is unknown.
///
/// # Errors
///
/// `Unavailable`: there is no reply for any channel.
async fn read_last_ids(
    shards: &Shards,
    batch: &[(Channel, Waiters)],
) -> Result<Vec<Reply>, BrokerError> {
    let channels = batch.iter().map(|(channel, _)| channel);
    let read = |channel: &Channel| (channel.clone(), [stream_extent(&shards.names, channel)]);
    let replies = shards
        .each_channel(None, channels.map(read).collect())
        .await;
    if replies.iter().all(Result::is_err)
        && let Some(Err(error)) = replies.first()
    {
        return Err(error.clone());
    }
    let parse = |reply: Result<[redis::Value; 1], BrokerError>| {
        let [extent] = reply?;
        parse_last_id(extent)
    };
    Ok(replies.into_iter().map(parse).collect())
}

fn answer(batch: Vec<(Channel, Waiters)>, replies: Vec<Reply>) {
    for ((_, waiters), reply) in batch.into_iter().zip(replies) {
        for waiter in waiters.senders {
            // A lookup may have been cancelled meanwhile.
            let _ = waiter.send(reply.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        net::{IpAddr, Ipv4Addr},
    };

    use super::*;

    fn client(last: u8) -> ClientNet {
        let address: IpAddr = Ipv4Addr::new(192, 0, 2, last).into();
        address.into()
    }

    fn channel(name: impl std::fmt::Display) -> Channel {
        format!("c{name}").parse().unwrap()
    }

    fn names(batch: &[(Channel, Waiters)]) -> Vec<&str> {
        batch.iter().map(|(channel, _)| channel.as_str()).collect()
    }

    #[tokio::test]
    async fn lookups_of_one_channel_are_one_command_with_one_reply() {
        let queue = LookupQueue::new(Level::default());
        let first = queue.add(Some(client(1)), &channel(1));
        let second = queue.add(Some(client(2)), &channel(1));
        queue.wait_for_lookups().await;
        let batch = queue.take_batch();
        assert_eq!(names(&batch), ["c1"]);
        answer(batch, vec![Ok(EventId::new(7, 0))]);
        for receiver in [first, second] {
            assert_eq!(receiver.await.unwrap().unwrap(), EventId::new(7, 0));
        }
        // A lookup that begins later must not get an earlier reply.
        let _third = queue.add(Some(client(1)), &channel(1));
        assert_eq!(names(&queue.take_batch()), ["c1"]);
    }

    #[test]
    fn a_client_with_one_channel_is_in_the_next_batch() {
        let queue = LookupQueue::new(Level::default());
        let many: Vec<_> = (0..1000)
            .map(|number| queue.add(Some(client(1)), &channel(number)))
            .collect();
        let _few = queue.add(Some(client(2)), &channel("few"));
        let _unknown = queue.add(None, &channel("unknown"));
        let batch = queue.take_batch();
        assert_eq!(names(&batch)[..4], ["c0", "cfew", "cunknown", "c1"]);
        assert_eq!(batch.len(), BATCH);
        drop(many);
        // The lookups of streams that are gone cost no command.
        assert_eq!(queue.take_batch().len(), 0);
        let waiting = queue.waiting();
        assert!(waiting.channels.is_empty() && waiting.waiters.is_empty());
    }

    #[test]
    fn a_channel_is_looked_up_at_the_first_turn_of_any_of_its_clients() {
        let queue = LookupQueue::new(Level::default());
        let _many: Vec<_> = (0..1000)
            .map(|number| queue.add(Some(client(1)), &channel(number)))
            .collect();
        let _shared = queue.add(Some(client(2)), &channel(999));
        let _other = queue.add(Some(client(2)), &channel("other"));
        let batch = queue.take_batch();
        assert_eq!(names(&batch)[..4], ["c0", "c999", "c1", "cother"]);
        assert_eq!(batch[1].1.senders.len(), 2);
        // After a failure, each client still has its turns.
        queue.put_back(batch);
        let mut waiting = 0;
        let count = |channels: &mut VecDeque<_>| waiting += channels.len();
        queue.waiting().channels.change_each(count);
        assert_eq!(waiting, 1002, "1000 of one client, and two of the other");
        assert_eq!(names(&queue.take_batch())[..2], ["c30", "c999"]);
    }

    #[test]
    fn a_batch_that_fails_waits_again_without_what_was_cancelled() {
        let queue = LookupQueue::new(Level::default());
        let kept = queue.add(Some(client(1)), &channel("kept"));
        let gone = queue.add(Some(client(1)), &channel("gone"));
        let batch = queue.take_batch();
        let later = queue.add(Some(client(1)), &channel("later"));
        drop((gone, later));
        queue.put_back(batch);
        assert_eq!(queue.waiting().waiters.len(), 1);
        assert_eq!(names(&queue.take_batch()), ["ckept"]);
        drop(kept);
    }
}
