//! Trims streams by age, and forgets expired keys of publishes, and dead channels when there is no room for new ones. Any node does it for all; doing
//! it twice is harmless.
//!
//! `XADD` trims by count only (it refuses `MAXLEN` and `MINID` together). The newest event of a channel stays: it is
//! the anchor of those who have seen everything. Only when as many channels are registered as there may be, channels
//! whose events are all too old, that have no keys of publishes, and to which nobody listens, are deleted; who comes back to one is told of a gap.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sse_proto::Channel;
use tokio::time::sleep;

use super::streams::Log;
use crate::broker::BrokerError;

/// Pause between two channels: a round over many channels must not be felt.
const PAUSE: Duration = Duration::from_millis(2);

/// A channel that was registered this recently may be about to get its first event.
const NEW_MS: u64 = 60_000;

/// Trims one stream by age, or deletes it and its registration; in one step, so that no new event can come between look
/// and deed.
///
/// `KEYS`: the stream, the registry, the keys of publishes, and the index of gap records. `ARGV`: the channel, the age to
/// keep in milliseconds by Redis' own clock, which also makes the ids, whether a dead channel is to be forgotten, and how
/// old a registration without a stream must be.
const TRIM: &str = r"
    local time = redis.call('TIME')
    local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
    local from_ms = now_ms - ARGV[2]
    local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
    if not newest then
        local registered_ms = redis.call('ZSCORE', KEYS[2], ARGV[1])
        if redis.call('EXISTS', KEYS[1]) == 0 and registered_ms and registered_ms < now_ms - ARGV[4] then
            redis.call('ZREM', KEYS[2], ARGV[1])
            return 1
        end
        return 0
    end
    local newest_ms = tonumber(string.match(newest[1], '^%d+'))
    local dead = newest_ms < from_ms and redis.call('EXISTS', KEYS[3]) == 0
    if ARGV[3] == '1' and dead and redis.call('PUBSUB', 'NUMSUB', KEYS[1])[2] == 0 then
        redis.call('DEL', KEYS[1], KEYS[4])
        redis.call('ZREM', KEYS[2], ARGV[1])
        return 1
    end
    local from = newest_ms < from_ms and newest[1] or string.format('%.0f', math.max(from_ms, 0))
    redis.call('XTRIM', KEYS[1], 'MINID', from)
    return 0";

/// Goes round all channels for as long as the log is in use.
pub(super) async fn run(log: Weak<Log>) {
    loop {
        let Some(age_max) = log.upgrade().map(|log| log.retention.age_max) else {
            return;
        };
        sleep((age_max / 4).clamp(Duration::from_millis(100), Duration::from_mins(1))).await;
        let Some(log) = log.upgrade() else { return };
        if let Err(error) = round(&log, age_max).await {
            tracing::debug!(%error, "upkeep was cut short");
        }
        log.look_up_again();
    }
}

async fn round(log: &Arc<Log>, age_max: Duration) -> Result<(), BrokerError> {
    let registry = log.names.channels();
    let mut commands = redis::pipe();
    commands.cmd("ZRANGE").arg(&registry).arg(0).arg(-1);
    let (channels,): (Vec<String>,) = log.query(&commands).await?;
    // Room for some new channels at once, so that not every round forgets a few.
    let most = log.retention.channels_max;
    let mut to_forget = if channels.len() >= most {
        channels.len() - most + most.div_ceil(10)
    } else {
        0
    };
    let age_ms = u64::try_from(age_max.as_millis()).unwrap_or(u64::MAX);
    for channel in channels
        .iter()
        .filter_map(|channel| channel.parse::<Channel>().ok())
    {
        while log.expire_keys(&channel).await? {
            sleep(PAUSE).await;
        }
        let mut commands = redis::pipe();
        commands.cmd("EVAL").arg(TRIM).arg(4);
        commands.arg(log.names.stream(&channel)).arg(&registry);
        commands
            .arg(log.names.keys(&channel))
            .arg(log.names.gaps(&channel));
        commands
            .arg(channel.as_str())
            .arg(age_ms)
            .arg(u8::from(to_forget > 0))
            .arg(NEW_MS);
        match log
            .connection
            .session()
            .await?
            .send::<(bool,)>(&commands)
            .await?
        {
            Ok((gone,)) => to_forget = to_forget.saturating_sub(usize::from(gone)),
            // Of this channel alone: its key is not a stream, perhaps.
            Err(error) => tracing::warn!(%channel, %error, "a channel cannot be trimmed"),
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
