//! Visits: `scripts/maintain.lua` for the channels that are due, in batches.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{Cmd, ServerError, Value};
use sse_proto::Channel;
use tokio::time::sleep;

use super::{Maintainer, RETRY_MS, SLOTS_BATCH, earliest_command, parse_earliest};
use crate::broker::{
    BrokerError,
    lifecycle::EXPIRE_PER_SECOND_MAX,
    redis::{
        replies::{into_array, text},
        scripts::{MAINTAIN, milliseconds},
        settings_text::settings_text,
        shard::Shard,
        slots::Slot,
        streams::Streams,
    },
};

/// Channels of one slot that are visited before the due time of the slot is read again.
const PER_SLOT: isize = 128;
/// Channels in one pipeline: about 1 ms of Redis' time.
const CHANNELS_BATCH: usize = 32;
/// The pause after a batch is this many times as long as the batch took.
const PAUSE_FACTOR: u32 = 4;
/// Time that a batch takes at least, so that no more channels expire per second than may.
const BATCH_TIME_MIN: Duration =
    Duration::from_micros((1_000_000 * CHANNELS_BATCH / EXPIRE_PER_SECOND_MAX) as u64);
/// When a channel that cannot be maintained is visited again.
const BROKEN_MS: u64 = 60_000;

/// How a channel is visited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit {
    pub(super) may_expire: bool,
    /// Whether a dead channel is forgotten.
    pub(super) may_forget: bool,
}

impl Maintainer {
    /// Visits the channels that are due, slot by slot.
    pub(super) async fn visit_due(&mut self, streams: &Streams) -> Result<(), BrokerError> {
        let now_ms = streams.now_ms().await?;
        let may_expire = self.guard.observe(now_ms, Instant::now());
        let visit = Visit {
            may_expire,
            may_forget: false,
        };
        loop {
            let slots = self.agenda.take_due(now_ms, SLOTS_BATCH);
            if slots.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.visit_slots(streams, &slots, now_ms, visit).await {
                for slot in slots {
                    self.agenda.set(slot, Some(now_ms + RETRY_MS));
                }
                return Err(error);
            }
        }
    }

    async fn visit_slots(
        &mut self,
        streams: &Streams,
        slots: &[Slot],
        now_ms: u64,
        visit: Visit,
    ) -> Result<(), BrokerError> {
        let due = slots.iter().map(|slot| {
            let due = streams.names.due(*slot);
            (
                *slot,
                Cmd::zrangebyscore_limit(due, "-inf", now_ms, 0, PER_SLOT),
            )
        });
        let channels = parse_channels(streams.query_slots(due).await?);
        self.visit_channels(streams, &channels, visit).await?;
        let earliest = slots.iter();
        let earliest = earliest.map(|slot| (*slot, earliest_command(streams, *slot)));
        let replies = streams.query_slots(earliest).await?;
        for (slot, reply) in slots.iter().zip(replies) {
            // A channel that is still due could not be maintained, or there are many more.
            let due_ms = parse_earliest(reply).map(|due_ms| due_ms.max(now_ms + RETRY_MS));
            self.agenda.set(*slot, due_ms);
        }
        Ok(())
    }

    /// Visits `channels`; returns how many were forgotten.
    pub(super) async fn visit_channels(
        &mut self,
        streams: &Streams,
        channels: &[Channel],
        visit: Visit,
    ) -> Result<usize, BrokerError> {
        let mut forgotten = 0;
        for batch in channels.chunks(CHANNELS_BATCH) {
            let started = Instant::now();
            let replies = self.run_script(streams, batch, visit).await?;
            for (channel, reply) in batch.iter().zip(replies) {
                if let Value::ServerError(error) = reply {
                    handle_failure(streams, channel, &error).await?;
                } else if text(reply).as_deref() == Some("forgotten") {
                    forgotten += 1;
                }
            }
            let pause = (started.elapsed() * PAUSE_FACTOR).max(BATCH_TIME_MIN);
            sleep(pause.min(Duration::from_secs(1))).await;
        }
        Ok(forgotten)
    }

    async fn run_script(
        &mut self,
        streams: &Streams,
        channels: &[Channel],
        visit: Visit,
    ) -> Result<Vec<Value>, BrokerError> {
        let era = streams.shards.era();
        let must_load = era.is_none() || self.loaded != era;
        let mut commands = if must_load {
            load_commands(streams)
        } else {
            Vec::new()
        };
        let loads = commands.len();
        for channel in channels {
            commands.push((Slot::of(channel), self.command(streams, channel, visit)));
        }
        let replies = streams.query_slots(commands).await?;
        self.loaded = era.filter(|_| !replies.iter().any(is_unknown_script));
        Ok(replies.into_iter().skip(loads).collect())
    }

    fn command(&self, streams: &Streams, channel: &Channel, visit: Visit) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command
            .arg(MAINTAIN.of(&streams.names).get_hash())
            .arg(11)
            .arg(&streams.names.maintenance(channel))
            .arg(channel.as_str())
            .arg(settings_text(streams.classes.rules_of(channel).0))
            .arg(milliseconds(streams.retention.age_max))
            .arg(milliseconds(self.pace.quiet))
            .arg(u8::from(visit.may_expire))
            .arg(u8::from(visit.may_forget))
            .arg(streams.tombstones_max());
        command
    }
}

/// The commands that load the script into each primary.
fn load_commands(streams: &Streams) -> Vec<(Slot, Cmd)> {
    let topology = streams.shards.topology();
    let of_shard = |shard: &Arc<Shard>| {
        let slot = *topology.slots_of(&shard.address).first()?;
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD")
            .arg(&MAINTAIN.with_text(&streams.names).text);
        Some((slot, load))
    };
    topology.shards.iter().filter_map(of_shard).collect()
}

fn is_unknown_script(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// Parses replies that are lists of names.
pub(super) fn parse_channels(replies: Vec<Value>) -> Vec<Channel> {
    let names = replies.into_iter().filter_map(into_array).flatten();
    names.filter_map(|name| text(name)?.parse().ok()).collect()
}

/// An error concerns one channel alone; its key may not be a stream, for example.
///
/// Most errors pass: `NOSCRIPT` until the script is loaded again, `TRYAGAIN` until the slot has
/// moved. Then the channel stays due, and is visited again after [`RETRY_MS`].
async fn handle_failure(
    streams: &Streams,
    channel: &Channel,
    error: &ServerError,
) -> Result<(), BrokerError> {
    let error = format!("{} {}", error.code(), error.details().unwrap_or_default());
    if !error.contains("WRONGTYPE") {
        tracing::debug!(%channel, %error, "a channel cannot be maintained yet");
        return Ok(());
    }
    tracing::warn!(%channel, %error, "a channel cannot be trimmed");
    let now_ms = streams.now_ms().await?;
    let due = streams.names.due(Slot::of(channel));
    let later = Cmd::zadd(due, channel.as_str(), now_ms + BROKEN_MS);
    streams.query_slots([(Slot::of(channel), later)]).await?;
    Ok(())
}
