//! The check of all primaries: whether each accepts writes, and how it is set up.

use std::sync::Arc;

use futures::future::join_all;
use redis::Cmd;

use super::{
    durability,
    replies::parse_reply,
    shard::{Purpose, Shard},
    shards::Shards,
    slots::Slot,
};
use crate::broker::{BrokerError, Warning};

/// Clocks that differ by more are reported.
const CLOCKS_APART_MS: i64 = 500;

impl Shards {
    /// Writes to each primary, and reads how it is set up. The write fails on a replica, if the memory
    /// is full, and if Redis cannot write its disk.
    ///
    /// # Errors
    ///
    /// No primary passes the check.
    pub(super) async fn check_health(&self) -> Result<Vec<Warning>, BrokerError> {
        let topology = self.topology();
        let checks = topology.shards.iter().map(|shard| self.check(shard));
        let (mut warnings, mut failed) = (Vec::new(), Vec::new());
        for (shard, result) in topology.shards.iter().zip(join_all(checks).await) {
            match result {
                Ok(of_shard) => warnings.extend(of_shard),
                Err(error) => failed.push((shard, error)),
            }
        }
        if failed.len() == topology.shards.len() {
            let first = failed.into_iter().next().map(|(_, error)| error);
            return Err(first.unwrap_or_else(|| self.no_owner()));
        }
        // Each primary has the same ones.
        warnings.sort_unstable_by_key(|warning| warning.code);
        warnings.dedup_by_key(|warning| warning.code);
        warnings.extend(self.unavailable(&failed));
        warnings.extend(self.clocks_apart());
        Ok(warnings)
    }

    async fn check(&self, shard: &Arc<Shard>) -> Result<Vec<Warning>, BrokerError> {
        let Some(slot) = self.topology().slots_of(&shard.address).into_iter().next() else {
            return Ok(Vec::new());
        };
        // The check of the others must not wait until the time limit.
        if let Some(why) = shard.connection.outage().filter(|_| self.is_cluster()) {
            return Err(shard.connection.health.unavailable(&why));
        }
        let mut session = self.primary_session(shard, Purpose::Writes).await?;
        let [written] = session.query_values([self.check_write(slot)]).await?;
        parse_reply::<()>(written)?;
        let replies = session.query_all(durability::setup_commands()).await?;
        let mut warnings = durability::parse_warnings(replies);
        if self.is_cluster() {
            let [coverage] = session
                .query_values([durability::coverage_command()])
                .await?;
            warnings.extend(durability::coverage_warning(coverage));
        }
        Ok(warnings)
    }

    /// `SET` of the key of health checks.
    fn check_write(&self, slot: Slot) -> Cmd {
        let mut command = redis::cmd("SET");
        command
            .arg(self.names.check(slot))
            .arg(1)
            .arg("PX")
            .arg(1000);
        command
    }

    fn unavailable(&self, failed: &[(&Arc<Shard>, BrokerError)]) -> Option<Warning> {
        let unserved = self.topology().unserved();
        if failed.is_empty() && unserved == 0 {
            return None;
        }
        let mut parts: Vec<String> = failed
            .iter()
            .map(|(shard, error)| format!("the primary {} ({error})", shard.address))
            .collect();
        if unserved > 0 {
            parts.push(format!("{unserved} slots that no primary serves"));
        }
        Some(Warning {
            code: "shards_unavailable",
            message: format!(
                "a part of the Redis Cluster is unavailable, and publishes to its channels get a \
                 503: {}",
                parts.join(", ")
            ),
        })
    }

    /// Ids come from the clock of the primary that has the channel at the time.
    fn clocks_apart(&self) -> Option<Warning> {
        let topology = self.topology();
        let offsets = topology.shards.iter().filter_map(|shard| shard.clock.get());
        let (mut least, mut most) = (i64::MAX, i64::MIN);
        for offset in offsets {
            (least, most) = (least.min(offset), most.max(offset));
        }
        let apart_ms = most
            .checked_sub(least)
            .filter(|apart| *apart > CLOCKS_APART_MS)?;
        Some(Warning {
            code: "clocks_apart",
            message: format!(
                "the clocks of the primaries of the Redis Cluster differ by {apart_ms} ms: \
                 synchronise them, because a stream that ends at a time waits for the slowest"
            ),
        })
    }
}
