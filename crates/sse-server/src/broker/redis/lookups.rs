//! Lookups of the newest ids of channels: one queue, answered in batches.
//!
//! Each stream looks up where its channels end, and so does each tail. On their own, the lookups of
//! one client's streams would flood Redis, and after a failure all of them would be repeated at the
//! same moments. The queue treats them together:
//!
//! - Lookups of a channel that wait at the same time are one command.
//! - One batch is at Redis at a time. Clients take turns in it, channel by channel, so a client with
//!   one channel waits for at most one batch, however many channels another client has.
//! - A batch that fails is repeated after a pause that grows. A lookup waits up to its time limit.
//!
//! [`LookupQueue`] knows nothing of Redis; [`run`] answers it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sse_proto::{Channel, EventId};
use tokio::sync::{Notify, oneshot};

use super::{backoff::Backoff, streams::Streams};
use crate::{broker::BrokerError, budget::ClientNet};

/// Channels per batch. A reply contains the oldest and the newest event of its channel.
const BATCH: usize = 32;

type Reply = Result<EventId, BrokerError>;
/// Who waits for the newest id of a channel.
type Waiters = Vec<oneshot::Sender<Reply>>;

/// The lookups that wait.
#[derive(Debug, Default)]
pub(super) struct LookupQueue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The channels of each client, in the order of the clients' turns. No client is there without
    /// a channel.
    turns: VecDeque<ClientChannels>,
    waiters: HashMap<Channel, Waiters>,
}

/// The channels of one client, or of all clients without an address.
#[derive(Debug)]
struct ClientChannels {
    client: Option<ClientNet>,
    channels: VecDeque<Channel>,
}

impl LookupQueue {
    /// Adds a lookup. Dropping the receiver cancels it.
    pub(super) fn add(
        &self,
        client: Option<ClientNet>,
        channel: &Channel,
    ) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        self.waiting().add(client, channel, sender);
        self.arrived.notify_one();
        receiver
    }

    async fn wait_for_lookups(&self) {
        while self.waiting().turns.is_empty() {
            self.arrived.notified().await;
        }
    }

    fn take_batch(&self) -> Vec<(Channel, Waiters)> {
        self.waiting().take_batch()
    }

    /// Returns the lookups of a batch that failed to the queue, without those that were cancelled.
    fn put_back(&self, batch: Vec<(Channel, Waiters)>) {
        let mut waiting = self.waiting();
        for (channel, waiters) in batch {
            for waiter in waiters {
                waiting.add(None, &channel, waiter);
            }
        }
        waiting.remove_cancelled();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // No code panics while it holds this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(
        &mut self,
        client: Option<ClientNet>,
        channel: &Channel,
        waiter: oneshot::Sender<Reply>,
    ) {
        let waiters = self.waiters.entry(channel.clone()).or_default();
        waiters.push(waiter);
        if waiters.len() > 1 {
            return;
        }
        let turn = self.turns.iter_mut().find(|turn| turn.client == client);
        match turn {
            Some(turn) => turn.channels.push_back(channel.clone()),
            None => self.turns.push_back(ClientChannels {
                client,
                channels: VecDeque::from([channel.clone()]),
            }),
        }
    }

    fn take_batch(&mut self) -> Vec<(Channel, Waiters)> {
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(channel) = self.take_channel()
        {
            let waiters = self.waiters.remove(&channel).unwrap_or_default();
            if waiters.iter().any(|waiter| !waiter.is_closed()) {
                batch.push((channel, waiters));
            }
        }
        batch
    }

    /// Takes one channel of the client whose turn it is.
    fn take_channel(&mut self) -> Option<Channel> {
        let mut turn = self.turns.pop_front()?;
        let channel = turn.channels.pop_front();
        if !turn.channels.is_empty() {
            self.turns.push_back(turn);
        }
        channel
    }

    fn remove_cancelled(&mut self) {
        let waiters = &mut self.waiters;
        waiters.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        for turn in &mut self.turns {
            turn.channels
                .retain(|channel| waiters.contains_key(channel));
        }
        self.turns.retain(|turn| !turn.channels.is_empty());
    }
}

/// Answers the lookups of `streams`, for ever.
pub(super) async fn run(streams: Arc<Streams>) {
    let mut backoff = Backoff::default();
    loop {
        streams.lookups.wait_for_lookups().await;
        let batch = streams.lookups.take_batch();
        let channels = batch.iter().map(|(channel, _)| channel);
        match streams.read_last_ids(channels).await {
            Ok(ids) => {
                backoff.reset();
                answer(batch, ids);
            }
            Err(error) => {
                tracing::debug!(%error, "lookups failed and are repeated");
                streams.lookups.put_back(batch);
                backoff.wait().await;
            }
        }
    }
}

fn answer(batch: Vec<(Channel, Waiters)>, replies: Vec<Reply>) {
    for ((_, waiters), reply) in batch.into_iter().zip(replies) {
        for waiter in waiters {
            // A lookup may have been cancelled meanwhile.
            let _ = waiter.send(reply.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

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
        let queue = LookupQueue::default();
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
        let queue = LookupQueue::default();
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
        assert!(waiting.turns.is_empty() && waiting.waiters.is_empty());
    }

    #[test]
    fn a_batch_that_fails_waits_again_without_what_was_cancelled() {
        let queue = LookupQueue::default();
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
