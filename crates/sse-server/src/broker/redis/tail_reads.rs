//! Reads for tails: channels whose notifications arrive together are read in one pipeline.
//!
//! A tail reads on from its newest event. Such reads wait in a queue while a pipeline is at Redis, and the
//! next pipeline has all of them, up to [`BATCH`]. So one notification is answered at once, and many
//! cost one round trip together. A read whose event is not there any more continues by itself.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redis::{Cmd, Value};
use sse_proto::{Channel, EventId};
use tokio::sync::{Notify, oneshot};

use super::{errors::CommandError, replies::value_pipeline, streams::Streams};
use crate::broker::BrokerError;

/// Channels per pipeline. Each reply may have a page of large events.
const BATCH: usize = 32;

/// The replies to the commands of one read, and the era of the connection.
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
    commands: [Cmd; 2],
    reply: oneshot::Sender<Reply>,
}

/// The reads that wait for the next pipeline.
#[derive(Debug, Default)]
pub(super) struct TailReads {
    waiting: Mutex<VecDeque<Waiting>>,
    arrived: Notify,
}

impl TailReads {
    /// Adds a read. Dropping the receiver cancels it.
    fn add(&self, commands: [Cmd; 2]) -> oneshot::Receiver<Reply> {
        let (reply, receiver) = oneshot::channel();
        self.waiting().push_back(Waiting { commands, reply });
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

/// Answers the reads of `streams`, for ever.
pub(super) async fn run(streams: Arc<Streams>) {
    loop {
        let batch = streams.tail_reads.next_batch().await;
        let commands = batch.iter().flat_map(|read| read.commands.clone());
        let replies = streams.query_reads(commands).await;
        answer(batch, replies);
    }
}

fn answer(batch: Vec<Waiting>, replies: Result<(u64, Vec<Value>), BrokerError>) {
    let (era, replies) = match replies {
        Ok(replies) => replies,
        Err(error) => {
            for read in batch {
                // A read may have been cancelled meanwhile.
                let _ = read.reply.send(Err(error.clone()));
            }
            return;
        }
    };
    let mut replies = replies.into_iter();
    for read in batch {
        let mut next = || replies.next().unwrap_or(Value::Nil);
        let (end, entries) = (next(), next());
        let _ = read.reply.send(Ok(Prefetched { end, entries, era }));
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
        let reply = self
            .tail_reads
            .add(self.present_commands(channel, id, count));
        match self.connection.within_limit(reply).await? {
            Ok(reply) => reply,
            Err(_) => Err(BrokerError::Unavailable(
                "the server is stopping".to_owned(),
            )),
        }
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

    /// Sends commands that only read; returns the era of the connection and the replies.
    async fn query_reads(
        &self,
        commands: impl IntoIterator<Item = Cmd>,
    ) -> Result<(u64, Vec<Value>), BrokerError> {
        let pipeline = value_pipeline(commands);
        let mut session = self.connection.common_read_session().await?;
        let replies = session.send_values(&pipeline).await;
        Ok((
            session.era(),
            replies.map_err(CommandError::into_query_error)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands() -> [Cmd; 2] {
        [redis::cmd("HGET"), redis::cmd("XRANGE")]
    }

    #[tokio::test]
    async fn reads_that_wait_together_are_one_batch_and_each_gets_its_own_replies() {
        let reads = TailReads::default();
        let first = reads.add(commands());
        let cancelled = reads.add(commands());
        let second = reads.add(commands());
        drop(cancelled);
        let batch = reads.next_batch().await;
        assert_eq!(batch.len(), 2);
        let replies = [1, 2, 3, 4].map(Value::Int).to_vec();
        answer(batch, Ok((7, replies)));
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
        let mut waiting: Vec<_> = (0..=BATCH).map(|_| reads.add(commands())).collect();
        let batch = reads.next_batch().await;
        assert_eq!(batch.len(), BATCH);
        answer(batch, Err(BrokerError::Unavailable("gone".to_owned())));
        let mut failed = 0;
        for reply in &mut waiting {
            failed += usize::from(matches!(reply.try_recv(), Ok(Err(_))));
        }
        assert_eq!((failed, reads.take_batch().len()), (BATCH, 1));
    }
}
