//! A real Redis Cluster that the test owns, with three primaries on loopback.

use super::{
    RedisServer, free_port,
    redis_acl::{PASSWORD, USER},
    until,
};

/// Primaries.
pub(crate) const PRIMARIES: usize = 3;
/// Slots of a Redis Cluster.
const SLOTS: usize = 16_384;

/// The nodes: first the primaries, and then a replica of each, if there are replicas.
pub(crate) struct RedisCluster {
    pub(crate) nodes: Vec<RedisServer>,
    ids: Vec<String>,
}

impl RedisCluster {
    /// Three primaries, without replicas.
    pub(crate) async fn start() -> Self {
        Self::start_nodes(PRIMARIES, &[]).await
    }

    /// Three primaries, each with a replica.
    pub(crate) async fn start_with_replicas() -> Self {
        let cluster = Self::start_nodes(2 * PRIMARIES, &["--repl-diskless-sync-delay", "0"]).await;
        for number in 0..PRIMARIES {
            let replica = &cluster.nodes[PRIMARIES + number];
            let command = format!("CLUSTER REPLICATE {}", cluster.ids[number]);
            until("a replica knows its primary", async || {
                replica.command::<String>(words(&command)).await.ok()
            })
            .await;
        }
        for primary in &cluster.nodes[..PRIMARIES] {
            until("the replica is online", async || {
                let info: String = primary.command(words("INFO replication")).await.ok()?;
                info.contains("state=online").then_some(())
            })
            .await;
        }
        cluster.until_agreed().await;
        cluster
    }

    async fn start_nodes(count: usize, flags: &[&str]) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..count {
            // By default the port of the bus is in the range that the system gives to connections.
            let bus = free_port().to_string();
            let common = [
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "1000",
                "--cluster-require-full-coverage",
                "no",
                "--appendonly",
                "yes",
            ];
            let flags: Vec<&str> = common.iter().chain(flags).copied().collect();
            let node = RedisServer::start_with(&flags).await;
            nodes.push((node, bus));
        }
        let mut ids = Vec::new();
        for (number, (node, _)) in nodes.iter().enumerate() {
            ids.push(node.command::<String>(words("CLUSTER MYID")).await.unwrap());
            if number < PRIMARIES {
                let [first, last] = range_of(number);
                node.run(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"))
                    .await;
            }
            node.run(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1))
                .await;
        }
        for (node, bus) in &nodes[1..] {
            let command = format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port());
            nodes[0].0.run(&command).await;
        }
        let nodes = nodes.into_iter().map(|(node, _)| node).collect();
        let cluster = Self { nodes, ids };
        cluster.until_agreed().await;
        cluster
    }

    /// Waits until every node knows all others, and serves.
    pub(crate) async fn until_agreed(&self) {
        for node in &self.nodes {
            until("a node knows the others", async || {
                let info: String = node.command(words("CLUSTER INFO")).await.ok()?;
                let knows = format!("cluster_known_nodes:{}\r\n", self.nodes.len());
                let is_ok = info.contains("cluster_state:ok") && info.contains(&knows);
                (is_ok && info.contains("cluster_slots_ok:16384")).then_some(())
            })
            .await;
        }
    }

    /// The URL for a node of ours, whose user has only the rights that the docs list.
    pub(crate) fn url(&self) -> String {
        let nodes = self.nodes.iter();
        let nodes: Vec<_> = nodes
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!("redis+cluster://{USER}:{PASSWORD}@{}", nodes.join(","))
    }

    /// Returns a name per primary of a channel that lies there.
    pub(crate) async fn channels(&self) -> [String; PRIMARIES] {
        let mut found: [Option<String>; PRIMARIES] = [None, None, None];
        for number in 0.. {
            let name = format!("c{number}");
            let slot = self.slot_of(&name).await;
            let primary = (0..PRIMARIES)
                .find(|primary| (range_of(*primary)[0]..=range_of(*primary)[1]).contains(&slot));
            found[primary.unwrap()].get_or_insert(name);
            if found.iter().all(Option::is_some) {
                break;
            }
        }
        found.map(Option::unwrap)
    }

    /// Returns the slot of a channel.
    pub(crate) async fn slot_of(&self, channel: &str) -> usize {
        let command = format!("CLUSTER KEYSLOT {{{channel}}}");
        self.nodes[0].command(words(&command)).await.unwrap()
    }

    /// Begins to move the slot of `channel` from one primary to another.
    pub(crate) async fn begin_move(&self, channel: &str, [from, to]: [usize; 2]) {
        let slot = self.slot_of(channel).await;
        let (source, target) = (&self.ids[from], &self.ids[to]);
        let import = format!("CLUSTER SETSLOT {slot} IMPORTING {source}");
        self.nodes[to].run(&import).await;
        let migrate = format!("CLUSTER SETSLOT {slot} MIGRATING {target}");
        self.nodes[from].run(&migrate).await;
    }

    /// Moves the keys of the slot, up to `count`; returns how many it has moved.
    pub(crate) async fn move_keys(
        &self,
        channel: &str,
        [from, to]: [usize; 2],
        count: usize,
    ) -> usize {
        let slot = self.slot_of(channel).await;
        let list = format!("CLUSTER GETKEYSINSLOT {slot} {count}");
        let keys: Vec<String> = self.nodes[from].command(words(&list)).await.unwrap();
        for key in &keys {
            let port = self.nodes[to].port();
            self.nodes[from]
                .run(&format!("MIGRATE 127.0.0.1 {port} {key} 0 5000"))
                .await;
        }
        keys.len()
    }

    /// Ends the move of a slot whose keys have moved.
    pub(crate) async fn end_move(&self, channel: &str, [from, to]: [usize; 2]) {
        let slot = self.slot_of(channel).await;
        let command = format!("CLUSTER SETSLOT {slot} NODE {}", self.ids[to]);
        for number in [to, from] {
            self.nodes[number].run(&command).await;
        }
    }

    /// Lets the replica of this primary take over, as an operator does.
    pub(crate) async fn fail_over(&self, primary: usize) {
        let replica = &self.nodes[PRIMARIES + primary];
        until("a failover begins", async || {
            replica
                .command::<String>(words("CLUSTER FAILOVER"))
                .await
                .ok()
        })
        .await;
    }

    /// Waits until the replica of this primary is a primary.
    pub(crate) async fn until_promoted(&self, primary: usize) {
        let replica = &self.nodes[PRIMARIES + primary];
        until("the replica is promoted", async || {
            let role: Vec<redis::Value> = replica.command(words("ROLE")).await.ok()?;
            matches!(role.first()?, redis::Value::BulkString(role) if role == b"master")
                .then_some(())
        })
        .await;
    }
}

/// The slots of a primary: the first and the last one.
fn range_of(primary: usize) -> [usize; 2] {
    [
        primary * SLOTS / PRIMARIES,
        (primary + 1) * SLOTS / PRIMARIES - 1,
    ]
}

fn words(command: &str) -> redis::Cmd {
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    for word in words {
        command.arg(word);
    }
    command
}
