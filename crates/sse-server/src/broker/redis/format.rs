//! The number of the format of all keys with one prefix, which a node checks before its first command.
//!
//! | format | contents |
//! |---|---|
//! | 1 | streams, keys, and one registry; no key `format` |
//! | 2 | channels can be closed and deleted, and there is an index of their names |
//! | 3 | a registry, due times and tombstones per slot |
//!
//! Nodes of different formats must never share a prefix: a node of format 1 takes a deleted channel for
//! a lost one, and one of format 2 does not trim what format 3 registers. An older format is converted
//! by the first node that starts with `--redis-upgrade`, once all older nodes are stopped.
//!
//! While `sse-server copy` copies a log, the number is that of an unfinished copy, with which no node
//! starts. Older versions take it for a newer format.
//!
//! The conversion moves names in batches, so an interrupted one continues where it was.

use std::{cmp::Ordering, collections::HashMap};

use redis::{Cmd, RedisError, RedisResult};

use super::{
    dial::CommandConnection,
    errors::Unusable,
    names::Names,
    slots::{Slot, Slots},
};
use crate::broker::{clock::now_ms, lifecycle::TOMBSTONE_LIFE};

/// The format of this version.
pub(super) const FORMAT: u32 = 3;
/// The number while a log is copied.
pub(super) const COPYING: u32 = 1000 + FORMAT;
/// Names that are moved in one step.
const BATCH: isize = 1000;
/// Time over which the converted channels become due for maintenance.
const SPREAD_MS: u64 = 60_000;

/// The check of the format at the start of a connection.
#[derive(Debug, Clone)]
pub(super) struct FormatCheck {
    pub(super) names: Names,
    pub(super) usage: FormatUse,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FormatUse {
    /// A node.
    Serve {
        /// Whether a prefix of an older format is converted.
        upgrades: bool,
    },
    /// A copy of a log, which sets the number by itself.
    Copy,
}

impl FormatCheck {
    /// Returns why this node cannot use the keys; `None` if it can.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub(super) async fn run(
        &self,
        connection: &mut CommandConnection,
    ) -> RedisResult<Option<Unusable>> {
        let key = self.names.format();
        let found: RedisResult<Option<String>> = Cmd::get(&key).query_async(connection).await;
        let found = match found {
            // In a Redis Cluster, only the node that has the key can be asked.
            Err(error) if is_elsewhere(&error) => return Ok(None),
            found => found?,
        };
        // No earlier version used a Redis Cluster.
        let can_be_older = self.names.slots() == Slots::One;
        let found = match found {
            Some(found) => found.parse().unwrap_or(0),
            None if can_be_older => self.format_without_number(connection).await?,
            None => FORMAT,
        };
        let upgrades = match self.usage {
            FormatUse::Copy if matches!(found, FORMAT | COPYING) => return Ok(None),
            FormatUse::Copy => false,
            FormatUse::Serve { .. } if found == COPYING => {
                return Ok(Some(Unusable::UnfinishedCopy));
            }
            FormatUse::Serve { upgrades } => upgrades,
        };
        match found.cmp(&FORMAT) {
            Ordering::Equal => {}
            Ordering::Less if upgrades && can_be_older && found > 0 => {
                self.convert(connection).await?;
            }
            _ => return Ok(Some(unusable(found))),
        }
        // A replica, or a Redis without memory, gets the number later. It also stores nothing now.
        let stored: RedisResult<()> = Cmd::set(&key, FORMAT).query_async(connection).await;
        match stored {
            Err(error) if error.is_io_error() => Err(error),
            _ => Ok(None),
        }
    }

    /// Returns 1 if there is a registry of that format, otherwise the format of this version.
    async fn format_without_number(&self, connection: &mut CommandConnection) -> RedisResult<u32> {
        let [registry, ..] = self.names.of_format_2();
        let is_used: bool = Cmd::exists(registry).query_async(connection).await?;
        Ok(if is_used { 1 } else { FORMAT })
    }

    /// Moves all channels and tombstones to the sets of their slots.
    async fn convert(&self, connection: &mut CommandConnection) -> RedisResult<()> {
        let [registry, tombstones, due, lock] = self.names.of_format_2();
        while let Some(channels) = next_batch(&registry, connection).await? {
            let names: Vec<&str> = channels.iter().map(|(name, _)| name.as_str()).collect();
            let mut commands = redis::pipe();
            for (key, members) in self.channel_sets(&names) {
                commands.zadd_multiple(key, &members).ignore();
            }
            commands.zrem(&registry, &names).ignore();
            let () = commands.query_async(connection).await?;
        }
        while let Some(deleted) = next_batch(&tombstones, connection).await? {
            let names: Vec<&str> = deleted.iter().map(|(name, _)| name.as_str()).collect();
            let mut commands = redis::pipe();
            for (key, members) in self.tombstone_sets(&deleted) {
                // A channel of that name may be registered, and is due earlier.
                commands
                    .cmd("ZADD")
                    .arg(key)
                    .arg("NX")
                    .arg(members)
                    .ignore();
            }
            commands.zrem(&tombstones, &names).ignore();
            let () = commands.query_async(connection).await?;
        }
        let mut rest = redis::cmd("UNLINK");
        rest.arg(due).arg(lock).query_async(connection).await
    }

    /// The members of the sets in which channels are registered, by the name of the set.
    fn channel_sets<'a>(&self, names: &[&'a str]) -> HashMap<String, Vec<(u64, &'a str)>> {
        let now_ms = now_ms();
        let mut sets: HashMap<String, Vec<(u64, &str)>> = HashMap::new();
        for (nth, name) in names.iter().copied().enumerate() {
            let Some(slot) = slot_of(name) else { continue };
            let due_ms = now_ms + SPREAD_MS * nth as u64 / names.len() as u64;
            for (key, score) in [
                (self.names.channels(slot), 0),
                (self.names.index(slot), 0),
                (self.names.due(slot), due_ms),
            ] {
                sets.entry(key).or_default().push((score, name));
            }
        }
        sets
    }

    /// The members of the sets in which deleted channels are noted, by the name of the set.
    fn tombstone_sets<'a>(
        &self,
        deleted: &'a [(String, f64)],
    ) -> HashMap<String, Vec<(f64, &'a str)>> {
        let mut sets: HashMap<String, Vec<(f64, &str)>> = HashMap::new();
        let life_ms = TOMBSTONE_LIFE.as_secs_f64() * 1000.0;
        for (name, at) in deleted {
            let Some(slot) = slot_of(name) else { continue };
            let of_tombstones = sets.entry(self.names.tombstones(slot)).or_default();
            of_tombstones.push((*at, name));
            let due = sets.entry(self.names.due(slot)).or_default();
            due.push((at + life_ms, name));
        }
        sets
    }
}

/// Whether another node has the key, or will have it.
fn is_elsewhere(error: &RedisError) -> bool {
    let code = error.code();
    code.is_some_and(|code| matches!(code, "MOVED" | "ASK" | "CLUSTERDOWN"))
}

/// The first members of a sorted set and their scores; `None` if there are none.
async fn next_batch(
    key: &str,
    connection: &mut CommandConnection,
) -> RedisResult<Option<Vec<(String, f64)>>> {
    let range = Cmd::zrange_withscores(key, 0, BATCH - 1);
    let members: Vec<(String, f64)> = range.query_async(connection).await?;
    Ok(Some(members).filter(|members| !members.is_empty()))
}

/// The slot of a channel; `None` if the name is not valid.
fn slot_of(name: &str) -> Option<Slot> {
    name.parse().ok().map(|channel| Slot::of(&channel))
}

const fn unusable(found: u32) -> Unusable {
    let own = FORMAT;
    if found < own {
        Unusable::OlderFormat { found, own }
    } else {
        Unusable::NewerFormat { found, own }
    }
}
