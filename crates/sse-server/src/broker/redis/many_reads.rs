//! Reads and commands on many channels or slots: one pipeline per primary.

use std::{collections::HashMap, sync::Arc};

use futures::future::join_all;
use redis::{Cmd, Value};
use sse_proto::Channel;

use super::{
    read_gate::ReadKind,
    redirects::{Redirect, find_redirect},
    shard::{Purpose, Shard},
    shards::Shards,
    slots::Slot,
    target::ServerAddress,
    topology::Topology,
};
use crate::broker::BrokerError;

/// Commands in one pipeline over many slots.
const SLOTS_PER_PIPELINE: usize = 1024;

/// The commands of a read of one channel.
pub(super) type ChannelRead<const N: usize> = (Channel, [Cmd; N]);

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
        self.ask_each_slot(None, command).await
    }

    /// The same for a read that waits for a place at the gate of each primary.
    pub(super) async fn each_slot_in_turn(
        &self,
        kind: ReadKind,
        command: impl Fn(Slot) -> Cmd + Sync,
    ) -> Result<Vec<(Slot, Value)>, BrokerError> {
        self.ask_each_slot(Some(kind), command).await
    }

    async fn ask_each_slot(
        &self,
        kind: Option<ReadKind>,
        command: impl Fn(Slot) -> Cmd + Sync,
    ) -> Result<Vec<(Slot, Value)>, BrokerError> {
        let topology = self.topology();
        let of_shard = async |shard: &Arc<Shard>| {
            let mut replies = Vec::new();
            for slots in topology.slots_of(&shard.address).chunks(SLOTS_PER_PIPELINE) {
                let _place = match kind {
                    Some(kind) => self.enter_gate(shard, kind).await?,
                    None => None,
                };
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

    /// Sends commands on keys of slots, each to the primary of its slot. Returns the replies in the
    /// same order; the reply of a primary that is away is an error.
    ///
    /// # Errors
    ///
    /// `Unavailable`: no primary replies.
    pub(super) async fn each_command(
        &self,
        commands: Vec<(Slot, Cmd)>,
    ) -> Result<Vec<Value>, BrokerError> {
        let topology = self.topology();
        let slots = self.names.slots();
        let routes = commands.iter().map(|(slot, _)| slots.route(*slot));
        let of_group = async |(address, positions): (Option<ServerAddress>, Vec<usize>)| {
            let shard = address.and_then(|address| topology.shard_at(&address).cloned());
            let of_group = positions.iter().map(|position| &commands[*position]);
            let replies = self.send_group(shard.as_ref(), of_group.collect()).await;
            (positions, replies)
        };
        let groups = group(&topology, routes).into_iter().map(of_group);
        let (mut replies, mut failed) = (vec![no_reply(); commands.len()], None);
        let mut has_reply = false;
        for (positions, of_group) in join_all(groups).await {
            match of_group {
                Ok(of_group) => {
                    has_reply = true;
                    for (position, reply) in positions.into_iter().zip(of_group) {
                        replies[position] = reply;
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if !has_reply => Err(error),
            _ => Ok(replies),
        }
    }

    async fn send_group(
        &self,
        shard: Option<&Arc<Shard>>,
        commands: Vec<&(Slot, Cmd)>,
    ) -> Result<Vec<Value>, BrokerError> {
        let shard = shard.ok_or_else(|| self.no_owner())?;
        let mut session = self.primary_session(shard, Purpose::Writes).await?;
        let of_slots = commands.iter().map(|(_, command)| command.clone());
        let mut replies = session.query_all(of_slots).await?;
        for ((slot, command), reply) in commands.into_iter().zip(&mut replies) {
            // The primary did nothing then.
            if is_elsewhere(reply) {
                let mut session = self.slot_session(*slot).await?;
                let [again] = session.query_values([command.clone()]).await?;
                *reply = again;
            }
        }
        Ok(replies)
    }

    /// Sends commands that only read, in one pipeline per primary. With a kind, the read waits for a
    /// place at the gate of each primary.
    ///
    /// An `Err` means that the primary did not reply; an error reply is a value.
    pub(super) async fn each_channel<const N: usize>(
        &self,
        kind: Option<ReadKind>,
        reads: Vec<ChannelRead<N>>,
    ) -> Vec<Result<[Value; N], BrokerError>> {
        let topology = self.topology();
        let routes = reads.iter().map(|(channel, _)| self.names.slot(channel));
        let of_group = async |(address, positions): (Option<ServerAddress>, Vec<usize>)| {
            let of_group = positions.iter().map(|position| &reads[*position]);
            let shard = address.and_then(|address| topology.shard_at(&address).cloned());
            let replies = self.read_group(shard.as_ref(), kind, of_group.collect());
            positions.into_iter().zip(replies.await).collect::<Vec<_>>()
        };
        let groups = group(&topology, routes).into_iter().map(of_group);
        let mut replies: Vec<_> = join_all(groups).await.into_iter().flatten().collect();
        replies.sort_unstable_by_key(|(position, _)| *position);
        replies.into_iter().map(|(_, reply)| reply).collect()
    }

    async fn read_group<const N: usize>(
        &self,
        shard: Option<&Arc<Shard>>,
        kind: Option<ReadKind>,
        reads: Vec<&ChannelRead<N>>,
    ) -> Vec<Result<[Value; N], BrokerError>> {
        let Some(shard) = shard else {
            return reads.iter().map(|_| Err(self.no_owner())).collect();
        };
        let all = async {
            let _place = match kind {
                Some(kind) => self.enter_gate(shard, kind).await?,
                None => None,
            };
            let mut session = self.primary_session(shard, Purpose::Reads).await?;
            for (channel, _) in &reads {
                if self.losses.needs_verification(channel) {
                    session.verify_unverified(channel).await?;
                }
            }
            let commands = reads.iter().flat_map(|(_, commands)| commands.clone());
            session.query_all(commands).await
        };
        let replies = match all.await {
            Ok(replies) => replies,
            Err(error) => return reads.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut replies = replies.into_iter();
        let mut results = Vec::with_capacity(reads.len());
        for (channel, commands) in reads {
            let of_read: [Value; N] = std::array::from_fn(|_| replies.next().unwrap_or(Value::Nil));
            // The others must not wait for a slot that is about to move.
            results.push(if of_read.iter().any(is_elsewhere) {
                self.read_one(channel, commands.clone()).await
            } else {
                Ok(of_read)
            });
        }
        results
    }

    async fn read_one<const N: usize>(
        &self,
        channel: &Channel,
        commands: [Cmd; N],
    ) -> Result<[Value; N], BrokerError> {
        let mut session = self.read_session(channel).await?;
        session.query_values(commands).await
    }
}

/// The positions in `slots` by the address of their primary.
fn group(
    topology: &Topology,
    slots: impl Iterator<Item = Slot>,
) -> HashMap<Option<ServerAddress>, Vec<usize>> {
    let mut groups: HashMap<Option<ServerAddress>, Vec<usize>> = HashMap::new();
    for (position, slot) in slots.enumerate() {
        let address = topology.owner(slot).map(|owner| owner.address.clone());
        groups.entry(address).or_default().push(position);
    }
    groups
}

fn is_elsewhere(reply: &Value) -> bool {
    matches!(
        find_redirect(std::slice::from_ref(reply)),
        Some(Redirect::Moved(..) | Redirect::Ask(_))
    )
}

/// The reply of a primary that does not reply.
fn no_reply() -> Value {
    redis::parse_redis_value(b"-CLUSTERDOWN the primary does not reply\r\n").unwrap_or(Value::Nil)
}
