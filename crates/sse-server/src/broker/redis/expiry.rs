//! Trims and deletes channels whose time is over, in the order in which they are due.
//!
//! One node at a time does it for all nodes: the one that holds a lock, which expires by itself. The
//! index of due channels holds lower bounds. `scripts/expire.lua` checks each channel in its own step,
//! and trims it, deletes it, or indexes it again.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use redis::{Cmd, Value};
use sse_proto::Channel;
use tokio::time::sleep;

use super::{
    replies::parse_reply,
    scripts::{EXPIRE, EXPIRE_TOMBSTONES, milliseconds, random_suffix},
    settings_text::settings_text,
    slots::Slot,
    streams::Streams,
};
use crate::broker::{
    BrokerError,
    lifecycle::{ChannelSettings, ClockGuard, EXPIRE_PER_SECOND_MAX, TOMBSTONE_LIFE},
};

/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// The same in a Redis Cluster, where a round looks at each slot.
const PAUSE_OF_CLUSTER: Duration = Duration::from_secs(2);
/// How long a node has the lock, unless it renews it.
const LOCK_MS: u64 = 5000;
/// Channels of one round.
const ROUND_MAX: usize = EXPIRE_PER_SECOND_MAX / 2;
/// Names that are read at once.
const INDEX_BATCH: isize = 1000;
/// Tombstones that are removed in one step.
const TOMBSTONES_BATCH: usize = 500;

/// Takes or renews the lock of a node.
const LOCK: &str = "\
    if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end\n\
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n\
    redis.call('PEXPIRE', KEYS[1], ARGV[2])\n\
    return 1";

/// Expires channels for as long as the broker is in use.
pub(super) async fn run(streams: Weak<Streams>) {
    let node = format!("{}-{}", std::process::id(), random_suffix());
    let mut guard = ClockGuard::default();
    let mut indexed = None;
    loop {
        let Some(pause) = streams.upgrade().map(|streams| pause(&streams)) else {
            return;
        };
        sleep(pause).await;
        let Some(streams) = streams.upgrade() else {
            return;
        };
        if let Err(error) = run_round(&streams, &node, &mut guard, &mut indexed).await {
            tracing::debug!(%error, "a round of expiry ended early");
        }
    }
}

fn pause(streams: &Streams) -> Duration {
    if streams.shards.is_cluster() {
        PAUSE_OF_CLUSTER
    } else {
        PAUSE
    }
}

async fn run_round(
    streams: &Arc<Streams>,
    node: &str,
    guard: &mut ClockGuard,
    indexed: &mut Option<u64>,
) -> Result<(), BrokerError> {
    if !has_lock(streams, node).await? {
        return Ok(());
    }
    let now_ms = streams.now_ms().await?;
    if !guard.observe(now_ms, Instant::now()) {
        return Ok(());
    }
    let version = streams.classes.version();
    if *indexed != Some(version) {
        index_by_class(streams, now_ms).await?;
        *indexed = Some(version);
    }
    for name in due_channels(streams, now_ms).await? {
        if let Ok(channel) = name.parse() {
            expire(streams, &channel).await?;
        }
    }
    expire_tombstones(streams).await
}

/// Indexes the channels whose class has a time to live, because the class may be newer than they are.
/// A node does this once after its start and after each reload.
async fn index_by_class(streams: &Streams, now_ms: u64) -> Result<(), BrokerError> {
    let classes = streams.classes.all();
    let has_ttl =
        |settings: ChannelSettings| settings.ttl_ms.is_some() || settings.ttl_closed_ms.is_some();
    if !classes.iter().any(|class| has_ttl(class.defaults)) {
        return Ok(());
    }
    for slot in used_slots(streams, |slot| streams.names.index(slot)).await? {
        index_slot_by_class(streams, slot, now_ms).await?;
    }
    Ok(())
}

async fn index_slot_by_class(
    streams: &Streams,
    slot: Slot,
    now_ms: u64,
) -> Result<(), BrokerError> {
    let has_ttl =
        |settings: ChannelSettings| settings.ttl_ms.is_some() || settings.ttl_closed_ms.is_some();
    let mut start = 0;
    loop {
        let range = Cmd::zrange(streams.names.index(slot), start, start + INDEX_BATCH - 1);
        let mut session = streams.shards.slot_session(slot).await?;
        let names: Vec<String> = session.query_one(range).await?;
        if names.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("ZADD");
        command.arg(streams.names.due(slot)).arg("NX");
        let mut is_any = false;
        for name in names {
            let Ok(channel) = name.parse() else { continue };
            if has_ttl(streams.classes.rules_of(&channel).0) {
                command.arg(now_ms).arg(name);
                is_any = true;
            }
        }
        if is_any {
            let _: u64 = session.query_one(command).await?;
        }
        start += INDEX_BATCH;
    }
}

/// The slots in which this sorted set has members.
async fn used_slots(
    streams: &Streams,
    key: impl Fn(Slot) -> String + Sync,
) -> Result<Vec<Slot>, BrokerError> {
    let counts = streams
        .shards
        .each_slot(|slot| Cmd::zcard(key(slot)))
        .await?;
    let is_used = |(slot, count): (Slot, Value)| {
        let count: usize = parse_reply(count).ok()?;
        (count > 0).then_some(slot)
    };
    Ok(counts.into_iter().filter_map(is_used).collect())
}

async fn has_lock(streams: &Streams, node: &str) -> Result<bool, BrokerError> {
    let key = streams.names.maintenance();
    let mut command = redis::cmd("EVAL");
    command.arg(LOCK).arg(1).arg(&key);
    command.arg(node).arg(LOCK_MS);
    let mut session = streams.shards.key_session(&key).await?;
    session.query_one(command).await
}

async fn due_channels(streams: &Streams, now_ms: u64) -> Result<Vec<String>, BrokerError> {
    let limit = isize::try_from(ROUND_MAX).unwrap_or(isize::MAX);
    let command =
        |slot| Cmd::zrangebyscore_limit(streams.names.due(slot), "-inf", now_ms, 0, limit);
    let mut names = Vec::new();
    for (_, reply) in streams.shards.each_slot(command).await? {
        names.extend(parse_reply::<Vec<String>>(reply)?);
    }
    names.truncate(ROUND_MAX);
    Ok(names)
}

async fn expire(streams: &Streams, channel: &Channel) -> Result<(), BrokerError> {
    let mut script = EXPIRE
        .of(&streams.names)
        .key(&streams.names.deletion(channel));
    script
        .arg(channel.as_str())
        .arg(settings_text(streams.classes.rules_of(channel).0));
    let mut session = streams.shards.session(channel).await?;
    let _: String = session.run(&script).await?;
    Ok(())
}

async fn expire_tombstones(streams: &Streams) -> Result<(), BrokerError> {
    for slot in used_slots(streams, |slot| streams.names.tombstones(slot)).await? {
        let mut script = EXPIRE_TOMBSTONES.key(streams.names.tombstones(slot));
        script
            .arg(milliseconds(TOMBSTONE_LIFE))
            .arg(streams.retention.channels_max)
            .arg(TOMBSTONES_BATCH)
            .arg(streams.names.prefix());
        let mut session = streams.shards.slot_session(slot).await?;
        let _: usize = session.run(&script).await?;
    }
    Ok(())
}
