//! Starts the tasks of a broker, which end with its last clone, and those of each primary, which end
//! with it.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::Connection,
    dial::Dialer,
    format::FormatCheck,
    health::Health,
    lookups::{self, LookupQueue},
    outage_log::OutageLog,
    pubsub::PubSubListener,
    read_gate::ReadGate,
    sentinel::watch_sentinel,
    shard::Shard,
    shards::Shards,
    subscriptions::Subscriptions,
    supervisor::{Supervised, Supervisor},
    tail_reads,
    target::ServerAddress,
    topology::Ownership,
};
use crate::{broker::notify::ChangeNotifier, metrics::Metrics, supervised::supervised_task};

/// Starts tasks.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    pub(super) runtime: Handle,
    pub(super) ended: CancellationToken,
}

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = supervised_task("a connection to Redis", task);
        let ended = self.ended.clone();
        self.runtime.spawn(ended.run_until_cancelled_owned(task));
    }

    pub(super) fn watch_sentinels(&self, dialer: &Dialer) {
        if let Some(sentinels) = dialer.sentinels() {
            for address in &sentinels.addresses {
                let watching = (sentinels.clone(), dialer.clone(), address.clone());
                self.spawn(watch_sentinel(watching.0, watching.1, watching.2));
            }
        }
    }

    fn child(&self) -> Self {
        Self {
            runtime: self.runtime.clone(),
            ended: self.ended.child_token(),
        }
    }
}

/// Starts the session of a primary and all that belongs to it.
pub(super) struct ShardStarter {
    pub(super) tasks: Tasks,
    pub(super) shards: Arc<Shards>,
    pub(super) format: FormatCheck,
    pub(super) timeout: Duration,
    pub(super) notifier: ChangeNotifier,
    pub(super) metrics: Metrics,
    /// Notified when the session of a primary is lost.
    pub(super) broken: Arc<Notify>,
}

impl ShardStarter {
    /// Also returns the address of the primary, as sentinels change it.
    pub(super) fn start(
        &self,
        dialer: Dialer,
        address: ServerAddress,
    ) -> (Arc<Shard>, watch::Receiver<Option<ServerAddress>>) {
        let tasks = self.tasks.child();
        let shards = &self.shards;
        let owned = Ownership {
            topology: shards.watch_topology(),
            names: shards.names.clone(),
            address: address.clone(),
        };
        let of_cluster = shards.is_cluster().then(|| owned.clone());
        let (connection, state) = Connection::new(Health::new(dialer.address(), self.timeout));
        let commands = connection.health.clone();
        let metrics = Arc::new(self.metrics.redis_shard(address.to_string()));
        let shard = Arc::new(Shard {
            address,
            connection,
            gate: ReadGate::new(self.metrics.redis_reads_waiting()),
            lookups: Arc::new(LookupQueue::new(self.metrics.redis_lookups_waiting())),
            tail_reads: Arc::default(),
            subscriptions: Arc::new(Subscriptions::new(self.notifier.clone(), of_cluster)),
            clock: Arc::default(),
            metrics: metrics.clone(),
            _tasks: tasks.ended.clone().drop_guard(),
        });
        let supervised = Supervised {
            losses: shards.losses.clone(),
            owned,
            clock: shard.clock.clone(),
            metrics: metrics.clone(),
            broken: self.broken.clone(),
        };
        let of_dialer = (dialer.clone(), self.format.clone());
        let supervisor = Supervisor::new(of_dialer, commands.clone(), supervised, state);
        let primary = supervisor.primary();
        tasks.spawn(supervisor.run());
        tasks.spawn(lookups::run(Arc::downgrade(shards), shard.lookups.clone()));
        let tail_reads = shard.tail_reads.clone();
        tasks.spawn(tail_reads::run(Arc::downgrade(shards), tail_reads));
        let listener = PubSubListener {
            dialer,
            names: shards.names.clone(),
            notifier: self.notifier.clone(),
            subscriptions: shard.subscriptions.clone(),
            outage: OutageLog::default(),
            commands,
            primary: primary.clone(),
            timeout: self.timeout,
            shards: Arc::downgrade(shards),
            metrics,
        };
        tasks.spawn(listener.run());
        (shard, primary)
    }
}
