//! Channels as Redis Streams: what all operations share, and short questions about one channel.
//!
//! `append` has the appends, `reader` the reads of history, `maintenance` the trimming.

use std::sync::Arc;

use redis::{Cmd, Value};
use sse_proto::{Channel, EventId};
use tokio::sync::SemaphorePermit;

use super::{
    channel_state::parse_state,
    connection::Connection,
    durability,
    failover::LossDetector,
    foreign_entries::ForeignEntryLog,
    lookups::LookupQueue,
    maintenance::{Pace, hints::Hints},
    names::Names,
    page_size::PageSizes,
    read_gate::{ReadGate, ReadKind},
    registry::Registry,
    replies::{Replies, parse_last_id, parse_time_ms, value_pipeline},
    scripts::STREAM_EXTENT_TEXT,
    settled::judge_settled,
    tail_reads::TailReads,
};
use crate::broker::{
    BrokerError, Retention, Settled, Warning, client_shares::ClientShares, lifecycle::Classes,
};
use crate::{budget::ClientNet, metrics::Metrics};

/// The streams of one Redis.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) connection: Connection,
    pub(super) names: Names,
    pub(super) retention: Retention,
    pub(super) classes: Classes,
    pub(super) registry: Registry,
    pub(super) shares: ClientShares,
    pub(super) page_sizes: PageSizes,
    pub(super) losses: Arc<LossDetector>,
    pub(super) foreign_log: ForeignEntryLog,
    pub(super) lookups: LookupQueue,
    pub(super) pace: Pace,
    pub(super) hints: Hints,
    pub(super) tail_reads: TailReads,
    gate: ReadGate,
}

impl Streams {
    pub(super) fn new(
        connection: Connection,
        names: Names,
        retention: Retention,
        losses: Arc<LossDetector>,
        metrics: &Metrics,
    ) -> Self {
        let registry = Registry::new(names.clone(), &retention);
        let pace = Pace::new(retention.age_max, registry.known_for());
        Self {
            connection,
            registry,
            pace,
            hints: Hints::new(pace.scan()),
            shares: ClientShares::new(&retention),
            names,
            retention,
            classes: Classes::default(),
            page_sizes: PageSizes::default(),
            losses,
            foreign_log: ForeignEntryLog::default(),
            lookups: LookupQueue::new(metrics.redis_lookups_waiting()),
            tail_reads: TailReads::default(),
            gate: ReadGate::new(metrics.redis_reads_waiting()),
        }
    }

    /// Returns how many tombstones a slot may have.
    pub(super) fn tombstones_max(&self) -> usize {
        self.registry.tombstones_max()
    }

    /// Whether no event up to `bound` can be added to `channel` any more.
    ///
    /// Redis assigns ids by its own clock, one command after another. Every command after this
    /// `TIME` gets a later id.
    pub(super) async fn check_settled(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Settled, BrokerError> {
        let _place = self.enter_gate(ReadKind::History).await?;
        let (now_ms, newest) = self.clock_and_newest_id(channel).await?;
        Ok(judge_settled(bound, now_ms, newest))
    }

    /// Redis' clock, and then the id of the newest record of `channel`.
    async fn clock_and_newest_id(&self, channel: &Channel) -> Result<(u64, EventId), BrokerError> {
        let commands = [redis::cmd("TIME"), self.stream_extent(channel)];
        let [time, extent] = self.query(channel, commands).await?;
        Ok((parse_time_ms(time)?, parse_state(extent)?.newest()))
    }

    /// The last id ever assigned in `channel`, looked up for `client` if it is known.
    pub(super) async fn last_id(
        &self,
        channel: &Channel,
        client: Option<ClientNet>,
    ) -> Result<EventId, BrokerError> {
        let reply = self.lookups.add(client, channel);
        match self.connection.within_limit(reply).await? {
            Ok(reply) => reply,
            Err(_) => Err(BrokerError::Unavailable(
                "the server is stopping".to_owned(),
            )),
        }
    }

    /// Whether this node has appended to `channel` since it is connected.
    pub(super) fn has_appended(&self, channel: &Channel) -> bool {
        let era = self.connection.era();
        era.is_some_and(|era| self.registry.has_appended(channel, era))
    }

    /// The last ids ever assigned in `channels`, or why one of them is unknown.
    pub(super) async fn read_last_ids<'a>(
        &self,
        channels: impl Iterator<Item = &'a Channel>,
    ) -> Result<Vec<Result<EventId, BrokerError>>, BrokerError> {
        let commands = channels.map(|channel| self.stream_extent(channel));
        let pipeline = value_pipeline(commands);
        let mut session = self.connection.common_read_session().await?;
        let replies: Vec<Value> = session.query(&pipeline).await?;
        Ok(replies.into_iter().map(parse_last_id).collect())
    }

    /// Waits for a place at the gate, but not while there is no connection.
    pub(super) async fn enter_gate(
        &self,
        kind: ReadKind,
    ) -> Result<Option<SemaphorePermit<'_>>, BrokerError> {
        self.connection.common_read_session().await?;
        self.connection.within_limit(self.gate.enter(kind)).await
    }

    /// Sends commands that only read `channel`, in a session of their own.
    pub(super) async fn query<const N: usize>(
        &self,
        channel: &Channel,
        commands: [Cmd; N],
    ) -> Replies<N> {
        let session = self.connection.read_session(channel).await;
        session?.query_values(commands).await
    }

    /// `stream_extent.lua`, for `parse_state` and `parse_last_id`.
    pub(super) fn stream_extent(&self, channel: &Channel) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(STREAM_EXTENT_TEXT.as_str()).arg(3);
        command.arg(&self.names.state(channel));
        command
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

    /// Redis' clock: milliseconds since the Unix epoch.
    pub(super) async fn now_ms(&self) -> Result<u64, BrokerError> {
        let mut session = self.connection.common_session().await?;
        parse_time_ms(session.query_one(redis::cmd("TIME")).await?)
    }

    /// Writes, and reads how Redis is set up. The write fails on a replica, if the memory is full,
    /// and if Redis cannot write its disk.
    pub(super) async fn check_health(&self) -> Result<Vec<Warning>, BrokerError> {
        let mut session = self.connection.common_session().await?;
        session.query_one::<()>(self.check_write()).await?;
        let replies = session.query(&durability::setup_commands()).await?;
        Ok(durability::parse_warnings(replies))
    }

    /// `SET` of the key of health checks.
    fn check_write(&self) -> Cmd {
        let mut command = redis::cmd("SET");
        command.arg(self.names.check()).arg(1).arg("PX").arg(1000);
        command
    }

    /// Forgets what another node or the passing of time may have made stale: which channels are
    /// registered, and how large their events are.
    pub(super) fn forget_cached(&self) {
        self.registry.forget_appends();
        self.page_sizes.forget_all();
    }
}
