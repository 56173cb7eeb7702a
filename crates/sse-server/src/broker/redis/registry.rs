//! The registry: a sorted set of all channels, which limits how many there are and lets `retention`
//! find them.
//!
//! A channel is registered before its first event, and forgotten by `retention`. A node looks into
//! the registry only before its first append to a channel in each era of the connection, and again
//! after each round of retention, because another node may have forgotten the channel meanwhile.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::Utc;
use redis::{Cmd, SortedSetAddOptions};
use sse_proto::Channel;

use super::{names::Names, replies::parse_reply, session::Session, slots::Slots};
use crate::broker::{
    BrokerError, Publisher,
    channel_usage::ChannelUsage,
    client_shares::ClientShares,
    clock::now_ms,
    lifecycle::{Effective, Incarnation, SettingSource},
};

/// How long a node may use what it knows of a channel, such as its settings.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// Registers channels, and remembers to which of them this node has appended.
#[derive(Debug)]
pub(super) struct Registry {
    names: Names,
    channels_max: usize,
    usage: ChannelUsage,
    /// Channels of all slots, as a node found them last, and those that it has added since.
    counted: AtomicUsize,
    appended: Mutex<AppendedChannels>,
}

/// The channels to which this node has appended, each with the era of its slot.
///
/// They are registered. In that era, all ids that Redis assigns in them are above those that it has
/// lost; step 3 of `write.lua` ensures that.
type AppendedChannels = HashMap<Channel, (Appended, u64)>;

/// What a node knows of a channel to which it has appended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Appended {
    pub(super) incarnation: Incarnation,
    /// Events that the channel keeps.
    pub(super) events_max: u64,
    /// Whether the channel or its class sets that number. Then it is exact, and otherwise Redis may
    /// keep some more.
    pub(super) is_exact: bool,
    at: Instant,
}

impl Appended {
    pub(super) fn new(incarnation: Incarnation, effective: &Effective) -> Self {
        Self {
            incarnation,
            events_max: effective.events_max(),
            is_exact: effective.sources[0] != SettingSource::Flags,
            at: Instant::now(),
        }
    }

    /// Whether it is not too old for an append without a script.
    pub(super) fn is_recent(&self) -> bool {
        self.at.elapsed() < KNOWN_FOR
    }
}

impl Registry {
    pub(super) fn new(names: Names, channels_max: usize) -> Self {
        Self {
            names,
            channels_max,
            usage: ChannelUsage::new(channels_max),
            counted: AtomicUsize::new(0),
            appended: Mutex::default(),
        }
    }

    /// The name of the sorted set that has `channel`.
    pub(super) fn key(&self, channel: &Channel) -> String {
        self.names.channels(self.names.slot(channel))
    }

    /// Records how many channels there are in all slots.
    pub(super) fn record_count(&self, channels: usize) {
        self.counted.store(channels, Ordering::Relaxed);
    }

    /// How many channels there are, if the slot of one of them has `of_slot`.
    fn count(&self, of_slot: usize) -> usize {
        match self.names.slots() {
            Slots::One => of_slot,
            Slots::Cluster => self.counted.load(Ordering::Relaxed).max(of_slot),
        }
    }

    /// Registers `channel` before its first event.
    ///
    /// Nodes that register channels at the same moment may exceed the limit by as many. In a Redis
    /// Cluster, a node counts the channels of the others once per round of `retention`.
    ///
    /// # Errors
    ///
    /// - `TooManyChannels`: `--channels-max` is reached.
    /// - `TooManyNewChannels`: the publisher has its part.
    /// - `Unavailable`: Redis did not reply, or rejected the command.
    pub(super) async fn register(
        &self,
        (publisher, shares): (Publisher, &ClientShares),
        channel: &Channel,
        session: &mut Session<'_>,
    ) -> Result<(), BrokerError> {
        let key = self.key(channel);
        let (mut score, mut count) = (redis::cmd("ZSCORE"), redis::cmd("ZCARD"));
        score.arg(&key).arg(channel.as_str());
        count.arg(&key);
        let [score, count] = session.query_values([score, count]).await?;
        if parse_reply::<Option<f64>>(score)?.is_some() {
            return Ok(());
        }
        let channels = self.count(parse_reply(count)?);
        self.check_limit(channels)?;
        let free = self.channels_max - channels;
        let now_ms = now_ms();
        shares.check_new_channel(publisher, now_ms, |needed| needed <= free)?;
        // Recorded before the reply, so that channels in the making count.
        shares.record_new_channel(publisher, now_ms);
        let added = self.add(channel, session).await;
        if !matches!(added, Ok(1)) {
            shares.take_back_new_channel(publisher, now_ms);
        }
        self.counted
            .fetch_add(usize::try_from(added?).unwrap_or(0), Ordering::Relaxed);
        self.usage.record_growth(channels + 1);
        Ok(())
    }

    /// Fails if there is no room for another one than these `channels`.
    fn check_limit(&self, channels: usize) -> Result<(), BrokerError> {
        if channels < self.channels_max {
            return Ok(());
        }
        Err(BrokerError::TooManyChannels(channels))
    }

    /// Returns how many channels were added: zero if a concurrent publish has added the channel.
    async fn add(&self, channel: &Channel, session: &mut Session<'_>) -> Result<u64, BrokerError> {
        session.query_one(self.add_command(channel)).await
    }

    fn add_command(&self, channel: &Channel) -> Cmd {
        let now_ms = Utc::now().timestamp_millis();
        let options = SortedSetAddOptions::add_only();
        Cmd::zadd_options(self.key(channel), channel.as_str(), now_ms, &options)
    }

    /// Whether this node has appended to `channel` in `era`, and so need not register it.
    pub(super) fn has_appended(&self, channel: &Channel, era: u64) -> bool {
        self.appended(channel, era).is_some()
    }

    /// Returns what is known of `channel`, to which this node has appended in `era`.
    pub(super) fn appended(&self, channel: &Channel, era: u64) -> Option<Appended> {
        let (known, of_append) = self.lock().get(channel).copied()?;
        (of_append == era).then_some(known)
    }

    /// Forgets what is known of `channel`, because it was closed or deleted.
    pub(super) fn forget_append(&self, channel: &Channel) {
        self.lock().remove(channel);
    }

    /// Records that this node has appended to `channel` in `era`.
    pub(super) fn record_append(&self, channel: &Channel, known: Appended, era: u64) {
        let mut appended = self.lock();
        let earlier = appended.get(channel).map_or(0, |(_, of_append)| *of_append);
        // A late reply is of an era that has ended.
        if era >= earlier {
            appended.insert(channel.clone(), (known, era));
        }
    }

    /// Forgets all appends, so that every channel is looked up again.
    pub(super) fn forget_appends(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, AppendedChannels> {
        self.appended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_counts_in_its_own_era_only() {
        let registry = Registry::new(Names::new("sse:", Slots::One), 10);
        let (a, b): (Channel, Channel) = ("a".parse().unwrap(), "b".parse().unwrap());
        let known = Appended {
            incarnation: Incarnation(1),
            events_max: 10,
            is_exact: false,
            at: Instant::now(),
        };
        registry.record_append(&a, known, 1);
        assert!(registry.has_appended(&a, 1) && !registry.has_appended(&a, 2));
        registry.record_append(&b, known, 2);
        assert!(registry.has_appended(&b, 2) && !registry.has_appended(&a, 2));
        // A reply that is late, from an era that has ended.
        registry.record_append(&b, known, 1);
        assert!(registry.has_appended(&b, 2) && !registry.has_appended(&b, 1));
        registry.forget_appends();
        assert!(!registry.has_appended(&b, 2));
    }
}
