//! The set of channels: creates channels, and forgets idle ones to make room.
//!
//! A forgotten channel leaves its last id. A subscriber that has seen everything resumes from that
//! id without a gap. The number of these ids is limited as well: if the oldest one is dropped, the
//! origin rises to it, so that no older position passes as proved.

use std::{collections::BTreeSet, ops::Bound};

use sse_proto::{Channel, EventId};

use super::{channel::ChannelLog, deleted::Deleted};
use crate::broker::{
    BrokerError,
    channel_index::{ChannelOrders, ChannelTable, DatedChannels, Rank, Slot},
    clock::Clock,
    lifecycle::{DueIndex, Tombstone},
};

/// All channels of a log.
#[derive(Debug)]
pub(super) struct Channels {
    logs: ChannelTable<ChannelLog>,
    /// Number of events in all channels.
    events: u64,
    /// Number of idempotency keys in all channels.
    keys: u64,
    orders: ChannelOrders,
    /// The last ids of forgotten channels. A channel that is created again begins there.
    forgotten: DatedChannels<EventId>,
    /// Where all other new channels begin: after every channel whose last id is no longer known.
    origin: EventId,
    pub(super) deleted: Deleted,
    /// The channels that may expire.
    pub(super) due: DueIndex,
    /// The channels that may have something for a sweep to remove.
    pub(super) sweeps: DueIndex,
    /// All names, for lists.
    names: BTreeSet<Channel>,
    /// The number of the next new channel.
    next_number: u64,
}

impl Channels {
    /// Creates an empty set, whose channels begin after `origin`.
    pub(super) fn new(origin: EventId) -> Self {
        Self {
            logs: ChannelTable::default(),
            events: 0,
            keys: 0,
            orders: ChannelOrders::default(),
            forgotten: DatedChannels::default(),
            origin,
            deleted: Deleted::default(),
            due: DueIndex::default(),
            sweeps: DueIndex::default(),
            names: BTreeSet::new(),
            next_number: 1,
        }
    }

    pub(super) fn get(&self, channel: &Channel) -> Option<&ChannelLog> {
        self.logs.get(channel)
    }

    /// Returns the slot of a channel.
    pub(super) fn slot_of(&self, channel: &Channel) -> Option<Slot> {
        self.logs.slot_of(channel)
    }

    /// Returns the channel in a slot.
    pub(super) fn at(&self, slot: Slot) -> Option<(&Channel, &ChannelLog)> {
        self.logs.at(slot)
    }

    /// Returns the channels from a slot on.
    pub(super) fn iter_from(
        &self,
        first: Slot,
    ) -> impl Iterator<Item = (Slot, &Channel, &ChannelLog)> {
        self.logs.iter_from(first)
    }

    /// The number of channels.
    pub(super) const fn count(&self) -> usize {
        self.logs.len()
    }

    /// The number of events in all channels.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// The number of idempotency keys in all channels.
    pub(super) const fn keys(&self) -> u64 {
        self.keys
    }

    /// Records from when on a channel may expire, and from when on a sweep may have something to
    /// remove.
    pub(super) fn index(&mut self, channel: &Channel, due_ms: Option<u64>, sweep_ms: Option<u64>) {
        if due_ms.or(sweep_ms).is_some()
            && let Some(slot) = self.slot_of(channel)
        {
            self.index_at(slot, due_ms, sweep_ms);
        }
    }

    /// Does as [`index`](Self::index) for the channel in a slot.
    pub(super) fn index_at(&mut self, slot: Slot, due_ms: Option<u64>, sweep_ms: Option<u64>) {
        if let Some(due_ms) = due_ms {
            self.due.add(slot, due_ms);
        }
        if let Some(sweep_ms) = sweep_ms {
            self.sweeps.add(slot, sweep_ms);
        }
    }

    /// Changes a channel; returns `None` if it does not exist.
    pub(super) fn update<T>(
        &mut self,
        channel: &Channel,
        change: impl FnOnce(&mut ChannelLog) -> T,
    ) -> Option<T> {
        self.update_at(self.logs.slot_of(channel)?, change)
    }

    /// Changes the channel in a slot.
    pub(super) fn update_at<T>(
        &mut self,
        slot: Slot,
        change: impl FnOnce(&mut ChannelLog) -> T,
    ) -> Option<T> {
        let log = self.logs.at_mut(slot)?;
        let old = log.rank();
        self.events -= event_count(log);
        self.keys -= log.keys.count();
        let result = change(log);
        self.events += event_count(log);
        self.keys += log.keys.count();
        self.orders.replace(slot, old, log.rank());
        Some(result)
    }

    /// Changes the channel that has the oldest event of all; returns `None` if there is no event.
    pub(super) fn update_oldest<T>(
        &mut self,
        change: impl FnOnce(&mut ChannelLog) -> T,
    ) -> Option<T> {
        self.update_at(self.orders.with_oldest_event()?, change)
    }

    /// Returns the last id of a channel. A channel without events has the id after which it begins.
    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        self.logs
            .get(channel)
            .map(ChannelLog::last)
            .or_else(|| self.noted_id(channel))
            .or_else(|| {
                self.deleted
                    .tombstone(channel)
                    .map(|tombstone| tombstone.at)
            })
            .unwrap_or(self.origin)
    }

    /// Returns the last id of a channel that was forgotten to make room.
    pub(super) fn noted_id(&self, channel: &Channel) -> Option<EventId> {
        self.forgotten.get(channel)
    }

    /// Returns up to `count_max` names after `after` that begin with `prefix`.
    pub(super) fn names_after<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a Channel>,
    ) -> impl Iterator<Item = &'a Channel> {
        let start = match (after, prefix.parse::<Channel>()) {
            (Some(after), _) if after.as_str() >= prefix => Bound::Excluded(after.clone()),
            (_, Ok(first)) => Bound::Included(first),
            // No prefix, or one that no name has.
            (_, Err(_)) => Bound::Unbounded,
        };
        let names = self.names.range((start, Bound::Unbounded));
        names.take_while(move |name| name.as_str().starts_with(prefix))
    }

    /// Whether the channel has, or had, events.
    pub(super) fn contains(&self, channel: &Channel) -> bool {
        self.logs.contains(channel) || self.forgotten.contains(channel)
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
        clock: &mut Clock,
    ) -> Result<u64, BrokerError> {
        let freed_bytes = self.make_room(channels_max, cutoff_ms, clock)?;
        let log = ChannelLog::new(self.next_number, self.take_origin(new));
        self.next_number += 1;
        let rank = log.rank();
        let slot = self.logs.insert(new, log);
        self.orders.replace(slot, Rank::Absent, rank);
        self.names.insert(new.clone());
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
        self.orders.count_idle_before(cutoff_ms) >= idle
    }

    /// Returns the id after which a new channel begins, and drops its last id if it was forgotten.
    fn take_origin(&mut self, channel: &Channel) -> EventId {
        let origin = self.last_id(channel);
        self.forgotten.set(channel, None);
        origin
    }

    /// Forgets an idle channel if there are `channels_max` channels. Returns the bytes of its
    /// events.
    fn make_room(
        &mut self,
        channels_max: usize,
        cutoff_ms: u64,
        clock: &mut Clock,
    ) -> Result<u64, BrokerError> {
        let count = self.logs.len();
        if count < channels_max {
            return Ok(0);
        }
        let idle = self.find_idle(cutoff_ms);
        let idle = idle.ok_or(BrokerError::TooManyChannels(count))?;
        if self.get(&idle).is_some_and(|log| log.end().is_some()) {
            // A forgotten channel would be open again. A deleted one is not.
            return Ok(self.delete(&idle, clock, 0, channels_max).1);
        }
        Ok(self.forget(&idle, channels_max))
    }

    /// Finds the channel that is idle for longest.
    fn find_idle(&self, cutoff_ms: u64) -> Option<Channel> {
        let (last_ms, slot) = self.orders.idlest()?;
        let (channel, _) = self.logs.at(slot)?;
        (last_ms < cutoff_ms).then(|| channel.clone())
    }

    /// Replaces a channel by its last id. Returns the bytes of its events.
    fn forget(&mut self, channel: &Channel, forgotten_max: usize) -> u64 {
        let Some(mut log) = self.remove(channel) else {
            return 0;
        };
        self.forgotten.set(channel, Some(log.last()));
        if self.forgotten.len() > forgotten_max {
            self.drop_oldest_last_id();
        }
        std::iter::from_fn(|| log.remove_oldest()).sum()
    }

    fn remove(&mut self, channel: &Channel) -> Option<ChannelLog> {
        let slot = self.logs.slot_of(channel)?;
        let log = self.logs.remove(slot)?;
        self.names.remove(channel);
        self.events -= event_count(&log);
        self.keys -= log.keys.count();
        self.orders.replace(slot, log.rank(), Rank::Absent);
        self.due.set(slot, None);
        self.sweeps.set(slot, None);
        Some(log)
    }

    /// Deletes a channel, and keeps a tombstone of it. Returns the tombstone, and the bytes that the
    /// channel counted. The channel was forgotten before, or it exists.
    pub(super) fn delete(
        &mut self,
        channel: &Channel,
        clock: &mut Clock,
        now_ms: u64,
        tombstones_max: usize,
    ) -> (Tombstone, u64) {
        let last = self.last_id(channel);
        self.forgotten.set(channel, None);
        let log = self.remove(channel);
        let end = log.as_ref().and_then(|log| log.end().map(|end| end.id));
        let tombstone = Tombstone {
            last,
            end: end.unwrap_or_else(|| clock.next_id(now_ms)),
            at: clock.next_id(now_ms),
            has_events: log.as_ref().is_none_or(ChannelLog::has_had_events),
        };
        let bytes = log.as_ref().map_or(0, ChannelLog::bytes);
        self.deleted.add(channel, tombstone, log);
        if let Some(at) = self.deleted.drop_oldest_beyond(tombstones_max) {
            self.origin = self.origin.max(at);
        }
        (tombstone, bytes)
    }

    /// Drops the oldest last id of a forgotten channel, and raises the origin to it.
    fn drop_oldest_last_id(&mut self) {
        if let Some((oldest, last)) = self.forgotten.first() {
            let oldest = oldest.clone();
            self.forgotten.set(&oldest, None);
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
        self.logs.iter().map(|(_, _, log)| log)
    }

    pub(super) fn forgotten_count(&self) -> usize {
        self.forgotten.len()
    }
}
