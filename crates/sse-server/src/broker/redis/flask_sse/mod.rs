//! The bridge to Flask-SSE, an extension of Flask that publishes events by Redis pub/sub.
//!
//! A channel of ours and the pub/sub channel of the same name carry the same events. Pub/sub has no
//! ids and no history, and every node receives its messages:
//!
//! ```text
//!                         ┌─ every node ────────────┐   ┌─ the node with the lease ─┐
//! PUBLISH by Flask ──────►│ connection ─► queue     │──►│ inbound ─► flask_append   │─► log
//!                         └─────────────────────────┘   │                           │
//! readers of Flask ◄────────── flask_publish ◄──────────│ outbound                  │◄─ log
//!                                                       └───────────────────────────┘
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `wire` | messages as Redis sends them |
//! | `message` | messages as Flask-SSE writes and reads them |
//! | `queue` | what this node has received and not seen in the log; the identity of each message |
//! | `connection` | the bridge's own connection, and the markers on it |
//! | `lease` | which node works for a channel |
//! | `inbound` | from the queue to the log |
//! | `outbound` | from the log to Flask-SSE |
//! | `report` | metrics, log lines, and the warning of health checks |
//!
//! # Why nothing is lost or stored twice
//!
//! A node cannot know which messages a dead node has stored. So a message has an identity that is
//! the same on every node (`queue`), and the log records which identities it has
//! (`flask_append.lua`). A node keeps a message until it knows that the log has it, and any node may
//! append it. The lease only saves work. Between two connections of all nodes, pub/sub loses
//! messages: nothing can know of them.

mod connection;
mod inbound;
mod lease;
mod message;
mod outbound;
mod queue;
mod report;
mod wire;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use rand::RngExt as _;
use sse_proto::Channel;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use self::{
    lease::Lease,
    queue::{Marker, Queue},
    report::Reports,
};
use super::{
    RedisBroker, RedisOptions, dial::Dialer, outage_log::OutageLog, streams::Streams,
    target::ServerAddress, tasks::Tasks,
};
use crate::broker::{Warning, notify::Watcher};

/// Bytes of the messages of one channel that a node keeps.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// Bytes of a message in addition to its data.
const MESSAGE_OVERHEAD: usize = 64 << 10;
/// Bytes that one byte of data can take in the JSON of Flask-SSE.
const ESCAPED_BYTES_MAX: usize = 6;
/// Messages after which the leader publishes a marker, although a second has not passed.
const MARKER_MESSAGES: u64 = 1000;

/// The bridge of a node.
pub(super) struct FlaskBridge {
    streams: Arc<Streams>,
    dialer: Dialer,
    /// Where the primary is, according to the connections for commands.
    primary: watch::Receiver<Option<ServerAddress>>,
    timeout: Duration,
    data_max: usize,
    /// A random number that no other process has.
    node: String,
    markers_made: AtomicU64,
    is_connected: AtomicBool,
    reports: Reports,
    channels: Vec<Arc<BridgedChannel>>,
}

/// A channel that is bridged.
struct BridgedChannel {
    /// Name of our channel and of the pub/sub channel of Flask-SSE.
    name: Channel,
    /// Name of the pub/sub channel of markers.
    markers: String,
    queue: Mutex<Queue>,
    /// Notified if the queue has work for `inbound`.
    received: Notify,
    /// Notified if the leader must publish a marker, or may have to acquire the lease.
    lease_due: Notify,
    /// Notified if the log may have new events.
    changed: Notify,
    /// Whether this node has asked for the lease since its start.
    has_asked: watch::Sender<bool>,
    /// The lease of this node, if it has one.
    lease: watch::Sender<Option<Lease>>,
    /// Times in which messages could not be stored, and events not be sent.
    storing: OutageLog,
    sending: OutageLog,
    /// Since when the log has had events that were not sent to Flask-SSE.
    unsent_since: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for FlaskBridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.channels).finish()
    }
}

impl std::fmt::Debug for BridgedChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.name.fmt(f)
    }
}

impl Watcher for BridgedChannel {
    fn changed(self: Arc<Self>) {
        self.changed.notify_one();
    }
}

impl FlaskBridge {
    /// Starts the bridge, if there are channels to bridge, and waits up to the time limit until it
    /// works: what is published after the start of the server must cross.
    pub(super) async fn start(
        broker: &RedisBroker,
        options: &RedisOptions<'_>,
        (dialer, primary): (&Dialer, &watch::Receiver<Option<ServerAddress>>),
        tasks: &Tasks,
    ) -> Option<Arc<Self>> {
        if options.flask_sse.is_empty() {
            return None;
        }
        let redis = (dialer.clone(), primary.clone());
        let bridge = Arc::new(Self::new(broker, options, redis));
        for channel in &bridge.channels {
            let watcher: Weak<BridgedChannel> = Arc::downgrade(channel);
            broker.notifier.follow(&channel.name, watcher);
            broker.update_subscription(&channel.name);
        }
        for task in bridge.tasks() {
            tasks.spawn(task);
        }
        if broker.era().is_some() {
            // A bridge that is not connected reports that itself.
            let _ = timeout(options.timeout, bridge.wait_until_ready()).await;
        }
        Some(bridge)
    }

    fn new(
        broker: &RedisBroker,
        options: &RedisOptions<'_>,
        (dialer, primary): (Dialer, watch::Receiver<Option<ServerAddress>>),
    ) -> Self {
        let mut bridge = Self {
            streams: broker.streams.clone(),
            dialer,
            primary,
            timeout: options.timeout,
            data_max: options.event_bytes_max,
            node: format!("{:016x}", rand::rng().random::<u64>()),
            markers_made: AtomicU64::new(0),
            is_connected: AtomicBool::new(false),
            reports: Reports::new(broker.metrics.clone()),
            channels: Vec::new(),
        };
        let bridged = options.flask_sse.iter();
        bridge.channels = bridged.map(|name| Arc::new(bridge.channel(name))).collect();
        bridge
    }

    fn channel(&self, name: &Channel) -> BridgedChannel {
        BridgedChannel {
            name: name.clone(),
            markers: self.streams.names.flask_markers(name),
            queue: Mutex::new(Queue::new(QUEUE_BYTES_MAX, self.new_marker())),
            received: Notify::new(),
            lease_due: Notify::new(),
            changed: Notify::new(),
            has_asked: watch::Sender::new(false),
            lease: watch::Sender::new(None),
            storing: OutageLog::default(),
            sending: OutageLog::default(),
            unsent_since: Mutex::new(None),
        }
    }

    /// Returns the tasks of the bridge, which never end.
    fn tasks(self: &Arc<Self>) -> Vec<BoxFuture<'static, ()>> {
        let of_channels = self.channels.iter().flat_map(|channel| {
            let both = || (self.clone(), channel.clone());
            let (lease, inbound, outbound) = (both(), both(), both());
            [
                lease::run(lease.0, lease.1).boxed(),
                inbound::run(inbound.0, inbound.1).boxed(),
                outbound::run(outbound.0, outbound.1).boxed(),
            ]
        });
        let common = [
            connection::run(self.clone()).boxed(),
            report::run(self.clone()).boxed(),
        ];
        of_channels.chain(common).collect()
    }

    async fn wait_until_ready(&self) {
        for channel in &self.channels {
            // The sender lives as long as the channel.
            let _ = channel.has_asked.subscribe().wait_for(|asked| *asked).await;
        }
    }

    /// Returns the warning for health checks, if there is one.
    pub(super) fn warning(bridge: Option<&Self>) -> Option<Warning> {
        let is_disconnected = bridge.is_some_and(|bridge| !bridge.is_connected());
        is_disconnected.then(report::disconnected_warning)
    }

    fn is_connected(&self) -> bool {
        self.is_connected.load(Relaxed)
    }

    /// Returns a marker that no node has published before.
    fn new_marker(&self) -> Marker {
        let number = self.markers_made.fetch_add(1, Relaxed);
        Marker::numbered(&self.node, number)
    }

    /// Bytes of the largest message that is kept.
    fn message_bytes_max(&self) -> usize {
        let data = self.data_max.saturating_mul(ESCAPED_BYTES_MAX);
        data.saturating_add(MESSAGE_OVERHEAD).min(QUEUE_BYTES_MAX)
    }
}

impl BridgedChannel {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No code panics while it holds this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self) -> Option<Lease> {
        self.lease.borrow().clone()
    }

    fn is_leader(&self) -> bool {
        self.lease.borrow().is_some()
    }

    /// Since when the log has had events that were not sent; `None` if all were sent.
    fn unsent_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unsent_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
