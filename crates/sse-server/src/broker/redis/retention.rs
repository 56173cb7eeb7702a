//! Trims streams by age, forgets expired idempotency keys, and forgets dead channels when there is
//! no room for new ones. Any node does it for all nodes, and doing it twice is harmless.
//!
//! `XADD` trims by count only, because it rejects `MAXLEN` and `MINID` together. Dead channels are
//! forgotten only while seven eighths of the channels that there may be are registered. A client that returns to a
//! forgotten channel gets a gap. `scripts/trim.lua` decides which channel is dead.
//!
//! Each round visits every channel of the registry, with a pause after each, and adds up how much
//! the log holds:
//!
//! ```text
//! pause (--history-age / 4, 100 ms to 1 min) ─► registry ─► per channel: expired keys, trim.lua
//!        ▲                                                                  │
//!        └──────────── forget what this node cached ◄───────────────────────┘
//! ```

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use redis::Cmd;
use sse_proto::Channel;
use tokio::time::sleep;

use super::{
    errors::CommandError,
    replies::parse_reply,
    scripts::{TRIM, milliseconds},
    settings_text::settings_text,
    streams::Streams,
};
use crate::{
    broker::BrokerError,
    budget::largest_share,
    metrics::{LogSize, Metrics},
};

/// Pause between two channels, so that a round over many channels does not slow down Redis.
const CHANNEL_PAUSE: Duration = Duration::from_millis(2);

/// How long a channel may be registered without a stream. A channel that was registered recently
/// may be about to get its first event.
const UNUSED_MIN: Duration = Duration::from_mins(1);

/// Visits all channels again and again, for as long as the broker is in use.
///
/// After each round, `metrics` get the size of the log as the round found it.
pub(super) async fn run(streams: Weak<Streams>, metrics: Metrics) {
    loop {
        let Some(age_max) = streams.upgrade().map(|streams| streams.retention.age_max) else {
            return;
        };
        sleep((age_max / 4).clamp(Duration::from_millis(100), Duration::from_mins(1))).await;
        let Some(streams) = streams.upgrade() else {
            return;
        };
        match run_round(&streams).await {
            Ok(size) => metrics.set_log_size(size),
            Err(error) => tracing::debug!(%error, "a round of retention ended early"),
        }
        streams.forget_cached();
    }
}

async fn run_round(streams: &Arc<Streams>) -> Result<LogSize, BrokerError> {
    let mut size = LogSize::default();
    let channels = registered_channels(streams).await?;
    let mut to_forget = channels_to_forget(channels.len(), streams.retention.channels_max);
    for channel in channels
        .iter()
        .filter_map(|channel| channel.parse::<Channel>().ok())
    {
        match expire_all_keys(streams, &channel).await {
            Err(_) if streams.shards.is_cluster() => continue,
            result => result?,
        }
        match trim(streams, &channel, to_forget > 0).await {
            Ok(Trimmed::Forgotten) => to_forget = to_forget.saturating_sub(1),
            Ok(Trimmed::Kept {
                events,
                bytes,
                keys,
            }) => {
                size.channels += 1;
                size.events += events;
                size.bytes += bytes;
                size.keys += keys;
            }
            // The error concerns this channel alone; its key may not be a stream, for example.
            Err(CommandError::Rejected(error)) => {
                tracing::warn!(%channel, %error, "a channel cannot be trimmed");
            }
            // The other primaries of a Redis Cluster can still be visited.
            Err(CommandError::NoReply(error)) if streams.shards.is_cluster() => {
                tracing::debug!(%channel, %error, "a channel cannot be visited");
            }
            Err(CommandError::NoReply(error)) => return Err(error),
        }
        sleep(CHANNEL_PAUSE).await;
    }
    Ok(size)
}

async fn expire_all_keys(streams: &Streams, channel: &Channel) -> Result<(), BrokerError> {
    while streams.expire_keys(channel).await? {
        sleep(CHANNEL_PAUSE).await;
    }
    Ok(())
}

async fn registered_channels(streams: &Streams) -> Result<Vec<String>, BrokerError> {
    let command = |slot| Cmd::zrange(streams.names.channels(slot), 0, -1);
    let mut channels = Vec::new();
    for (_, reply) in streams.shards.each_slot(command).await? {
        channels.extend(parse_reply::<Vec<String>>(reply)?);
    }
    streams.registry.record_count(channels.len());
    Ok(channels)
}

/// How many dead channels a round forgets: enough to make room for a tenth of the limit, so that
/// not every round forgets a few.
///
/// A single client may have created all channels. It can fill seven eighths of the limit, and a
/// node does not know how many of them are dead when it creates a channel.
const fn channels_to_forget(registered: usize, channels_max: usize) -> usize {
    match registered.checked_sub(largest_share(channels_max)) {
        Some(excess) => excess + channels_max.div_ceil(10),
        None => 0,
    }
}

/// What trimming made of a channel.
#[derive(Debug, PartialEq, Eq)]
enum Trimmed {
    /// The channel was dead, and is forgotten.
    Forgotten,
    /// The channel has this many events, whose stream takes about this much memory, and this many
    /// idempotency keys.
    Kept { events: u64, bytes: u64, keys: u64 },
}

impl Trimmed {
    const fn from_reply((is_forgotten, events, bytes, keys): (bool, u64, u64, u64)) -> Self {
        if is_forgotten {
            Self::Forgotten
        } else {
            Self::Kept {
                events,
                bytes,
                keys,
            }
        }
    }
}

async fn trim(
    streams: &Streams,
    channel: &Channel,
    may_forget: bool,
) -> Result<Trimmed, CommandError> {
    let names = &streams.names;
    let slot = names.slot(channel);
    let mut script = TRIM.of(names).prepare_invoke();
    script
        .key(names.stream(channel))
        .key(names.channels(slot))
        .key(names.keys(channel))
        .key(names.gaps(channel))
        .key(names.trimmed(channel))
        .key(names.life(channel))
        .key(names.deleted(channel))
        .key(names.expiries(channel))
        .key(names.index(slot))
        .key(names.due(slot))
        .key(names.tombstones(slot))
        .arg(channel.as_str())
        .arg(milliseconds(streams.retention.age_max))
        .arg(u8::from(may_forget))
        .arg(milliseconds(UNUSED_MIN))
        .arg(settings_text(streams.classes.rules_of(channel).0));
    let session = streams.shards.session(channel).await;
    let mut session = session.map_err(CommandError::NoReply)?;
    session.run(&script).await.map(Trimmed::from_reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_forgets_channels_once_one_client_can_create_no_more_and_then_makes_room() {
        assert_eq!(channels_to_forget(187, 200), 0);
        assert_eq!(channels_to_forget(188, 200), 20);
        assert_eq!(channels_to_forget(205, 200), 37);
        assert_eq!(channels_to_forget(1, 1), 1);
        assert_eq!(channels_to_forget(2, 3), 0);
    }
}
