//! A Redis Cluster of three primaries with a replica each, and the faults that concern it.
//!
//! Before a primary is killed, its writes are paused and its newest events are read. What the promoted
//! replica lacks of them is lost, and the checker excuses a gap over exactly these events.

use std::{collections::HashSet, path::Path, time::Duration};

use anyhow::Context as _;
use redis::FromRedisValue;
use tokio::time::Instant;

use crate::{
    checker::LostEvent,
    cluster::{Server, redis_server},
    failover::{ask, connection, lost_event, stream},
    plan::{CHANNELS, Fault},
    processes::{free_port, until},
    sentinel::Outcome,
};

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;
/// Longer than a failover and the copy for the replica take.
const HEALTHY_WITHIN: Duration = Duration::from_mins(1);
const PROMOTED_WITHIN: Duration = Duration::from_secs(30);
/// Newest events of a channel that are compared.
const COMPARED: usize = 3_000;
/// Keys that are moved at a time.
const KEYS: usize = 10;

/// The servers.
#[derive(Debug)]
pub(crate) struct RedisCluster {
    servers: Vec<Server>,
}

/// A line of `CLUSTER NODES`.
#[derive(Debug, Clone)]
struct NodeLine {
    id: String,
    port: u16,
    /// The primary of a replica; `None` for a primary.
    primary: Option<String>,
    slots: Vec<(usize, usize)>,
}

impl RedisCluster {
    /// Starts the servers, and divides the slots among three of them.
    pub(crate) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let mut servers = Vec::new();
        let mut buses = Vec::new();
        for number in 0..2 * PRIMARIES {
            let files = directory.join(format!("redis-{number}"));
            let mut server = redis_server(free_port()?, &files)?;
            let bus = free_port()?.to_string();
            server.add_arguments(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "1000",
                "--cluster-require-full-coverage",
                "no",
            ]);
            server.start(None)?;
            servers.push(server);
            buses.push(bus);
        }
        let cluster = Self { servers };
        let mut ids = Vec::new();
        for (number, server) in cluster.servers.iter().enumerate() {
            let listens = async || connection(server.port).await.ok();
            until(HEALTHY_WITHIN, listens)
                .await
                .context("a Redis does not start")?;
            ids.push(run::<String>(server.port, "CLUSTER MYID").await?);
            if number < PRIMARIES {
                let (first, next) = (number * SLOTS / PRIMARIES, (number + 1) * SLOTS / PRIMARIES);
                let slots = format!("CLUSTER ADDSLOTSRANGE {first} {}", next - 1);
                run::<()>(server.port, &slots).await?;
            }
            let epoch = format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1);
            run::<()>(server.port, &epoch).await?;
        }
        for (server, bus) in cluster.servers.iter().zip(&buses).skip(1) {
            let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus}", server.port);
            run::<()>(cluster.servers[0].port, &meet).await?;
        }
        for (replica, primary) in cluster.servers.iter().skip(PRIMARIES).zip(&ids) {
            let replicate = format!("CLUSTER REPLICATE {primary}");
            let replicates = async || run::<()>(replica.port, &replicate).await.ok();
            until(HEALTHY_WITHIN, replicates)
                .await
                .context("a replica does not know its primary")?;
        }
        cluster.wait_until_healthy().await?;
        Ok(cluster)
    }

    /// The URL for nodes.
    pub(crate) fn url(&self) -> String {
        let servers = self.servers.iter();
        let addresses: Vec<String> = servers
            .map(|server| format!("127.0.0.1:{}", server.port))
            .collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// Starts the servers that are not running, and waits until all are connected.
    pub(crate) async fn revive(&mut self) -> anyhow::Result<Vec<String>> {
        let mut ended = Vec::new();
        for server in &mut self.servers {
            ended.extend(server.ended());
            if !server.is_running() {
                server.start(None)?;
            }
        }
        self.wait_until_healthy().await?;
        Ok(ended)
    }

    async fn wait_until_healthy(&self) -> anyhow::Result<()> {
        let healthy = async || self.is_healthy().await.ok()?.then_some(());
        until(HEALTHY_WITHIN, healthy)
            .await
            .context("the Redis Cluster does not recover")
    }

    /// Whether all nodes know all others, and each primary has a replica that is connected.
    async fn is_healthy(&self) -> anyhow::Result<bool> {
        let known = format!("cluster_known_nodes:{}\r\n", self.servers.len());
        let mut replicas = 0;
        for server in &self.servers {
            let info: String = run(server.port, "CLUSTER INFO").await?;
            let is_ok = info.contains("cluster_state:ok") && info.contains(&known);
            if !is_ok || !info.contains("cluster_slots_ok:16384") {
                return Ok(false);
            }
            let info: String = run(server.port, "INFO replication").await?;
            // A replica that is not online yet has received nothing.
            replicas += info.matches("state=online").count();
        }
        Ok(replicas == PRIMARIES)
    }

    /// Injects a fault at the primary of one channel, and waits until it is over.
    pub(crate) async fn strike(&mut self, fault: Fault, number: usize) -> anyhow::Result<Outcome> {
        let channel = CHANNELS[number % CHANNELS.len()];
        let slot = self.slot(channel).await?;
        let (owner, nodes) = self.owner(slot, None).await?;
        if fault == Fault::MoveSlots {
            let others = nodes.iter().filter(|node| node.primary.is_none());
            let mut others = others.filter(|node| node.id != owner.id && !node.slots.is_empty());
            let target = others.next().context("no other primary")?;
            return self.move_slot(slot, &owner, target).await;
        }
        let began = Instant::now();
        let mut events = Vec::new();
        if fault == Fault::PlannedFailover {
            let replica = nodes
                .iter()
                .find(|node| node.primary.as_ref() == Some(&owner.id));
            let replica = replica.context("the primary has no replica")?;
            run::<()>(replica.port, "CLUSTER FAILOVER").await?;
        } else {
            run::<()>(owner.port, "CLIENT PAUSE 20000 WRITE").await?;
            events = self.read_events(&owner, COMPARED).await?;
            let server = self.servers.iter_mut();
            let mut server = server.filter(|server| server.port == owner.port);
            server
                .next()
                .context("the primary is not one of ours")?
                .kill();
        }
        let another = async || {
            let (now, _) = self.owner(slot, Some(owner.port)).await.ok()?;
            (now.port != owner.port).then_some(now)
        };
        let new = until(PROMOTED_WITHIN, another).await;
        let new = new.context("no other Redis takes over")?;
        let effect = u64::try_from(began.elapsed().as_millis())?;
        let kept: HashSet<(&str, String)> = if events.is_empty() {
            HashSet::new()
        } else {
            let kept = self.read_events(&new, 2 * COMPARED).await?;
            kept.into_iter()
                .map(|(channel, id, _)| (channel, id))
                .collect()
        };
        let missing = events
            .into_iter()
            .filter(|(channel, id, _)| !kept.contains(&(*channel, id.clone())));
        let lost: Vec<LostEvent> = missing
            .filter_map(|(channel, id, fields)| lost_event(channel, &id, &fields))
            .collect();
        Ok(Outcome { effect, lost })
    }

    /// Moves a slot with its keys; the effect is the number of keys.
    async fn move_slot(
        &self,
        slot: usize,
        from: &NodeLine,
        to: &NodeLine,
    ) -> anyhow::Result<Outcome> {
        let import = format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.id);
        run::<()>(to.port, &import).await?;
        let migrate = format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.id);
        run::<()>(from.port, &migrate).await?;
        let mut effect = 0;
        loop {
            let list = format!("CLUSTER GETKEYSINSLOT {slot} {KEYS}");
            let keys: Vec<String> = run(from.port, &list).await?;
            if keys.is_empty() {
                break;
            }
            for key in keys {
                let migrate = format!("MIGRATE 127.0.0.1 {} {key} 0 10000", to.port);
                run::<()>(from.port, &migrate).await?;
                effect += 1;
            }
        }
        let end = format!("CLUSTER SETSLOT {slot} NODE {}", to.id);
        for port in [to.port, from.port] {
            run::<()>(port, &end).await?;
        }
        let lost = Vec::new();
        Ok(Outcome { effect, lost })
    }

    async fn slot(&self, channel: &str) -> anyhow::Result<usize> {
        let command = format!("CLUSTER KEYSLOT {{{channel}}}");
        self.ask_any(&command, None).await
    }

    /// Returns the primary of a slot, and all nodes, as a node other than that at `dead` sees it.
    async fn owner(
        &self,
        slot: usize,
        dead: Option<u16>,
    ) -> anyhow::Result<(NodeLine, Vec<NodeLine>)> {
        let text: String = self.ask_any("CLUSTER NODES", dead).await?;
        let nodes: Vec<NodeLine> = text.lines().filter_map(parse_node).collect();
        let owns = |node: &&NodeLine| {
            let mut slots = node.slots.iter();
            slots.any(|(first, last)| (*first..=*last).contains(&slot))
        };
        let owner = nodes.iter().find(owns).context("a slot has no primary")?;
        Ok((owner.clone(), nodes))
    }

    async fn ask_any<T: FromRedisValue>(
        &self,
        command: &str,
        dead: Option<u16>,
    ) -> anyhow::Result<T> {
        let mut running = self.servers.iter().filter(|server| server.is_running());
        let server = running.find(|server| Some(server.port) != dead);
        run(server.context("no Redis is running")?.port, command).await
    }

    /// The newest events of the channels of one primary.
    async fn read_events(
        &self,
        node: &NodeLine,
        count: usize,
    ) -> anyhow::Result<Vec<(&'static str, String, Vec<String>)>> {
        let mut events = Vec::new();
        for channel in CHANNELS {
            let slot = self.slot(channel).await?;
            let owns = |(first, last): &(usize, usize)| (*first..=*last).contains(&slot);
            if !node.slots.iter().any(owns) {
                continue;
            }
            let range = format!("XREVRANGE {} + - COUNT {count}", stream(channel));
            let entries: Vec<(String, Vec<String>)> = run(node.port, &range).await?;
            let of_channel = |(id, fields)| (channel, id, fields);
            events.extend(entries.into_iter().map(of_channel));
        }
        Ok(events)
    }
}

/// Parses a line of `CLUSTER NODES`; returns `None` for a node that has failed.
fn parse_node(line: &str) -> Option<NodeLine> {
    let words: Vec<&str> = line.split(' ').collect();
    let [id, address, flags, primary, _, _, _, _, slots @ ..] = words.as_slice() else {
        return None;
    };
    let has = |flag: &str| flags.split(',').any(|it| it == flag);
    if has("fail") || has("noaddr") {
        return None;
    }
    let (_, address) = address.split_once(':')?;
    let slots = slots.iter().filter(|range| !range.starts_with('['));
    let range = |range: &&str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    Some(NodeLine {
        id: (*id).to_owned(),
        port: address.split_once('@')?.0.parse().ok()?,
        primary: has("slave").then(|| (*primary).to_owned()),
        slots: slots.filter_map(range).collect(),
    })
}

/// Sends a command, with its words separated by spaces.
async fn run<T: FromRedisValue>(port: u16, command: &str) -> anyhow::Result<T> {
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    for word in words {
        command.arg(word);
    }
    ask(&mut connection(port).await?, &command).await
}
