//! Reads of many channels or slots: one pipeline per primary.

use std::{collections::HashMap, sync::Arc};

use futures::future::join_all;
use redis::{Cmd, Value};
use sse_proto::Channel;

use super::{
    redirects::{Redirect, find_redirect},
    shard::{Purpose, Shard},
    shards::Shards,
    slots::Slot,
    target::ServerAddress,
};
use crate::broker::BrokerError;

/// Commands in one pipeline over many slots.
const SLOTS_PER_PIPELINE: usize = 1024;

impl Shards {
    /// Sends one command per slot, and returns the replies of all primaries that reply.
    ///
    /// # Errors
    ///
    /// `Unavailable`: no primary replies.
    pub(super) async fn each_slot(
        &self,
        command: impl Fn(Slot) -> Cmd + Sync,
    ) -> Result<Vec<(Slot, Value)>, BrokerError> {
        let topology = self.topology();
        let of_shard = async |shard: &Arc<Shard>| {
            let mut replies = Vec::new();
            for slots in topology.slots_of(&shard.address).chunks(SLOTS_PER_PIPELINE) {
                let mut session = self.primary_session(shard, Purpose::Reads).await?;
                let commands = slots.iter().map(|slot| command(*slot));
                let of_slots = session.query_all(commands).await?;
                replies.extend(slots.iter().copied().zip(of_slots));
            }
            Ok(replies)
        };
        let results = join_all(topology.shards.iter().map(of_shard)).await;
        let (mut replies, mut failed) = (Vec::new(), None);
        for result in results {
            match result {
                Ok(of_shard) => replies.extend(of_shard),
                Err(error) => failed = Some(error),
            }
        }
        // A slot that has moved meanwhile is missing this time.
        replies.retain(|(_, reply)| find_redirect(std::slice::from_ref(reply)).is_none());
        match failed {
            Some(error) if replies.is_empty() => Err(error),
            _ => Ok(replies),
        }
    }

    /// Sends a command that only reads per channel, in one pipeline per primary.
    ///
    /// An `Err` means that the primary did not reply; an error reply is a value.
    pub(super) async fn each_channel(
        &self,
        channels: &[Channel],
        command: impl Fn(&Channel) -> Cmd,
    ) -> Vec<Result<Value, BrokerError>> {
        let topology = self.topology();
        let mut groups: HashMap<Option<ServerAddress>, Vec<usize>> = HashMap::new();
        for (position, channel) in channels.iter().enumerate() {
            let owner = topology.owner(self.names.slot(channel));
            let address = owner.map(|owner| owner.address.clone());
            groups.entry(address).or_default().push(position);
        }
        let of_group = async |(address, positions): (Option<ServerAddress>, Vec<usize>)| {
            let of_group = positions.iter().map(|position| &channels[*position]);
            let shard = address.and_then(|address| topology.shard_at(&address).cloned());
            let replies = self
                .read_group(shard.as_ref(), of_group.collect(), &command)
                .await;
            positions.into_iter().zip(replies).collect::<Vec<_>>()
        };
        let mut replies: Vec<_> = join_all(groups.into_iter().map(of_group)).await.concat();
        replies.sort_unstable_by_key(|(position, _)| *position);
        replies.into_iter().map(|(_, reply)| reply).collect()
    }

    async fn read_group(
        &self,
        shard: Option<&Arc<Shard>>,
        channels: Vec<&Channel>,
        command: &impl Fn(&Channel) -> Cmd,
    ) -> Vec<Result<Value, BrokerError>> {
        let Some(shard) = shard else {
            return vec![Err(self.no_owner()); channels.len()];
        };
        let all = async {
            let mut session = self.primary_session(shard, Purpose::Reads).await?;
            for channel in &channels {
                if self.losses.needs_verification(channel) {
                    session.verify_unverified(channel).await?;
                }
            }
            session
                .query_all(channels.iter().copied().map(command))
                .await
        };
        let replies = match all.await {
            Ok(replies) => replies,
            Err(error) => return vec![Err(error); channels.len()],
        };
        let mut results = Vec::with_capacity(channels.len());
        for (channel, reply) in channels.into_iter().zip(replies) {
            // The others must not wait for a slot that is about to move.
            let is_elsewhere = matches!(
                find_redirect(std::slice::from_ref(&reply)),
                Some(Redirect::Moved(..) | Redirect::Ask(_))
            );
            results.push(if is_elsewhere {
                self.read_one(channel, command(channel)).await
            } else {
                Ok(reply)
            });
        }
        results
    }

    async fn read_one(&self, channel: &Channel, command: Cmd) -> Result<Value, BrokerError> {
        let mut session = self.read_session(channel).await?;
        let [reply] = session.query_values([command]).await?;
        Ok(reply)
    }
}
