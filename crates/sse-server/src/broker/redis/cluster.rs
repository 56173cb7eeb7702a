//! The task that keeps the map of a Redis Cluster: which primary owns which slot.
//!
//! The map is read when a session is lost, after a `MOVED`, and every ten seconds in any case. A
//! `MOVED` changes its own slot at once. Each primary that owns slots has a session, which ends when it
//! owns none.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use redis::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    dial::Dialer,
    shard::Shard,
    shards::MOVES_MAX,
    slot_map::{SlotMap, map_commands, newest_map},
    slots::{Slot, Slots},
    target::ServerAddress,
    tasks::ShardStarter,
    topology::Topology,
};

/// Pause between two readings while nothing happens.
const READ_INTERVAL: Duration = Duration::from_secs(10);
/// The same while a primary cannot be used: another one may take over.
const OUTAGE_INTERVAL: Duration = Duration::from_millis(200);
/// Shortest pause between two readings.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest time for the replies of one node.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// How much longer the other nodes have once one has replied.
const GRACE: Duration = Duration::from_millis(150);
/// Nodes that are asked at a time.
const ASKED_MAX: usize = 9;

/// Reads the map and applies it.
pub(super) struct ClusterMap {
    pub(super) starter: ShardStarter,
    pub(super) dialer: Dialer,
}

/// Slots that nodes report at another address.
pub(super) type Moved = mpsc::Receiver<(Slot, ServerAddress)>;

impl ClusterMap {
    /// Reads the map and applies changes, for ever.
    pub(super) async fn run(self, mut moved: Moved) {
        let mut first_asked = 0;
        loop {
            if let Some(map) = self.read_unless_moved(first_asked, &mut moved).await {
                self.apply(&map);
            }
            first_asked += ASKED_MAX;
            self.wait_until_due(&mut moved).await;
        }
    }

    /// Reads the map, and applies slots that move meanwhile. Then the map that was read may be older
    /// than they are, and is not used.
    async fn read_unless_moved(&self, first_asked: usize, moved: &mut Moved) -> Option<SlotMap> {
        let mut read = std::pin::pin!(self.read(first_asked));
        let mut is_old = false;
        loop {
            tokio::select! {
                map = &mut read => return map.filter(|_| !is_old),
                Some(first) = moved.recv() => {
                    self.apply_moves(first, moved);
                    is_old = true;
                }
            }
        }
    }

    /// Waits until the map must be read again, and applies slots that move meanwhile.
    async fn wait_until_due(&self, moved: &mut Moved) {
        let shards = &self.starter.shards;
        let began = Instant::now();
        let mut due = began + self.interval();
        loop {
            tokio::select! {
                Some(first) = moved.recv() => self.apply_moves(first, moved),
                () = shards.map_is_old.notified() => {}
                () = self.starter.broken.notified() => {}
                () = sleep_until(due) => return,
            }
            due = due.min(Instant::now().max(began) + PAUSE_MIN);
        }
    }

    fn interval(&self) -> Duration {
        let topology = self.starter.shards.topology();
        let all_up = topology.shards.iter().all(|shard| shard.connection.is_up());
        if all_up && !topology.shards.is_empty() {
            READ_INTERVAL
        } else {
            OUTAGE_INTERVAL
        }
    }

    /// Asks several nodes, and returns the report that counts.
    async fn read(&self, first_asked: usize) -> Option<SlotMap> {
        let addresses = self.addresses(first_asked);
        let mut pending: FuturesUnordered<_> = addresses
            .iter()
            .map(|address| timeout(REPLY_TIMEOUT, ask(&self.dialer, address)))
            .collect();
        let (mut maps, mut failure) = (Vec::new(), "no node of the cluster replies".to_owned());
        let mut deadline = Instant::now() + REPLY_TIMEOUT;
        while let Ok(Some(reply)) = timeout_at(deadline, pending.next()).await {
            match reply {
                Ok(Ok(map)) => maps.push(map),
                Ok(Err(why)) => failure = why,
                Err(_) => {}
            }
            if maps.len() == 1 {
                deadline = deadline.min(Instant::now() + GRACE);
            }
        }
        let newest = newest_map(&maps).cloned();
        let failure = newest.is_none().then_some(failure);
        self.starter.shards.set_map_failure(failure);
        newest
    }

    /// The nodes to ask: those that are known, and those that the URL names.
    fn addresses(&self, first_asked: usize) -> Vec<ServerAddress> {
        let topology = self.starter.shards.topology();
        let known = topology.nodes.iter().map(|node| &node.address);
        let named = self.dialer.cluster_nodes().unwrap_or_default();
        let mut seen = HashSet::new();
        let all = known
            .chain(named)
            .filter(|address| seen.insert((*address).clone()));
        let all: Vec<ServerAddress> = all.cloned().collect();
        let count = all.len();
        let asked = all.into_iter().cycle().skip(first_asked % count.max(1));
        asked.take(count.min(ASKED_MAX)).collect()
    }

    fn apply(&self, map: &SlotMap) {
        let old = self.starter.shards.topology();
        let mut new = Topology::unknown(Slots::Cluster);
        new.nodes.clone_from(&map.nodes);
        let mut moved = Vec::new();
        for slot in Slots::Cluster.all() {
            let Some(owner) = map.owner(slot) else {
                continue;
            };
            let shard = new
                .shard_at(owner)
                .or_else(|| old.shard_at(owner))
                .cloned()
                .unwrap_or_else(|| self.start(owner));
            new.set_owner(slot, &shard);
            if old.owner(slot).is_none_or(|old| old.address != *owner) {
                moved.push(slot);
            }
        }
        if new.shards.is_empty() {
            return;
        }
        self.use_topology(new, &moved);
    }

    fn apply_moves(&self, first: (Slot, ServerAddress), others: &mut Moved) {
        let mut new = (*self.starter.shards.topology()).clone();
        let mut moved = Vec::new();
        let mut next = Some(first);
        while let Some((slot, address)) = next {
            let address = new.known_address(address);
            if new.owner(slot).is_none_or(|owner| owner.address != address) {
                let known = new.shard_at(&address).cloned();
                let shard = known.unwrap_or_else(|| self.start(&address));
                new.set_owner(slot, &shard);
                moved.push(slot);
            }
            next = others.try_recv().ok().filter(|_| moved.len() < MOVES_MAX);
        }
        if !moved.is_empty() {
            self.use_topology(new, &moved);
        }
    }

    fn start(&self, address: &ServerAddress) -> Arc<Shard> {
        let dialer = self.dialer.of_node(address.clone());
        self.starter.start(dialer, address.clone()).0
    }

    /// Uses a topology. The followers of channels that have moved are subscribed at the new owner.
    fn use_topology(&self, topology: Topology, moved: &[Slot]) {
        let shards = &self.starter.shards;
        let old = shards.topology();
        shards.set_topology(topology, moved);
        let new = shards.topology();
        let slots: HashSet<Slot> = moved.iter().copied().collect();
        if !slots.is_empty() {
            tracing::debug!(slots = slots.len(), "slots have another primary");
        }
        for channel in self.starter.notifier.followed() {
            let slot = shards.names.slot(&channel);
            if let Some(shard) = old.owner(slot).filter(|_| slots.contains(&slot)) {
                shard.subscriptions.update(&channel);
            }
            // Also where no slot has moved: Redis may have ended a subscription meanwhile.
            if let Some(shard) = new.owner(slot) {
                shard.subscriptions.update(&channel);
            }
        }
    }
}

/// Asks a node of a Redis Cluster for the map; the error is in words.
async fn ask(dialer: &Dialer, address: &ServerAddress) -> Result<SlotMap, String> {
    let replies = async {
        let mut connection = dialer.open_commands(address, REPLY_TIMEOUT).await?;
        map_commands().query_async(&mut connection).await
    };
    let replies: redis::RedisResult<Vec<Value>> = replies.await;
    let map = replies
        .map_err(|error| error.to_string())
        .and_then(|replies| SlotMap::parse(replies, address, dialer.has_tls()));
    map.map_err(|why| format!("{address}: {why}"))
}

/// Returns a primary of the Redis Cluster that `dialer` names.
///
/// # Errors
///
/// In words: no node reports one.
pub(super) async fn find_any_primary(dialer: &Dialer) -> Result<ServerAddress, String> {
    let mut failure = "no node of the cluster has slots".to_owned();
    for node in dialer.cluster_nodes().unwrap_or_default() {
        match timeout(REPLY_TIMEOUT, ask(dialer, node)).await {
            Ok(Ok(map)) => {
                if let Some(primary) = map.primaries.into_iter().next() {
                    return Ok(primary);
                }
            }
            Ok(Err(why)) => failure = why,
            Err(_) => failure = format!("{node}: no response within {REPLY_TIMEOUT:?}"),
        }
    }
    Err(failure)
}
