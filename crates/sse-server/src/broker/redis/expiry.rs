//! Trims and deletes channels whose time is over, in the order in which they are due.
//!
//! One node at a time does it for all nodes: the one that holds a lock, which expires by itself. The
//! index of due channels holds lower bounds. `scripts/expire.lua` checks each channel in its own step,
//! and trims it, deletes it, or indexes it again.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use redis::Cmd;
use sse_proto::Channel;
use tokio::time::sleep;

use super::{
    scripts::{EXPIRE, EXPIRE_TOMBSTONES, milliseconds, random_suffix},
    settings_text::settings_text,
    streams::Streams,
};
use crate::broker::{
    BrokerError,
    lifecycle::{ChannelSettings, ClockGuard, EXPIRE_PER_SECOND_MAX, TOMBSTONE_LIFE},
};

/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a node has the lock, unless it renews it.
const LOCK_MS: u64 = 5000;
/// Channels of one round.
const ROUND_MAX: usize = EXPIRE_PER_SECOND_MAX / 2;
/// Names that are read at once.
const INDEX_BATCH: isize = 1000;
/// Tombstones that are removed in one step.
const TOMBSTONES_BATCH: usize = 500;

/// Takes or renews the lock of a node. At its memory limit Redis rejects a `SET`, unless the script has
/// written before; the `DEL` removes nothing.
const LOCK: &str = "\
    local holder = redis.call('GET', KEYS[1])\n\
    if holder and holder ~= ARGV[1] then return 0 end\n\
    redis.call('DEL', KEYS[1])\n\
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n\
    return 1";

/// Expires channels for as long as the broker is in use.
pub(super) async fn run(streams: Weak<Streams>) {
    let node = format!("{}-{}", std::process::id(), random_suffix());
    let mut guard = ClockGuard::default();
    let mut indexed = None;
    loop {
        sleep(PAUSE).await;
        let Some(streams) = streams.upgrade() else {
            return;
        };
        if let Err(error) = run_round(&streams, &node, &mut guard, &mut indexed).await {
            tracing::debug!(%error, "a round of expiry ended early");
        }
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
        match index_by_class(streams, now_ms).await {
            Ok(()) => *indexed = Some(version),
            // What is indexed already expires, and that makes room.
            Err(BrokerError::Full(_)) => {}
            Err(error) => return Err(error),
        }
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
    let mut start = 0;
    loop {
        let range = Cmd::zrange(streams.names.index(), start, start + INDEX_BATCH - 1);
        let mut session = streams.connection.common_session().await?;
        let names: Vec<String> = session.query_one(range).await?;
        if names.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("ZADD");
        command.arg(streams.names.due()).arg("NX");
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

async fn has_lock(streams: &Streams, node: &str) -> Result<bool, BrokerError> {
    let mut command = redis::cmd("EVAL");
    command.arg(LOCK).arg(1).arg(streams.names.maintenance());
    command.arg(node).arg(LOCK_MS);
    let mut session = streams.connection.common_session().await?;
    session.query_one(command).await
}

async fn due_channels(streams: &Streams, now_ms: u64) -> Result<Vec<String>, BrokerError> {
    let limit = isize::try_from(ROUND_MAX).unwrap_or(isize::MAX);
    let command = Cmd::zrangebyscore_limit(streams.names.due(), "-inf", now_ms, 0, limit);
    let mut session = streams.connection.common_session().await?;
    session.query_one(command).await
}

async fn expire(streams: &Streams, channel: &Channel) -> Result<(), BrokerError> {
    let mut script = EXPIRE.key(&streams.names.deletion(channel));
    script
        .arg(channel.as_str())
        .arg(settings_text(streams.classes.rules_of(channel).0));
    let mut session = streams.connection.session(channel).await?;
    let _: String = session.run(&script).await?;
    Ok(())
}

async fn expire_tombstones(streams: &Streams) -> Result<(), BrokerError> {
    let mut script = EXPIRE_TOMBSTONES.key(streams.names.tombstones());
    script
        .arg(milliseconds(TOMBSTONE_LIFE))
        .arg(streams.retention.channels_max)
        .arg(TOMBSTONES_BATCH)
        .arg(streams.names.prefix());
    let mut session = streams.connection.common_session().await?;
    let _: usize = session.run(&script).await?;
    Ok(())
}
