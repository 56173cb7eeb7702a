//! Indexes channels again after a change of the configuration.
//!
//! A channel stores what it sets itself. `--history-age` and what its class sets apply without a change
//! of the channel, so its due time may be too late by a new configuration. Each partition stores the
//! configuration by which it was indexed. The node that maintains it compares, and makes its channels
//! due, spread over a minute.

use std::{collections::HashMap, fmt::Write as _, time::Instant};

use redis::{Cmd, Value};

use super::{Maintainer, partitions::Partition};
use crate::broker::{
    BrokerError,
    redis::{
        replies::{check_rejection, into_array, text},
        scripts::milliseconds,
        settings_text::settings_text,
        slots::Slot,
        streams::Streams,
    },
};

/// Slots whose channels are read in one pipeline.
const BATCH: usize = 64;
/// Time over which the channels become due.
const SPREAD_MS: u64 = 60_000;

/// What this node has compared.
#[derive(Debug, Default)]
pub(super) struct IndexedRules {
    /// The version of the classes by which it has compared each partition.
    versions: HashMap<Partition, u64>,
    /// When it tries again after Redis rejected a command, for example because its memory is full.
    retry_at: Option<Instant>,
}

impl Maintainer {
    /// Makes the channels of partitions due that were indexed by another configuration.
    ///
    /// Until the classes of the configuration are known, only a round compares. A failure delays no
    /// other maintenance.
    pub(super) async fn index_by_rules(&mut self, streams: &Streams, is_round: bool) {
        let version = streams.classes.version();
        let must_wait = |until: Instant| Instant::now() < until;
        if version == 0 && !is_round || self.rules.retry_at.is_some_and(must_wait) {
            return;
        }
        let indexed = self.index_held(streams, version).await;
        self.rules.retry_at = indexed.err().map(|error| {
            tracing::debug!(%error, "channels are not compared with the settings at present");
            Instant::now() + self.pace.round
        });
    }

    async fn index_held(&mut self, streams: &Streams, version: u64) -> Result<(), BrokerError> {
        let held = self.leases.held();
        let versions = &mut self.rules.versions;
        versions.retain(|partition, _| held.contains(partition));
        for partition in held {
            if self.rules.versions.get(&partition) != Some(&version) {
                let changed = index_partition(streams, partition).await?;
                self.read_due_times(streams, &changed).await?;
                self.rules.versions.insert(partition, version);
            }
        }
        Ok(())
    }
}

/// Returns the slots whose channels are due by the present configuration.
async fn index_partition(
    streams: &Streams,
    partition: Partition,
) -> Result<Vec<Slot>, BrokerError> {
    let key = streams.names.rules(partition.first_slot());
    let rules = rules_text(streams);
    let first = partition.first_slot();
    let now_ms = streams.now_ms().await?;
    let replies = query_all(streams, [(first, Cmd::get(&key))]).await?;
    let stored = replies.into_iter().next().and_then(text);
    if stored.as_deref() == Some(rules.as_str()) {
        return Ok(Vec::new());
    }
    let mut changed = Vec::new();
    if streams.count_channels().await? > 0 {
        let slots: Vec<Slot> = partition.slots().collect();
        for slots in slots.chunks(BATCH) {
            changed.extend(index_slots(streams, slots, now_ms).await?);
        }
    }
    query_all(streams, [(first, Cmd::set(&key, rules))]).await?;
    Ok(changed)
}

/// Makes the channels of `slots` due; returns the slots that have any.
async fn index_slots(
    streams: &Streams,
    slots: &[Slot],
    now_ms: u64,
) -> Result<Vec<Slot>, BrokerError> {
    let registries = slots.iter().map(|slot| {
        let registry = streams.names.channels(*slot);
        (*slot, Cmd::zrange(registry, 0, -1))
    });
    let replies = query_all(streams, registries).await?;
    let due = slots.iter().zip(replies).filter_map(|(slot, names)| {
        let command = due_command(streams, *slot, names, now_ms)?;
        Some((*slot, command))
    });
    let due: Vec<(Slot, Cmd)> = due.collect();
    let changed = due.iter().map(|(slot, _)| *slot).collect();
    query_all(streams, due).await?;
    Ok(changed)
}

/// Sends commands on keys of slots. A partition is indexed only if all of them succeed.
async fn query_all(
    streams: &Streams,
    commands: impl IntoIterator<Item = (Slot, Cmd)>,
) -> Result<Vec<Value>, BrokerError> {
    let replies = streams.query_slots(commands).await?;
    replies.into_iter().map(check_rejection).collect()
}

/// Makes the channels `names` of a slot due; returns `None` if there is none.
fn due_command(streams: &Streams, slot: Slot, names: Value, now_ms: u64) -> Option<Cmd> {
    let names = into_array(names)?;
    let mut command = redis::cmd("ZADD");
    command.arg(streams.names.due(slot)).arg("LT");
    let count = names.len() as u64;
    for (name, nth) in names.into_iter().filter_map(text).zip(0..) {
        command
            .arg(now_ms + SPREAD_MS * nth / count.max(1))
            .arg(name);
    }
    (count > 0).then_some(command)
}

/// The part of the configuration that determines when a channel is due.
fn rules_text(streams: &Streams) -> String {
    let mut rules = milliseconds(streams.retention.age_max).to_string();
    for class in streams.classes.all().iter() {
        let defaults = settings_text(class.defaults);
        // A string cannot fail to be written to.
        let _ = write!(rules, ", {} {defaults}", class.pattern);
    }
    rules
}
