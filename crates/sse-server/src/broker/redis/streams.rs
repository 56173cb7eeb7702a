//! Channels as Redis Streams: what all operations share, and short questions about one channel.
//!
//! `append` has the appends, `reader` the reads of history, `maintenance` the trimming.

use std::sync::Arc;

use redis::Cmd;
use sse_proto::{Channel, EventId};
use tokio::sync::SemaphorePermit;

use super::{
    channel_state::parse_state,
    failover::LossDetector,
    foreign_entries::ForeignEntryLog,
    maintenance::{Pace, hints::Hints},
    names::Names,
    page_size::PageSizes,
    read_gate::ReadKind,
    registry::Registry,
    replies::{Replies, parse_time_ms},
    scripts::stream_extent,
    settled::judge_settled,
    shard::Shard,
    shards::Shards,
    slots::Slot,
};
use crate::broker::{
    BrokerError, Retention, Settled, client_shares::ClientShares, clock, lifecycle::Classes,
};
use crate::budget::ClientNet;

/// The streams of all primaries.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) shards: Arc<Shards>,
    pub(super) names: Names,
    pub(super) retention: Retention,
    pub(super) classes: Classes,
    pub(super) registry: Registry,
    pub(super) shares: ClientShares,
    pub(super) page_sizes: PageSizes,
    pub(super) losses: Arc<LossDetector>,
    pub(super) foreign_log: ForeignEntryLog,
    pub(super) pace: Pace,
    pub(super) hints: Hints,
}

impl Streams {
    pub(super) fn new(shards: Arc<Shards>, names: Names, retention: Retention) -> Self {
        let registry = Registry::new(names.clone(), &retention);
        let pace = Pace::new(retention.age_max, registry.known_for());
        Self {
            registry,
            pace,
            hints: Hints::new(pace.scan()),
            shares: ClientShares::new(&retention),
            losses: shards.losses.clone(),
            shards,
            names,
            retention,
            classes: Classes::default(),
            page_sizes: PageSizes::default(),
            foreign_log: ForeignEntryLog::default(),
        }
    }

    /// Returns how many tombstones a slot may have.
    pub(super) fn tombstones_max(&self) -> usize {
        self.registry.tombstones_max()
    }

    /// Whether no event up to `bound` can be added to `channel` any more.
    ///
    /// Redis assigns ids by its own clock, one command after another. Every command after this
    /// `TIME` gets a later id. The channel may move to the primary whose clock is slowest.
    pub(super) async fn check_settled(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Settled, BrokerError> {
        let shard = self.shard(channel).await?;
        let _place = self.enter_gate(&shard, ReadKind::History).await?;
        let (now_ms, newest) = self.clock_and_newest_id(channel).await?;
        Ok(judge_settled(bound, self.slowest_clock(now_ms), newest))
    }

    /// Redis' clock, and then the id of the newest record of `channel`.
    async fn clock_and_newest_id(&self, channel: &Channel) -> Result<(u64, EventId), BrokerError> {
        let commands = [redis::cmd("TIME"), self.stream_extent(channel)];
        let [time, extent] = self.query(channel, commands).await?;
        Ok((parse_time_ms(time)?, parse_state(extent)?.newest()))
    }

    /// The slowest clock of all primaries, if that of one of them shows `now_ms`.
    fn slowest_clock(&self, now_ms: u64) -> u64 {
        let slowest = self.slowest_of_cluster();
        slowest.map_or(now_ms, |slowest| slowest.min(now_ms))
    }

    /// The slowest clock of the primaries of a Redis Cluster; `None` if none is known.
    fn slowest_of_cluster(&self) -> Option<u64> {
        let topology = self.shards.topology();
        let offsets = topology.shards.iter().filter_map(|shard| shard.clock.get());
        let slowest = offsets.min().filter(|_| self.shards.is_cluster());
        slowest.and_then(|offset| clock::now_ms().checked_add_signed(offset))
    }

    /// The last id ever assigned in `channel`, looked up for `client` if it is known.
    pub(super) async fn last_id(
        &self,
        channel: &Channel,
        client: Option<ClientNet>,
    ) -> Result<EventId, BrokerError> {
        let lookup = async {
            loop {
                let lookup = self.shard(channel).await?.lookups.add(client, channel);
                // A queue ends with its primary.
                if let Ok(reply) = lookup.await {
                    return reply;
                }
            }
        };
        self.shards.within_limit(lookup).await?
    }

    /// Whether this node has appended to `channel` since it is connected.
    pub(super) fn has_appended(&self, channel: &Channel) -> bool {
        let era = self.losses.eras.of(self.names.slot(channel));
        self.shards.era().is_some() && self.registry.has_appended(channel, era)
    }

    /// The primary of `channel`, once one is known.
    pub(super) async fn shard(&self, channel: &Channel) -> Result<Arc<Shard>, BrokerError> {
        self.shards.owner(self.names.slot(channel)).await
    }

    /// Waits for a place at the gate of a primary, but not while there is no connection.
    pub(super) async fn enter_gate<'a>(
        &self,
        shard: &'a Shard,
        kind: ReadKind,
    ) -> Result<Option<SemaphorePermit<'a>>, BrokerError> {
        let deadline = self.shards.deadline();
        shard.connection.wait_until_up(deadline, || true).await?;
        self.shards.enter_gate(shard, kind).await
    }

    /// Sends commands that only read `channel`, in a session of their own.
    pub(super) async fn query<const N: usize>(
        &self,
        channel: &Channel,
        commands: [Cmd; N],
    ) -> Replies<N> {
        let session = self.shards.read_session(channel).await;
        session?.query_values(commands).await
    }

    /// `stream_extent.lua`, for `parse_state` and `parse_last_id`.
    pub(super) fn stream_extent(&self, channel: &Channel) -> Cmd {
        stream_extent(&self.names, channel)
    }

    /// `XRANGE` of up to `count` entries from `start` on.
    pub(super) fn range(&self, channel: &Channel, start: &str, count: usize) -> Cmd {
        Cmd::xrange_count(self.names.stream(channel), start, "+", count)
    }

    /// `XREVRANGE` of up to `count` entries from `newest` back.
    pub(super) fn range_back(&self, channel: &Channel, newest: &str, count: usize) -> Cmd {
        Cmd::xrevrange_count(self.names.stream(channel), newest, "-", count)
    }

    /// `XRANGE` of the channel's index of gap records, from `start` on.
    pub(super) fn gap_range(&self, channel: &Channel, start: EventId) -> Cmd {
        Cmd::xrange(self.names.gaps(channel), start.to_string(), "+")
    }

    /// Redis' clock: milliseconds since the Unix epoch. In a Redis Cluster, it is the slowest clock of
    /// the primaries.
    pub(super) async fn now_ms(&self) -> Result<u64, BrokerError> {
        if let Some(slowest) = self.slowest_of_cluster() {
            return Ok(slowest);
        }
        let mut session = self.shards.slot_session(Slot::new(0)).await?;
        parse_time_ms(session.query_one(redis::cmd("TIME")).await?)
    }

    /// Forgets what another node or the passing of time may have made stale: which channels are
    /// registered, and how large their events are.
    pub(super) fn forget_cached(&self) {
        self.registry.forget_appends();
        self.page_sizes.forget_all();
    }
}
