//! Trims streams by age, and forgets channels that are long dead. Any node does it for all; doing it twice is harmless.
//!
//! `XADD` trims by count only (it refuses `MAXLEN` and `MINID` together). The newest event of a channel stays: it is
//! the anchor of those who have seen everything. A channel whose newest event is ten times too old (and at least an
//! hour) is deleted, so that its place under `--channels-max` is free again.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sse_proto::Channel;
use tokio::time::sleep;

use super::log::Log;
use crate::broker::BrokerError;

/// Pause between two channels: a round over many channels must not be felt.
const PAUSE: Duration = Duration::from_millis(2);
const DEAD_AGES: u32 = 10;
const DEAD_MIN: Duration = Duration::from_hours(1);

/// Trims one stream by age, or deletes it; in one step, so that no new event can come between look and deed.
///
/// `ARGV`: the age to keep, and the age at which a newest event is dead, in milliseconds by Redis' own clock, which
/// also makes the ids. Returns 1 if the stream is no more.
const TRIM: &str = r"
    local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
    if not newest then
        return redis.call('EXISTS', KEYS[1]) == 0 and 1 or 0
    end
    local time = redis.call('TIME')
    local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
    local newest_ms = tonumber(string.match(newest[1], '^%d+'))
    if newest_ms < now_ms - ARGV[2] then
        redis.call('DEL', KEYS[1])
        return 1
    end
    local from_ms = now_ms - ARGV[1]
    local from = newest_ms < from_ms and newest[1] or string.format('%.0f', math.max(from_ms, 0))
    redis.call('XTRIM', KEYS[1], 'MINID', from)
    return 0";

/// Goes round all channels for as long as the log is in use.
pub(super) async fn run(log: Weak<Log>) {
    loop {
        let Some(age_max) = log.upgrade().map(|log| log.retention.age_max) else { return };
        sleep((age_max / 4).clamp(Duration::from_millis(100), Duration::from_mins(1))).await;
        let Some(log) = log.upgrade() else { return };
        if let Err(error) = round(&log, age_max).await {
            tracing::debug!(%error, "upkeep was cut short");
        }
        log.look_up_again();
    }
}

async fn round(log: &Arc<Log>, age_max: Duration) -> Result<(), BrokerError> {
    let mut commands = redis::pipe();
    commands.cmd("ZRANGE").arg(log.names.channels()).arg(0).arg(-1);
    let (channels,): (Vec<String>,) = log.query(&commands).await?;
    let ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let dead_age = age_max.saturating_mul(DEAD_AGES).max(DEAD_MIN);
    for channel in channels.iter().filter_map(|channel| channel.parse::<Channel>().ok()) {
        let mut commands = redis::pipe();
        commands.cmd("EVAL").arg(TRIM).arg(1).arg(log.names.stream(&channel)).arg(ms(age_max)).arg(ms(dead_age));
        let (gone,): (bool,) = log.query(&commands).await?;
        if gone {
            let mut commands = redis::pipe();
            commands.cmd("ZREM").arg(log.names.channels()).arg(channel.as_str()).ignore();
            log.query::<()>(&commands).await?;
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
