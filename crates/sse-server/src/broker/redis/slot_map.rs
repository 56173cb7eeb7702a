//! Which primary owns each slot, as a node of a Redis Cluster reports it: a pure parser.

use std::collections::HashMap;

use redis::{Pipeline, Value};

use super::{
    info::info_value,
    replies::value_pipeline,
    slots::{SLOTS, Slot, Slots},
    target::ServerAddress,
};

/// The report of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotMap {
    /// The primaries that own slots.
    pub(super) primaries: Vec<ServerAddress>,
    /// Per slot, the position of its owner in `primaries`.
    owners: Vec<Option<u16>>,
    /// All nodes of the cluster, and every address of each.
    pub(super) nodes: Vec<NodeNames>,
    /// Highest configuration epoch that the node knows.
    pub(super) epoch: u64,
    /// Whether the node regards the cluster as usable.
    pub(super) is_ok: bool,
}

/// The addresses of one node: the one to connect to, and all others that redirections may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeNames {
    pub(super) address: ServerAddress,
    pub(super) others: Vec<ServerAddress>,
}

/// The commands whose replies [`SlotMap::parse`] expects.
pub(super) fn map_commands() -> Pipeline {
    let command = |word: &str| {
        let mut command = redis::cmd("CLUSTER");
        command.arg(word);
        command
    };
    value_pipeline([command("SHARDS"), command("INFO")])
}

impl SlotMap {
    /// Parses the replies to [`map_commands`] of the node at `from`. With TLS, nodes are known by
    /// their names, because certificates have names.
    ///
    /// # Errors
    ///
    /// In words: an error reply, or a reply that no cluster sends.
    pub(super) fn parse(
        replies: Vec<Value>,
        from: &ServerAddress,
        has_tls: bool,
    ) -> Result<Self, String> {
        let [shards, info] = replies.try_into().map_err(|_| "too few replies")?;
        let info: String = parse(info)?;
        let mut map = Self {
            primaries: Vec::new(),
            owners: vec![None; Slots::Cluster.count()],
            nodes: Vec::new(),
            epoch: info_value(&info, "cluster_current_epoch")
                .and_then(|epoch| epoch.parse().ok())
                .ok_or("CLUSTER INFO has no epoch")?,
            is_ok: info_value(&info, "cluster_state") == Some("ok"),
        };
        let shards: Vec<HashMap<String, Value>> = parse(shards)?;
        for shard in shards {
            map.add_shard(shard, from, has_tls)?;
        }
        Ok(map)
    }

    fn add_shard(
        &mut self,
        mut shard: HashMap<String, Value>,
        from: &ServerAddress,
        has_tls: bool,
    ) -> Result<(), String> {
        let slots: Vec<u16> = parse(shard.remove("slots").ok_or("a shard has no slots")?)?;
        let nodes: Vec<Node> = parse(shard.remove("nodes").ok_or("a shard has no nodes")?)?;
        let mut primary = None;
        for node in nodes {
            // A node without an address takes part in no cluster yet.
            let Some(names) = node_names(&node, from, has_tls) else {
                continue;
            };
            let is = |field: &str, value: &str| text(&node, field).as_deref() == Some(value);
            if is("role", "master") && (primary.is_none() || is("health", "online")) {
                primary = Some(names.address.clone());
            }
            self.nodes.push(names);
        }
        let Some(primary) = primary else {
            return Ok(());
        };
        if slots.is_empty() {
            return Ok(());
        }
        let position = u16::try_from(self.primaries.len()).map_err(|_| "too many shards")?;
        self.primaries.push(primary);
        let (ranges, rest) = slots.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a range of slots has no end".to_owned());
        }
        for [first, last] in ranges {
            if first > last || *last >= SLOTS {
                return Err(format!("{first}-{last} is no range of slots"));
            }
            let range = usize::from(*first)..=usize::from(*last);
            self.owners[range].fill(Some(position));
        }
        Ok(())
    }

    /// Returns the primary that owns `slot`.
    pub(super) fn owner(&self, slot: Slot) -> Option<&ServerAddress> {
        let position = (*self.owners.get(slot.index())?)?;
        self.primaries.get(usize::from(position))
    }
}

type Node = HashMap<String, Value>;

fn node_names(node: &Node, from: &ServerAddress, has_tls: bool) -> Option<NodeNames> {
    let port_field = if has_tls { "tls-port" } else { "port" };
    let port = number(node, port_field)
        .or_else(|| number(node, "port"))?
        .to_string();
    let known = |field: &str| text(node, field).filter(|host| !host.is_empty() && host != "?");
    let (endpoint, ip, name) = (known("endpoint"), known("ip"), known("hostname"));
    let preferred = if has_tls {
        [&name, &endpoint, &ip]
    } else {
        [&endpoint, &ip, &name]
    };
    let mut addresses = preferred
        .into_iter()
        .flatten()
        .filter_map(|host| ServerAddress::reported(host, &port))
        .collect::<Vec<_>>();
    if addresses.is_empty() {
        // The node that replies does not know its own address.
        let ServerAddress::Tcp { host, .. } = from else {
            return None;
        };
        addresses.push(ServerAddress::reported(host, &port)?);
    }
    let address = addresses.remove(0);
    addresses.retain(|other| *other != address);
    Some(NodeNames {
        address,
        others: addresses,
    })
}

fn text(node: &Node, field: &str) -> Option<String> {
    redis::from_redis_value(node.get(field)?.clone()).ok()
}

fn number(node: &Node, field: &str) -> Option<u16> {
    redis::from_redis_value(node.get(field)?.clone()).ok()
}

fn parse<T: redis::FromRedisValue>(value: Value) -> Result<T, String> {
    match value {
        Value::ServerError(error) => Err(format!(
            "{} {}",
            error.code(),
            error.details().unwrap_or_default()
        )),
        value => redis::from_redis_value(value).map_err(|error| error.to_string()),
    }
}

/// Chooses the report that counts: of nodes that regard the cluster as usable, that with the highest
/// epoch. Among equals, that on which most nodes agree.
///
/// A primary that is cut off from the others has an old epoch, and soon regards the cluster as
/// unusable.
pub(super) fn newest_map(maps: &[SlotMap]) -> Option<&SlotMap> {
    let agreeing = |map: &SlotMap| {
        maps.iter()
            .filter(|other| {
                (0..SLOTS)
                    .map(Slot::new)
                    .all(|slot| other.owner(slot) == map.owner(slot))
            })
            .count()
    };
    maps.iter()
        .max_by_key(|map| (map.is_ok, map.epoch, agreeing(map)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn node(port: i64, role: &str, health: &str, hostname: &str) -> Value {
        let fields = [
            ("id", bulk("x")),
            ("port", Value::Int(port)),
            ("tls-port", Value::Int(port + 1000)),
            ("ip", bulk("10.0.0.1")),
            ("endpoint", bulk("10.0.0.1")),
            ("hostname", bulk(hostname)),
            ("role", bulk(role)),
            ("replication-offset", Value::Int(7)),
            ("health", bulk(health)),
        ];
        Value::Array(
            fields
                .into_iter()
                .flat_map(|(name, value)| [bulk(name), value])
                .collect(),
        )
    }

    fn shard(slots: &[i64], nodes: Vec<Value>) -> Value {
        let slots = slots.iter().map(|slot| Value::Int(*slot)).collect();
        Value::Array(vec![
            bulk("slots"),
            Value::Array(slots),
            bulk("nodes"),
            Value::Array(nodes),
        ])
    }

    fn info(epoch: u64, state: &str) -> Value {
        bulk(&format!(
            "cluster_state:{state}\r\ncluster_current_epoch:{epoch}\r\n"
        ))
    }

    fn from() -> ServerAddress {
        ServerAddress::reported("10.0.0.9", "1").unwrap()
    }

    fn map(shards: Vec<Value>, epoch: u64, state: &str) -> Result<SlotMap, String> {
        SlotMap::parse(
            vec![Value::Array(shards), info(epoch, state)],
            &from(),
            false,
        )
    }

    fn owner(map: &SlotMap, slot: u16) -> Option<String> {
        map.owner(Slot::new(slot)).map(ToString::to_string)
    }

    #[test]
    fn a_report_names_the_primary_of_each_slot() {
        let shards = vec![
            shard(
                &[0, 99, 200, 299],
                vec![
                    node(1, "master", "fail", ""),
                    node(2, "master", "online", ""),
                    node(3, "replica", "online", ""),
                ],
            ),
            shard(&[], vec![node(4, "master", "online", "")]),
            shard(&[100, 100], vec![node(5, "master", "fail", "redis-5")]),
        ];
        let read = map(shards.clone(), 7, "ok").unwrap();
        assert_eq!((read.epoch, read.is_ok, read.nodes.len()), (7, true, 5));
        let owners = [0, 99, 100, 200, 299, 300].map(|slot| owner(&read, slot));
        let two = Some("10.0.0.1:2".to_owned());
        let five = Some("10.0.0.1:5".to_owned());
        assert_eq!(
            owners,
            [two.clone(), two.clone(), five, two.clone(), two, None]
        );
        let replies = vec![Value::Array(shards), info(7, "fail")];
        let with_tls = SlotMap::parse(replies, &from(), true).unwrap();
        assert_eq!(owner(&with_tls, 100).as_deref(), Some("redis-5:1005"));
        assert_eq!(with_tls.nodes[4].others[0].to_string(), "10.0.0.1:1005");
    }

    #[test]
    fn what_no_cluster_sends_is_an_error_in_words() {
        for shards in [
            vec![shard(&[5, 3], vec![node(1, "master", "online", "")])],
            vec![shard(&[0, 16_384], vec![node(1, "master", "online", "")])],
            vec![shard(&[0], vec![node(1, "master", "online", "")])],
            vec![Value::Array(vec![bulk("slots")])],
            vec![Value::Int(1)],
        ] {
            assert!(map(shards.clone(), 1, "ok").is_err(), "{shards:?}");
        }
        let rejected =
            redis::parse_redis_value(b"-ERR This instance has cluster support disabled\r\n");
        let replies = vec![rejected.unwrap(), info(1, "ok")];
        let error = SlotMap::parse(replies, &from(), false).unwrap_err();
        assert!(error.contains("cluster support disabled"), "{error}");
        assert!(SlotMap::parse(Vec::new(), &from(), false).is_err());
    }

    #[test]
    fn the_newest_report_of_a_usable_cluster_counts() {
        let report = |port, epoch, state| {
            map(
                vec![shard(&[0, 9], vec![node(port, "master", "online", "")])],
                epoch,
                state,
            )
            .unwrap()
        };
        let (old, new, cut_off) = (report(1, 3, "ok"), report(2, 4, "ok"), report(3, 5, "fail"));
        assert_eq!(
            newest_map(&[old.clone(), new.clone(), cut_off.clone()]),
            Some(&new)
        );
        assert_eq!(
            newest_map(&[old.clone(), report(9, 3, "ok"), old.clone()]),
            Some(&old)
        );
        assert_eq!(newest_map(std::slice::from_ref(&cut_off)), Some(&cut_off));
        assert_eq!(newest_map(&[]), None);
    }
}
