//! The number of the format of all keys with one prefix, which a node checks before its first command.
//!
//! | format | contents |
//! |---|---|
//! | 1 | streams, keys, and the registry; no key `format` |
//! | 2 | channels can be closed and deleted, and there is an index of their names |
//!
//! Nodes of different formats must never share a prefix: a node of format 1 takes a deleted channel for
//! a lost one. A prefix of format 1 is converted by the first node that starts with
//! `--redis-upgrade`, once all older nodes are stopped. The conversion can be repeated.

use std::cmp::Ordering;

use redis::{RedisError, RedisResult};

use super::{
    dial::CommandConnection,
    errors::Unusable,
    names::Names,
    slots::{Slot, Slots},
};

/// The format of this version.
const FORMAT: u32 = 2;
/// Names that are indexed in one step.
const BATCH: usize = 1000;

/// The check of the format at the start of a connection.
#[derive(Debug, Clone)]
pub(super) struct FormatCheck {
    pub(super) names: Names,
    /// Whether a prefix of an older format is converted.
    pub(super) upgrades: bool,
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
        let found: RedisResult<Option<String>> =
            redis::Cmd::get(&key).query_async(connection).await;
        let found = match found {
            // In a Redis Cluster, only the node that has the key can be asked.
            Err(error) if is_elsewhere(&error) => return Ok(None),
            found => found?,
        };
        if let Some(found) = found {
            let found = found.parse().unwrap_or(0);
            return Ok(unusable(found));
        }
        // No earlier version used a Redis Cluster.
        if let (Slots::One, Some(slot)) = (self.names.slots(), Slot::new(0)) {
            let registry = self.names.channels(slot);
            let is_used: bool = redis::Cmd::exists(registry).query_async(connection).await?;
            if is_used && !self.upgrades {
                return Ok(unusable(1));
            }
            if is_used {
                self.convert(connection, slot).await?;
            }
        }
        // A replica, or a Redis without memory, gets the number later. It also stores nothing now.
        let stored: RedisResult<()> = redis::Cmd::set_nx(&key, FORMAT)
            .query_async(connection)
            .await;
        match stored {
            Err(error) if error.is_io_error() => Err(error),
            _ => Ok(None),
        }
    }

    /// Adds all channels to the index of names.
    async fn convert(&self, connection: &mut CommandConnection, slot: Slot) -> RedisResult<()> {
        let mut start = 0;
        loop {
            let end = start + BATCH - 1;
            let range = (isize::try_from(start), isize::try_from(end));
            let (Ok(from), Ok(to)) = range else {
                return Ok(());
            };
            let names: Vec<String> = redis::Cmd::zrange(self.names.channels(slot), from, to)
                .query_async(connection)
                .await?;
            if names.is_empty() {
                return Ok(());
            }
            let mut command = redis::cmd("ZADD");
            command.arg(self.names.index(slot));
            for name in &names {
                command.arg(0).arg(name);
            }
            let _: u64 = command.query_async(connection).await?;
            start += BATCH;
        }
    }
}

/// Whether another node has the key, or will have it.
fn is_elsewhere(error: &RedisError) -> bool {
    let code = error.code();
    code.is_some_and(|code| matches!(code, "MOVED" | "ASK" | "CLUSTERDOWN"))
}

fn unusable(found: u32) -> Option<Unusable> {
    let own = FORMAT;
    match found.cmp(&own) {
        Ordering::Less => Some(Unusable::OlderFormat { found, own }),
        Ordering::Equal => None,
        Ordering::Greater => Some(Unusable::NewerFormat { found, own }),
    }
}
