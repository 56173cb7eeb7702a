//! The Redis broker: each channel is a Redis Stream, so any number of nodes serve the same
//! channels.
//!
//! An event is as durable as Redis is set up to be. Nodes hold no state that subscribers depend on.
//!
//! | file | contents |
//! |---|---|
//! | `streams` | a channel as a stream: newest id, clock, health check |
//! | `append`, `replicated` | appends to a channel; those that replicas must confirm |
//! | `reader`, `forward_read` | pages of history, and the proof that a page continues a position |
//! | `lookups`, `read_gate` | one queue for the newest ids of channels; how many pages are read at a time |
//! | `tail_reads` | channels whose notifications arrive together are read together |
//! | `entries`, `foreign_entries` | the entries of a stream; reads past those of other programs |
//! | `write_reply` | what the script of a write replies |
//! | `channel_state`, `state_read` | whether a channel is closed or deleted, and what a read gets then |
//! | `lifecycle`, `first_names`, `settings_text` | settings, deletion and lists of channels; the first names of a list |
//! | `format` | the number of the format of all keys |
//! | `idempotency` | the arguments of the script that carries out a write |
//! | `maintenance` | what time does with channels: trims and expires them, in the order of their due times |
//! | `registry`, `slots`, `channel_count` | the registries of channels, one per hash slot; their limit and how many there are |
//! | `revocations` | the stored revocations, in one hash |
//! | `start` | starts the sessions of all primaries |
//! | `shards`, `shard`, `topology` | the primaries, and which one has a channel |
//! | `many_reads`, `shard_health` | reads of many channels; the check of all primaries |
//! | `cluster`, `slot_map` | keeps the map of a Redis Cluster; the parser of the map |
//! | `nodes` | the reports of the nodes, in one hash |
//! | `connection`, `supervisor`, `handshake`, `tasks` | the connections for commands to a primary, which are made again for ever; the tasks |
//! | `target`, `sentinel` | the URL, accounts and certificates; the primary as sentinels report it |
//! | `dial`, `reply_limit`, `reply_meter` | opens connections whose replies have a limit |
//! | `session`, `health`, `settled` | commands that belong together, and what their failure means; when no event up to an id can be added |
//! | `attempts`, `sending`, `unit` | the attempts of a write; sends commands once; their form |
//! | `follow`, `redirects` | sends commands where a reply points; the parser of such replies |
//! | `pubsub`, `subscriptions` | the connections for notifications, and a poll in case one is lost; which channels are subscribed |
//! | `follow_limit` | how many channels a node follows, and the part of one client |
//! | `failover`, `eras` | finds events that Redis has lost, and records the loss; when that must be done |
//! | `known_ids`, `verification` | which ids a node remembers for that; how it verifies one |
//! | `inspect`, `copy_target` | looks at a Redis without a broker; gets a copy of a log |
//! | `flask_sse`, `names` | the bridge to Flask-SSE; names of keys |
//! | `durability` | whether Redis is set up to keep what it acknowledges |
//! | `replies`, `errors`, `rejections`, `info` | pure parsers: replies, error replies and their table, `INFO` |
//! | `page_size`, `backoff`, `outage_log` | how much a read asks for; pauses between attempts to connect; the log lines of an outage |
//! | `scripts`, `scripts/*.lua` | the steps that must not be interrupted |
//!
//! The way of a command: `maintenance`, `reader`, `append` → `streams` → `shards` → `session` → the pure
//! files.

mod append;
mod attempts;
mod backoff;
mod channel_count;
mod channel_state;
mod cluster;
mod connection;
pub(crate) mod copy_target;
mod dial;
mod durability;
mod entries;
mod eras;
mod errors;
mod failover;
mod first_names;
mod flask_sse;
mod follow;
mod follow_limit;
mod foreign_entries;
mod format;
mod forward_read;
mod handshake;
mod health;
mod idempotency;
mod info;
mod inspect;
mod known_ids;
mod lifecycle;
mod lookups;
mod maintenance;
mod many_reads;
mod names;
mod nodes;
mod outage_log;
mod page_size;
mod pubsub;
mod read_gate;
mod reader;
mod redirects;
mod registry;
mod rejections;
mod replicated;
mod replies;
mod reply_limit;
mod reply_meter;
mod revocations;
mod scripts;
mod sending;
mod sentinel;
mod session;
mod settings_text;
mod settled;
mod shard;
mod shard_health;
mod shards;
mod slot_map;
mod slots;
mod start;
mod state_read;
mod streams;
mod subscriptions;
mod supervisor;
mod tail_reads;
mod target;
mod tasks;
mod topology;
mod unit;
mod verification;
mod write_reply;

use std::{sync::Arc, time::Duration};

use sse_proto::{Channel, Event, EventId, api::Gap};
use tokio::runtime::Handle;
use tokio_util::sync::DropGuard;

pub(crate) use self::follow_limit::FollowPermit;
pub use self::{
    errors::RedisSetupError,
    inspect::{RedisFacts, inspect},
    names::parse_prefix,
    target::{Account, Password, RedisLogin, TlsFiles, check_target, without_password},
};
use self::{
    flask_sse::FlaskBridge, follow_limit::FollowLimit, format::FormatUse, read_gate::ReadKind,
    start::Started, streams::Streams,
};
use super::{
    Appended, BackPage, BrokerError, Page, PageLimits, Publisher, ReadFrom, Retention, Settled,
    Warning,
    idempotency::{AppendItem, AppendOutcome, ids_of_only_item},
    lifecycle::Write,
    notify::ChangeNotifier,
};
use crate::{budget::ClientNet, metrics::Metrics};

/// A handle on the streams; clones share it. Its tasks end with the last clone.
#[derive(Debug, Clone)]
pub struct RedisBroker {
    streams: Arc<Streams>,
    notifier: ChangeNotifier,
    follow_limit: FollowLimit,
    flask_bridge: Option<Arc<FlaskBridge>>,
    metrics: Metrics,
    _tasks: Arc<DropGuard>,
}

/// Which Redis to use, and how.
#[derive(Debug, Clone, Copy)]
pub struct RedisOptions<'a> {
    /// URL of the Redis, or of its sentinels.
    pub url: &'a str,
    /// Accounts and certificates.
    pub login: &'a RedisLogin,
    /// Prefix of the names of all keys; see [`parse_prefix`].
    pub prefix: &'a str,
    /// Longest time for a publish, a read or any other step to be answered.
    pub timeout: Duration,
    /// Replicas that must confirm a publish before it is acknowledged.
    pub replicas_to_wait_for: u32,
    /// Channels that this node follows at a time; one client gets a quarter.
    pub followed_max: usize,
    /// Whether keys of an older format are converted.
    pub upgrades: bool,
    /// Channels that are bridged to Flask-SSE.
    pub flask_sse: &'a [Channel],
    /// Bytes of the data of the largest event. Replies can be larger if it is.
    pub event_bytes_max: usize,
}

impl RedisBroker {
    /// Starts the connections, and waits for the first one up to the time limit.
    ///
    /// A Redis that is away does not prevent the start: the broker keeps trying to connect.
    ///
    /// # Errors
    ///
    /// The URL, an account or a certificate cannot be used, or the version of this Redis is not
    /// supported.
    pub async fn connect(
        options: RedisOptions<'_>,
        retention: Retention,
        metrics: Metrics,
        runtime: &Handle,
    ) -> Result<Self, RedisSetupError> {
        let usage = FormatUse::Serve {
            upgrades: options.upgrades,
        };
        let started = Started::start(&options, usage, &retention, &metrics, runtime)?;
        let Started {
            dialer,
            shards,
            notifier,
            tasks,
            primary,
        } = started;
        let guard = tasks.ended.clone().drop_guard();
        shards.wait_for_first().await?;
        let names = shards.names.clone();
        let mut broker = Self {
            streams: Arc::new(Streams::new(shards, names, retention)),
            notifier,
            follow_limit: FollowLimit::new(options.followed_max, metrics.clone()),
            flask_bridge: None,
            metrics,
            _tasks: Arc::new(guard),
        };
        if let Some(primary) = primary {
            broker.flask_bridge =
                FlaskBridge::start(&broker, &options, (&dialer, &primary), &tasks).await;
        }
        tasks.spawn(pubsub::poll_followed(broker.notifier.clone()));
        let metrics = broker.metrics.clone();
        tasks.spawn(maintenance::run(Arc::downgrade(&broker.streams), metrics));
        Ok(broker)
    }

    pub(super) async fn append(
        &self,
        publisher: Publisher,
        channel: &Channel,
        events: Vec<Event>,
    ) -> Result<Appended, BrokerError> {
        let items = vec![AppendItem::without_key(events)];
        ids_of_only_item(self.append_idempotent(publisher, channel, items).await?)
    }

    pub(super) async fn append_idempotent(
        &self,
        publisher: Publisher,
        channel: &Channel,
        items: Vec<AppendItem>,
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let write = Write::of_items(items);
        Ok(self.write(publisher, channel, write).await?.outcomes)
    }

    pub(super) async fn read(
        &self,
        channel: &Channel,
        from: ReadFrom,
        limits: PageLimits,
    ) -> Result<Page, BrokerError> {
        let kind = ReadKind::History;
        self.streams.read(channel, from, limits, kind).await
    }

    pub(super) async fn read_tail(
        &self,
        channel: &Channel,
        from: ReadFrom,
        limits: PageLimits,
    ) -> Result<Page, BrokerError> {
        let kind = ReadKind::Tail;
        self.streams.read(channel, from, limits, kind).await
    }

    pub(super) async fn read_back(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> Result<BackPage, BrokerError> {
        self.streams.read_back(channel, before, limits).await
    }

    pub(super) async fn last_id(
        &self,
        channel: &Channel,
        client: Option<ClientNet>,
    ) -> Result<EventId, BrokerError> {
        self.streams.last_id(channel, client).await
    }

    pub(super) async fn has_channel(
        &self,
        channel: &Channel,
        client: Option<ClientNet>,
    ) -> Result<bool, BrokerError> {
        Ok(self.streams.has_appended(channel)
            || self.last_id(channel, client).await? != EventId::ZERO)
    }

    pub(super) async fn check_settled(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Settled, BrokerError> {
        self.streams.check_settled(channel, bound).await
    }

    pub(super) async fn loss_spanning(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Option<Gap>, BrokerError> {
        self.streams.loss_spanning(channel, bound).await
    }

    pub(super) async fn now_ms(&self) -> Result<u64, BrokerError> {
        self.streams.now_ms().await
    }

    pub(super) const fn notifier(&self) -> &ChangeNotifier {
        &self.notifier
    }

    /// Allows one more followed channel on behalf of `client`; returns `None` at the limit.
    pub(super) fn follow_permit(&self, client: Option<ClientNet>) -> Option<FollowPermit> {
        self.follow_limit.try_acquire(client)
    }

    /// Updates the subscription of `channel` after its watchers have changed.
    pub(super) fn update_subscription(&self, channel: &Channel) {
        let slot = self.streams.names.slot(channel);
        if let Some(shard) = self.streams.shards.topology().owner(slot) {
            shard.subscriptions.update(channel);
        }
    }

    pub(super) fn era(&self) -> Option<u64> {
        self.streams.shards.era()
    }

    pub(super) async fn check(&self) -> Result<Vec<Warning>, BrokerError> {
        let mut warnings = self.streams.shards.check_health().await?;
        warnings.extend(FlaskBridge::warning(self.flask_bridge.as_deref()));
        Ok(warnings)
    }
}
