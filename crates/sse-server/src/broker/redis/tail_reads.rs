//! Reads for tails: channels whose notifications arrive together are read in one pipeline.
//!
//! A tail reads on from its newest event. Such reads wait in a queue while a pipeline is at Redis, and the
//! next pipeline has all of them, up to [`BATCH`]. So one notification is answered at once, and many
//! cost one round trip together. A read whose event is not there any more continues by itself.
//! Each primary has a queue of its own, so one that is away delays only its own channels.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use redis::{Cmd, Value};
use sse_proto::{Channel, EventId};
use tokio::sync::{Notify, oneshot};

use super::{many_reads::ChannelRead, shards::Shards, streams::Streams};
use crate::broker::BrokerError;

/// Channels per pipeline. Each reply may have a page of large events.
const BATCH: usize = 32;

/// The replies to the commands of one read, and the era of the slot.
#[derive(Debug)]
pub(super) struct Prefetched {
    /// The field `end` of the channel.
    pub(super) end: Value,
    /// The entries from the position on.
    pub(super) entries: Value,
    pub(super) era: u64,
}

type Reply = Result<Prefetched, BrokerError>;

/// A read that waits.
#[derive(Debug)]
struct Waiting {
    channel: Channel,
    commands: [Cmd; 2],
    reply: oneshot::Sender<Reply>,
}

impl Waiting {
    /// Separates the read from who waits for it.
    fn split(self) -> (ChannelRead<2>, oneshot::Sender<Reply>) {
        ((self.channel, self.commands), self.reply)
    }
}

/// The reads that wait for the next pipeline.
#[derive(Debug, Default)]
pub(super) struct TailReads {
    waiting: Mutex<VecDeque<Waiting>>,
    arrived: Notify,
}

impl TailReads {
    /// Adds a read. Dropping the receiver cancels it.
    fn add(&self, channel: &Channel, commands: [Cmd; 2]) -> oneshot::Receiver<Reply> {
        let (reply, receiver) = oneshot::channel();
        self.waiting().push_back(Waiting {
            channel: channel.clone(),
            commands,
            reply,
        });
        self.arrived.notify_one();
        receiver
    }

    async fn next_batch(&self) -> Vec<Waiting> {
        loop {
            let batch = self.take_batch();
            if !batch.is_empty() {
                return batch;
            }
            self.arrived.notified().await;
        }
    }

    fn take_batch(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(read) = waiting.pop_front()
        {
            if !read.reply.is_closed() {
                batch.push(read);
            }
        }
        batch
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        // No code panics while it holds this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers the reads of a primary, for ever.
pub(super) async fn run(shards: Weak<Shards>, reads: Arc<TailReads>) {
    loop {
        let batch = reads.next_batch().await;
        let Some(shards) = shards.upgrade() else {
            return;
        };
        // Before the read, so that an era that begins meanwhile counts as another one.
        let era = |read: &Waiting| shards.losses.eras.of(shards.names.slot(&read.channel));
        let eras: Vec<u64> = batch.iter().map(era).collect();
        let waiting = batch.into_iter();
        let (reads, waiting): (Vec<_>, Vec<_>) = waiting.map(Waiting::split).unzip();
        let replies = shards.each_channel(None, reads).await;
        answer(waiting, eras.into_iter().zip(replies));
    }
}

fn answer(
    waiting: Vec<oneshot::Sender<Reply>>,
    replies: impl Iterator<Item = (u64, Result<[Value; 2], BrokerError>)>,
) {
    for (waiter, (era, reply)) in waiting.into_iter().zip(replies) {
        let reply = reply.map(|[end, entries]| Prefetched { end, entries, era });
        // A read may have been cancelled meanwhile.
        let _ = waiter.send(reply);
    }
}

impl Streams {
    /// Reads up to `count` entries of `channel` from `id` on, together with other tails.
    pub(super) async fn prefetch(
        &self,
        channel: &Channel,
        id: EventId,
        count: usize,
    ) -> Result<Prefetched, BrokerError> {
        let commands = self.present_commands(channel, id, count);
        let read = async {
            loop {
                let shard = self.shard(channel).await?;
                let reply = shard.tail_reads.add(channel, commands.clone());
                // A queue ends with its primary.
                if let Ok(reply) = reply.await {
                    return reply;
                }
            }
        };
        self.shards.within_limit(read).await?
    }

    /// The commands that read the end of a channel, and then its entries from `id` on.
    pub(super) fn present_commands(
        &self,
        channel: &Channel,
        id: EventId,
        count: usize,
    ) -> [Cmd; 2] {
        let end = Cmd::hget(self.names.life(channel), "end");
        [end, self.range(channel, &id.to_string(), count)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> Channel {
        "a".parse().unwrap()
    }

    fn senders(batch: Vec<Waiting>) -> Vec<oneshot::Sender<Reply>> {
        batch.into_iter().map(|read| read.reply).collect()
    }

    fn commands() -> [Cmd; 2] {
        [redis::cmd("HGET"), redis::cmd("XRANGE")]
    }

    #[tokio::test]
    async fn reads_that_wait_together_are_one_batch_and_each_gets_its_own_replies() {
        let reads = TailReads::default();
        let first = reads.add(&channel(), commands());
        let cancelled = reads.add(&channel(), commands());
        let second = reads.add(&channel(), commands());
        drop(cancelled);
        let batch = reads.next_batch().await;
        assert_eq!(batch.len(), 2);
        let replies = [[1, 2], [3, 4]].map(|reply| (7, Ok(reply.map(Value::Int))));
        answer(senders(batch), replies.into_iter());
        for (reply, [end, entries]) in [(first, [1, 2]), (second, [3, 4])] {
            let reply = reply.await.unwrap().unwrap();
            assert_eq!(
                (reply.end, reply.entries),
                (Value::Int(end), Value::Int(entries))
            );
            assert_eq!(reply.era, 7);
        }
    }

    #[tokio::test]
    async fn a_failed_batch_fails_each_of_its_reads_and_no_other() {
        let reads = TailReads::default();
        let mut waiting: Vec<_> = (0..=BATCH)
            .map(|_| reads.add(&channel(), commands()))
            .collect();
        let batch = reads.next_batch().await;
        assert_eq!(batch.len(), BATCH);
        let gone = || Err(BrokerError::Unavailable("gone".to_owned()));
        answer(senders(batch), std::iter::repeat_with(|| (7, gone())));
        let mut failed = 0;
        for reply in &mut waiting {
            failed += usize::from(matches!(reply.try_recv(), Ok(Err(_))));
        }
        assert_eq!((failed, reads.take_batch().len()), (BATCH, 1));
    }
}
