//! Starts the sessions of all primaries.

use std::sync::Arc;

use futures::future::join_all;
use tokio::{runtime::Handle, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    RedisOptions,
    cluster::{ClusterMap, Moved},
    dial::Dialer,
    errors::RedisSetupError,
    failover::LossDetector,
    format::{FormatCheck, FormatUse},
    names::Names,
    reply_limit::reply_cost_max,
    shards::Shards,
    slots::Slots,
    target::{ServerAddress, Target},
    tasks::{ShardStarter, Tasks},
    topology::Topology,
};
use crate::{
    broker::{Retention, notify::ChangeNotifier},
    metrics::Metrics,
};

/// What runs for a broker.
pub(super) struct Started {
    pub(super) dialer: Dialer,
    pub(super) shards: Arc<Shards>,
    pub(super) notifier: ChangeNotifier,
    pub(super) tasks: Tasks,
    /// The address of the only primary, as sentinels change it; `None` with a Redis Cluster.
    pub(super) primary: Option<watch::Receiver<Option<ServerAddress>>>,
}

impl Started {
    /// Starts the session of the only primary, or the task that starts one per primary of a Redis
    /// Cluster.
    ///
    /// # Errors
    ///
    /// The URL, an account or a certificate cannot be used.
    pub(super) fn start(
        options: &RedisOptions<'_>,
        usage: FormatUse,
        retention: &Retention,
        metrics: &Metrics,
        runtime: &Handle,
    ) -> Result<Self, RedisSetupError> {
        let dialer = dialer(options)?;
        let slots = match dialer.cluster_nodes() {
            Some(_) => Slots::Cluster,
            None => Slots::One,
        };
        let names = Names::new(options.prefix, slots);
        let losses = LossDetector::new(
            names.clone(),
            retention.age_max,
            retention.channels_max,
            metrics.clone(),
        );
        let tasks = Tasks {
            runtime: runtime.clone(),
            ended: CancellationToken::new(),
        };
        let of_servers = (dialer.address(), options.timeout);
        let has_successors = slots == Slots::Cluster || dialer.sentinels().is_some();
        let (shards, moved) =
            Shards::new(Arc::new(losses), names.clone(), of_servers, has_successors);
        let shards = Arc::new(shards);
        let notifier = ChangeNotifier::default();
        let starter = ShardStarter {
            tasks: tasks.clone(),
            shards: shards.clone(),
            format: FormatCheck { names, usage },
            timeout: options.timeout,
            notifier: notifier.clone(),
            metrics: metrics.clone(),
            broken: Arc::default(),
        };
        let primary = start_shards(&tasks, starter, &dialer, moved);
        Ok(Self {
            dialer,
            shards,
            notifier,
            tasks,
            primary,
        })
    }
}

impl Shards {
    /// Waits for the first connections, up to the time limit. A Redis that is away is only logged.
    ///
    /// # Errors
    ///
    /// `Unusable`: the version of a Redis or the format of its keys is not supported.
    pub(super) async fn wait_for_first(&self) -> Result<(), RedisSetupError> {
        let mut topology = self.watch_topology();
        let known = topology.wait_for(|topology| !topology.shards.is_empty());
        let is_known = timeout(self.timeout, known).await.is_ok();
        if !is_known {
            tracing::warn!(
                address = self.address,
                why = self.why_no_owner(),
                "Redis is not reachable yet; publishes get a 503 until it is"
            );
        }
        let topology = self.topology();
        let first = topology
            .shards
            .iter()
            .map(|shard| shard.connection.wait_for_first());
        join_all(first).await.into_iter().collect()
    }
}

/// Returns the address of the only primary, as sentinels change it.
fn start_shards(
    tasks: &Tasks,
    starter: ShardStarter,
    dialer: &Dialer,
    moved: Moved,
) -> Option<watch::Receiver<Option<ServerAddress>>> {
    if dialer.cluster_nodes().is_some() {
        let dialer = dialer.clone();
        tasks.spawn(ClusterMap { starter, dialer }.run(moved));
        return None;
    }
    tasks.watch_sentinels(dialer);
    let address = dialer.fixed_address();
    let sentinel = dialer.sentinels().and_then(|it| it.addresses.first());
    let address = address.or_else(|| sentinel.cloned())?;
    let (shard, primary) = starter.start(dialer.clone(), address);
    let slots: Vec<_> = Slots::One.all().collect();
    starter.shards.set_topology(Topology::of_one(shard), &slots);
    Some(primary)
}

fn dialer(options: &RedisOptions<'_>) -> Result<Dialer, RedisSetupError> {
    let target = Target::open(options.url, options.login).map_err(RedisSetupError::Target)?;
    let reply_cost_max = reply_cost_max(options.event_bytes_max);
    Ok(Dialer::new(target, reply_cost_max).waiting_for(options.replicas_to_wait_for))
}
