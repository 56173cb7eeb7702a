//! Deleted channels: their tombstones, and their events until the space is freed.

use std::collections::HashMap;

use sse_proto::{Channel, EventId};

use super::channel::ChannelLog;
use crate::broker::{
    id_order::IdOrder,
    lifecycle::{TOMBSTONE_LIFE, Tombstone},
};

/// What remains of deleted channels.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    tombstones: HashMap<Channel, Tombstone>,
    /// The tombstones in the order of their deletion.
    order: IdOrder,
    /// Channels whose events are still in memory.
    logs: Vec<ChannelLog>,
}

impl Deleted {
    /// Returns the tombstone of a channel.
    pub(super) fn tombstone(&self, channel: &Channel) -> Option<Tombstone> {
        self.tombstones.get(channel).copied()
    }

    /// Adds a tombstone, and the events that it stands for.
    pub(super) fn add(&mut self, channel: &Channel, tombstone: Tombstone, log: Option<ChannelLog>) {
        let old = self.tombstones.insert(channel.clone(), tombstone);
        let old = old.map(|old| old.at);
        self.order.replace(channel, old, Some(tombstone.at));
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
        let (at, channel) = self.order.first().cloned()?;
        self.order.replace(&channel, Some(at), None);
        self.tombstones.remove(&channel);
        Some(at)
    }

    /// Drops up to `drop_max` tombstones whose time is over. Returns how many.
    pub(super) fn expire(&mut self, log_ms: u64, drop_max: usize) -> usize {
        let life_ms = u64::try_from(TOMBSTONE_LIFE.as_millis()).unwrap_or(u64::MAX);
        let is_over = |at: EventId| at.ms.saturating_add(life_ms) <= log_ms;
        let mut dropped = 0;
        while dropped < drop_max && self.order.first().is_some_and(|(at, _)| is_over(*at)) {
            self.drop_oldest();
            dropped += 1;
        }
        dropped
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
