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
//! | `lifecycle`, `settings_text` | settings, deletion and lists of channels |
//! | `format` | the number of the format of all keys |
//! | `idempotency` | the arguments of the script that carries out a write |
//! | `maintenance` | what time does with channels: trims and expires them, in the order of their due times |
//! | `registry`, `slots` | the registries of channels, one per hash slot, and their limit |
//! | `revocations` | the stored revocations, in one hash |
//! | `nodes` | the reports of the nodes, in one hash |
//! | `connection`, `supervisor`, `handshake`, `tasks` | the connections for commands, which are made again for ever; the tasks |
//! | `target`, `sentinel` | the URL, accounts and certificates; the primary as sentinels report it |
//! | `dial`, `reply_limit`, `reply_meter` | opens connections whose replies have a limit |
//! | `session`, `health`, `settled` | commands that belong together, and what their failure means; when no event up to an id can be added |
//! | `pubsub`, `subscriptions` | the connection for notifications, and a poll in case one is lost; which channels are subscribed |
//! | `follow_limit` | how many channels a node follows, and the part of one client |
//! | `failover` | finds events that Redis has lost, and records the loss |
//! | `known_ids`, `verification` | which ids a node remembers for that; how it verifies one |
//! | `inspect`, `copy_target` | looks at a Redis without a broker; gets a copy of a log |
//! | `flask_sse`, `names` | the bridge to Flask-SSE; names of keys |
//! | `durability` | whether Redis is set up to keep what it acknowledges |
//! | `replies`, `errors`, `rejections`, `info` | pure parsers: replies, error replies and their table, `INFO` |
//! | `page_size`, `backoff`, `outage_log` | how much a read asks for; pauses between attempts to connect; the log lines of an outage |
//! | `scripts`, `scripts/*.lua` | the steps that must not be interrupted |
//!
//! The imports form no cycle: `maintenance` → `reader` → `streams` → `connection` → `session` →
//! `failover` → the pure files.

mod append;
mod backoff;
mod channel_state;
mod connection;
pub(crate) mod copy_target;
mod dial;
mod durability;
mod entries;
mod errors;
mod failover;
mod flask_sse;
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
mod names;
mod nodes;
mod outage_log;
mod page_size;
mod pubsub;
mod read_gate;
mod reader;
mod registry;
mod rejections;
mod replicated;
mod replies;
mod reply_limit;
mod reply_meter;
mod revocations;
mod scripts;
mod sentinel;
mod session;
mod settings_text;
mod settled;
mod slots;
mod state_read;
mod streams;
mod subscriptions;
mod supervisor;
mod tail_reads;
mod target;
mod tasks;
mod verification;
mod write_reply;

use std::{sync::Arc, time::Duration};

use sse_proto::{Channel, Event, EventId, api::Gap};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use self::follow_limit::FollowPermit;
use self::{
    dial::Dialer,
    failover::LossDetector,
    flask_sse::FlaskBridge,
    follow_limit::FollowLimit,
    format::{FormatCheck, FormatUse},
    names::Names,
    outage_log::OutageLog,
    pubsub::PubSubListener,
    read_gate::ReadKind,
    reply_limit::reply_cost_max,
    streams::Streams,
    subscriptions::Subscriptions,
    target::Target,
    tasks::Tasks,
};
pub use self::{
    errors::RedisSetupError,
    inspect::{RedisFacts, inspect},
    names::parse_prefix,
    target::{Account, Password, RedisLogin, TlsFiles, check_target, without_password},
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
    subscriptions: Arc<Subscriptions>,
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
        let dialer = dialer(&options)?;
        let names = Names::new(options.prefix);
        let losses = loss_detector(names.clone(), &retention, metrics.clone());
        let tasks = Tasks {
            runtime,
            ended: CancellationToken::new(),
        };
        let guard = tasks.ended.clone().drop_guard();
        let format = FormatCheck {
            names: names.clone(),
            usage: FormatUse::Serve {
                upgrades: options.upgrades,
            },
        };
        let (connection, primary) =
            tasks.start_connection(dialer.clone(), format, options.timeout, losses.clone());
        connection.wait_for_first().await?;
        let commands = connection.health.clone();
        let notifier = ChangeNotifier::default();
        let mut broker = Self {
            streams: Arc::new(Streams::new(
                connection,
                names.clone(),
                retention,
                losses,
                &metrics,
            )),
            subscriptions: Arc::new(Subscriptions::new(notifier.clone())),
            notifier,
            follow_limit: FollowLimit::new(options.followed_max, metrics.clone()),
            flask_bridge: None,
            metrics,
            _tasks: Arc::new(guard),
        };
        broker.flask_bridge =
            FlaskBridge::start(&broker, &options, (&dialer, &primary), &tasks).await;
        tasks.start_notifications(PubSubListener {
            dialer,
            names,
            notifier: broker.notifier.clone(),
            subscriptions: broker.subscriptions.clone(),
            outage: OutageLog::default(),
            commands,
            primary,
            timeout: options.timeout,
        });
        let metrics = broker.metrics.clone();
        tasks.spawn(lookups::run(broker.streams.clone()));
        tasks.spawn(tail_reads::run(broker.streams.clone()));
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
        self.subscriptions.update(channel);
    }

    pub(super) fn era(&self) -> Option<u64> {
        self.streams.connection.era()
    }

    pub(super) async fn check(&self) -> Result<Vec<Warning>, BrokerError> {
        let mut warnings = self.streams.check_health().await?;
        warnings.extend(FlaskBridge::warning(self.flask_bridge.as_deref()));
        Ok(warnings)
    }
}

fn dialer(options: &RedisOptions<'_>) -> Result<Dialer, RedisSetupError> {
    let target = Target::open(options.url, options.login).map_err(RedisSetupError::Target)?;
    let reply_cost_max = reply_cost_max(options.event_bytes_max);
    Ok(Dialer::new(target, reply_cost_max).waiting_for(options.replicas_to_wait_for))
}

fn loss_detector(names: Names, retention: &Retention, metrics: Metrics) -> Arc<LossDetector> {
    let Retention {
        age_max,
        channels_max,
        ..
    } = *retention;
    Arc::new(LossDetector::new(names, age_max, channels_max, metrics))
}
