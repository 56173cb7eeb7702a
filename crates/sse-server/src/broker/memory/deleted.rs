//! Deleted channels: their tombstones, and their events until the space is freed.

use sse_proto::{Channel, EventId};

use super::channel::ChannelLog;
use crate::broker::{
    channel_index::DatedChannels,
    lifecycle::{TOMBSTONE_LIFE, Tombstone},
};

/// What remains of deleted channels.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    tombstones: DatedChannels<Tombstone>,
    /// Channels whose events are still in memory.
    logs: Vec<ChannelLog>,
}

impl Deleted {
    /// Returns the tombstone of a channel.
    pub(super) fn tombstone(&self, channel: &Channel) -> Option<Tombstone> {
        self.tombstones.get(channel)
    }

    /// Adds a tombstone, and the events that it stands for.
    pub(super) fn add(&mut self, channel: &Channel, tombstone: Tombstone, log: Option<ChannelLog>) {
        self.tombstones.set(channel, Some(tombstone));
        self.logs.extend(log);
    }

    /// Drops the oldest tombstone if there are more than `count_max`. Returns the id of its deletion.
    pub(super) fn drop_oldest_beyond(&mut self, count_max: usize) -> Option<EventId> {
        if self.tombstones.len() <= count_max {
            return None;
        }
        self.drop_oldest()
    }

    fn drop_oldest(&mut self) -> Option<EventId> {
        let (channel, tombstone) = self.tombstones.first()?;
        let channel = channel.clone();
        self.tombstones.set(&channel, None);
        Some(tombstone.at)
    }

    /// Drops up to `drop_max` tombstones whose time is over. Returns how many.
    pub(super) fn expire(&mut self, log_ms: u64, drop_max: usize) -> usize {
        let mut dropped = 0;
        while dropped < drop_max && self.has_old(log_ms) {
            self.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    /// Whether the time of a tombstone is over.
    fn has_old(&self, log_ms: u64) -> bool {
        let life_ms = u64::try_from(TOMBSTONE_LIFE.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.tombstones.first();
        oldest.is_some_and(|(_, oldest)| oldest.at.ms.saturating_add(life_ms) <= log_ms)
    }

    /// Frees up to `free_max` events. Returns how many.
    pub(super) fn free(&mut self, free_max: usize) -> usize {
        let mut freed = 0;
        while freed < free_max
            && let Some(log) = self.logs.last_mut()
        {
            if log.remove_oldest().is_none() {
                self.logs.pop();
            }
            freed += 1;
        }
        freed
    }
}
