//! The set of channels: creates channels, and forgets idle ones to make room.
//!
//! A forgotten channel leaves its last id. A subscriber that has seen everything resumes from that
//! id without a gap. The number of these ids is limited as well: if the oldest one is dropped, the
//! origin rises to it, so that no older position passes as proved.

use std::collections::HashMap;

use sse_proto::{Channel, EventId};

use super::channel::ChannelLog;
use crate::broker::{BrokerError, id_order::IdOrder};

/// All channels of a log.
#[derive(Debug)]
pub(super) struct Channels {
    by_name: HashMap<Channel, ChannelLog>,
    /// Number of events in all channels.
    events: u64,
    /// Number of idempotency keys in all channels.
    keys: u64,
    orders: Orders,
    /// The last ids of forgotten channels. A channel that is created again begins there.
    forgotten: HashMap<Channel, EventId>,
    /// The forgotten channels by their last ids.
    noted: IdOrder,
    /// Where all other new channels begin: after every channel whose last id is no longer known.
    origin: EventId,
}

/// The orders in which channels are searched, so that no search looks at every channel.
#[derive(Debug, Default)]
struct Orders {
    /// Channels with events, by the oldest event.
    with_events: IdOrder,
    /// Channels that are idle once their last id is too old, by that id.
    idle: IdOrder,
}

/// Where a channel is in each order.
#[derive(Debug, Default, Clone, Copy)]
struct Ranks {
    oldest: Option<EventId>,
    idle_since: Option<EventId>,
}

impl Ranks {
    fn of(log: &ChannelLog) -> Self {
        Self {
            oldest: log.oldest(),
            idle_since: log.can_be_idle().then(|| log.last()),
        }
    }
}

impl Orders {
    fn replace(&mut self, channel: &Channel, old: Ranks, new: Ranks) {
        if old.oldest != new.oldest {
            self.with_events.replace(channel, old.oldest, new.oldest);
        }
        if old.idle_since != new.idle_since {
            self.idle.replace(channel, old.idle_since, new.idle_since);
        }
    }
}

impl Channels {
    /// Creates an empty set, whose channels begin after `origin`.
    pub(super) fn new(origin: EventId) -> Self {
        Self {
            by_name: HashMap::new(),
            events: 0,
            keys: 0,
            orders: Orders::default(),
            forgotten: HashMap::new(),
            noted: IdOrder::default(),
            origin,
        }
    }

    pub(super) fn get(&self, channel: &Channel) -> Option<&ChannelLog> {
        self.by_name.get(channel)
    }

    /// The number of channels.
    pub(super) fn count(&self) -> usize {
        self.by_name.len()
    }

    /// The number of events in all channels.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// The number of idempotency keys in all channels.
    pub(super) const fn keys(&self) -> u64 {
        self.keys
    }

    /// Changes a channel; returns `None` if it does not exist.
    pub(super) fn update<T>(
        &mut self,
        channel: &Channel,
        change: impl FnOnce(&mut ChannelLog) -> T,
    ) -> Option<T> {
        let log = self.by_name.get_mut(channel)?;
        let old = Ranks::of(log);
        self.events -= event_count(log);
        self.keys -= log.keys.count();
        let result = change(log);
        self.events += event_count(log);
        self.keys += log.keys.count();
        self.orders.replace(channel, old, Ranks::of(log));
        Some(result)
    }

    /// Changes the channel that has the oldest event of all; returns `None` if there is no event.
    pub(super) fn update_oldest<T>(
        &mut self,
        change: impl FnOnce(&mut ChannelLog) -> T,
    ) -> Option<T> {
        let (_, channel) = self.orders.with_events.first()?.clone();
        self.update(&channel, change)
    }

    /// Changes one channel after another, until `change` returns false.
    pub(super) fn update_each(&mut self, mut change: impl FnMut(&mut ChannelLog) -> bool) {
        for (channel, log) in &mut self.by_name {
            let old = Ranks::of(log);
            self.events -= event_count(log);
            self.keys -= log.keys.count();
            let continues = change(log);
            self.events += event_count(log);
            self.keys += log.keys.count();
            self.orders.replace(channel, old, Ranks::of(log));
            if !continues {
                return;
            }
        }
    }

    /// Returns the last id of a channel. A channel without events has the id after which it begins.
    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        self.by_name
            .get(channel)
            .map(ChannelLog::last)
            .or_else(|| self.forgotten.get(channel).copied())
            .unwrap_or(self.origin)
    }

    /// Whether the channel has, or had, events.
    pub(super) fn contains(&self, channel: &Channel) -> bool {
        self.by_name.contains_key(channel) || self.forgotten.contains_key(channel)
    }

    /// Creates `new`. Returns the bytes of the channel that was forgotten to make room.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Full`] if there are `channels_max` channels and none of them can be
    /// forgotten.
    pub(super) fn create(
        &mut self,
        new: &Channel,
        channels_max: usize,
        cutoff_ms: u64,
    ) -> Result<u64, BrokerError> {
        let freed_bytes = self.make_room(channels_max, cutoff_ms)?;
        let log = ChannelLog::new(self.take_origin(new));
        self.orders.replace(new, Ranks::default(), Ranks::of(&log));
        self.by_name.insert(new.clone(), log);
        Ok(freed_bytes)
    }

    /// Fails if there are `channels_max` channels and none of them can be forgotten.
    pub(super) fn check_room(
        &self,
        channels_max: usize,
        cutoff_ms: u64,
    ) -> Result<(), BrokerError> {
        if self.has_free(1, channels_max, cutoff_ms) {
            return Ok(());
        }
        Err(BrokerError::TooManyChannels(self.count()))
    }

    /// Whether `needed` channels are free, or idle and so can be forgotten.
    pub(super) fn has_free(&self, needed: usize, channels_max: usize, cutoff_ms: u64) -> bool {
        let idle = needed.saturating_sub(channels_max.saturating_sub(self.count()));
        // Counted each time, so that no call has many channels to count.
        self.orders.idle.count_before(cutoff_ms) >= idle
    }

    /// Returns the id after which a new channel begins, and drops its last id if it was forgotten.
    fn take_origin(&mut self, channel: &Channel) -> EventId {
        let last = self.forgotten.remove(channel);
        self.noted.replace(channel, last, None);
        last.unwrap_or(self.origin)
    }

    /// Forgets an idle channel if there are `channels_max` channels. Returns the bytes of its
    /// events.
    fn make_room(&mut self, channels_max: usize, cutoff_ms: u64) -> Result<u64, BrokerError> {
        let count = self.by_name.len();
        if count < channels_max {
            return Ok(0);
        }
        let idle = self.find_idle(cutoff_ms);
        let idle = idle.ok_or(BrokerError::TooManyChannels(count))?;
        Ok(self.forget(&idle, channels_max))
    }

    /// Finds the channel that is idle for longest.
    fn find_idle(&self, cutoff_ms: u64) -> Option<Channel> {
        let (last, channel) = self.orders.idle.first()?;
        (last.ms < cutoff_ms).then(|| channel.clone())
    }

    /// Replaces a channel by its last id. Returns the bytes of its events.
    fn forget(&mut self, channel: &Channel, forgotten_max: usize) -> u64 {
        let Some(mut log) = self.by_name.remove(channel) else {
            return 0;
        };
        self.events -= event_count(&log);
        self.keys -= log.keys.count();
        self.orders
            .replace(channel, Ranks::of(&log), Ranks::default());
        self.noted.replace(channel, None, Some(log.last()));
        self.forgotten.insert(channel.clone(), log.last());
        if self.forgotten.len() > forgotten_max {
            self.drop_oldest_last_id();
        }
        std::iter::from_fn(|| log.remove_oldest()).sum()
    }

    /// Drops the oldest last id of a forgotten channel, and raises the origin to it.
    fn drop_oldest_last_id(&mut self) {
        if let Some((last, oldest)) = self.noted.first().cloned() {
            self.noted.replace(&oldest, Some(last), None);
            self.forgotten.remove(&oldest);
            self.origin = self.origin.max(last);
        }
    }
}

fn event_count(log: &ChannelLog) -> u64 {
    log.events().len() as u64
}

#[cfg(test)]
impl Channels {
    pub(super) fn iter(&self) -> impl Iterator<Item = &ChannelLog> {
        self.by_name.values()
    }

    pub(super) fn forgotten_count(&self) -> usize {
        self.forgotten.len()
    }
}
