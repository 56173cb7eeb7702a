//! The registry of channels, which limits how many there are.
//!
//! Each slot has a registry, a sorted set by name, and an index has the names of all slots for lists
//! and for their number. A channel is registered before its first event; `maintenance` forgets it. A
//! node looks into the registry only before its first append to a channel in each era of the
//! connection, and again after each round of maintenance, because another node may have forgotten the
//! channel meanwhile.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sse_proto::Channel;

use super::{
    channel_count::ChannelCount,
    errors::CommandError,
    names::Names,
    replies::parse_reply,
    scripts::{REGISTER, milliseconds},
    session::Session,
    shards::Shards,
    slots::{SLOTS, Slot},
};
use crate::broker::{
    BrokerError, Publisher, Retention,
    channel_usage::ChannelUsage,
    client_shares::ClientShares,
    clock::now_ms,
    lifecycle::{Effective, Incarnation, SettingSource},
};

/// Longest time for which a node uses what it knows of a channel, such as its settings.
const KNOWN_FOR_MAX: Duration = Duration::from_secs(10);
/// How long a channel may be registered without an event. A channel that was registered recently may be
/// about to get its first one.
const UNUSED_MAX: Duration = Duration::from_mins(1);

/// Registers channels, and remembers to which of them this node has appended.
#[derive(Debug)]
pub(super) struct Registry {
    names: Names,
    channels_max: usize,
    known_for: Duration,
    usage: ChannelUsage,
    count: ChannelCount,
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
}

impl Registry {
    pub(super) fn new(names: Names, retention: &Retention) -> Self {
        Self {
            names,
            channels_max: retention.channels_max,
            known_for: (retention.age_max / 4).min(KNOWN_FOR_MAX),
            usage: ChannelUsage::new(retention.channels_max),
            count: ChannelCount::new(retention.channels_max),
            appended: Mutex::default(),
        }
    }

    /// Returns how long this node may append to a channel without a script.
    pub(super) const fn known_for(&self) -> Duration {
        self.known_for
    }

    /// Registers `channel` before its first event.
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
        let slot = Slot::of(channel);
        let (mut score, mut count) = (redis::cmd("ZSCORE"), redis::cmd("ZCARD"));
        score.arg(self.names.channels(slot)).arg(channel.as_str());
        count.arg(self.names.index(slot));
        let [score, count] = session.query_values([score, count]).await?;
        if parse_reply::<Option<f64>>(score)?.is_some() {
            return Ok(());
        }
        let indexed: usize = parse_reply(count)?;
        let elsewhere = self.count.elsewhere(session.shards, indexed).await?;
        let channels = indexed + elsewhere;
        let free = self.channels_max.checked_sub(channels);
        let free = free.filter(|free| *free > 0);
        let free = free.ok_or(BrokerError::TooManyChannels(channels))?;
        let now_ms = now_ms();
        shares.check_new_channel(publisher, now_ms, |needed| needed <= free)?;
        // Recorded before the reply, so that channels in the making count.
        shares.record_new_channel(publisher, now_ms);
        let added = self.add(channel, elsewhere, session).await;
        if !matches!(added, Ok((_, 1))) {
            shares.take_back_new_channel(publisher, now_ms);
        }
        let (channels, added) = added?;
        if added < 0 {
            return Err(BrokerError::TooManyChannels(channels));
        }
        self.count.record_added();
        self.usage.record_growth(channels);
        Ok(())
    }

    /// Adds `channel` if there is room; returns the reply of `register.lua`.
    async fn add(
        &self,
        channel: &Channel,
        elsewhere: usize,
        session: &mut Session<'_>,
    ) -> Result<(usize, i64), BrokerError> {
        let mut script = REGISTER.key(&self.names.registration(channel));
        script
            .arg(channel.as_str())
            .arg(self.channels_max)
            .arg(milliseconds(UNUSED_MAX))
            .arg(elsewhere);
        let reply = session.run(&script).await;
        reply.map_err(CommandError::into_query_error)
    }

    /// Returns how many tombstones a slot may have. All slots together keep the newest
    /// `--channels-max` tombstones, and some more, because slots differ.
    pub(super) fn tombstones_max(&self) -> usize {
        self.channels_max.div_ceil(usize::from(SLOTS)) * 2 + 8
    }

    /// Returns how many channels there are. In a Redis Cluster, the number can be a second old.
    ///
    /// # Errors
    ///
    /// `Unavailable`: no primary replies.
    pub(super) async fn count_channels(&self, shards: &Shards) -> Result<usize, BrokerError> {
        self.count.read(shards).await
    }

    /// Whether this node has appended to `channel` in `era`, and so need not register it.
    pub(super) fn has_appended(&self, channel: &Channel, era: u64) -> bool {
        self.appended(channel, era).is_some()
    }

    /// Whether what is known of a channel is not too old for an append without a script.
    pub(super) fn is_recent(&self, known: &Appended) -> bool {
        known.at.elapsed() < self.known_for
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
    use std::num::NonZeroUsize;

    use super::*;
    use crate::broker::idempotency::KeyLimits;
    use crate::broker::redis::slots::Slots;

    #[test]
    fn an_append_counts_in_its_own_era_only() {
        let retention = Retention {
            events_max: NonZeroUsize::MIN,
            age_max: Duration::from_hours(1),
            bytes_max: 1,
            channels_max: 10,
            keys: KeyLimits {
                window: Duration::from_mins(1),
                keys_max: 1,
                bytes_max: 1,
            },
        };
        let registry = Registry::new(Names::new("sse:", Slots::One), &retention);
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
