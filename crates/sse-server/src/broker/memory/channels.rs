//! The set of channels: creates channels, and forgets idle ones to make room.
//!
//! A forgotten channel leaves its last id. A subscriber that has seen everything resumes from that
//! id without a gap. The number of these ids is limited as well: if the oldest one is dropped, the
//! origin rises to it, so that no older position passes as proved.

use std::collections::HashMap;

use sse_proto::{Channel, EventId};

use super::channel::ChannelLog;
use crate::broker::BrokerError;

/// All channels of a log.
#[derive(Debug)]
pub(super) struct Channels {
    by_name: HashMap<Channel, ChannelLog>,
    /// The last ids of forgotten channels. A channel that is created again begins there.
    forgotten: HashMap<Channel, EventId>,
    /// Where all other new channels begin: after every channel whose last id is no longer known.
    origin: EventId,
}

impl Channels {
    /// Creates an empty set, whose channels begin after `origin`.
    pub(super) fn new(origin: EventId) -> Self {
        Self {
            by_name: HashMap::new(),
            forgotten: HashMap::new(),
            origin,
        }
    }

    pub(super) fn get(&self, channel: &Channel) -> Option<&ChannelLog> {
        self.by_name.get(channel)
    }

    pub(super) fn get_mut(&mut self, channel: &Channel) -> Option<&mut ChannelLog> {
        self.by_name.get_mut(channel)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ChannelLog> {
        self.by_name.values_mut()
    }

    /// Returns the last id of a channel. A channel without events has the id after which it begins.
    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        self.by_name
            .get(channel)
            .map(ChannelLog::last)
            .or_else(|| self.forgotten.get(channel).copied())
            .unwrap_or(self.origin)
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
        let origin = self.forgotten.remove(new).unwrap_or(self.origin);
        self.by_name.insert(new.clone(), ChannelLog::new(origin));
        Ok(freed_bytes)
    }

    /// Forgets an idle channel if there are `channels_max` channels. Returns the bytes of its
    /// events.
    fn make_room(&mut self, channels_max: usize, cutoff_ms: u64) -> Result<u64, BrokerError> {
        let count = self.by_name.len();
        if count < channels_max {
            return Ok(0);
        }
        let idle = self.find_idle(cutoff_ms);
        let idle = idle.ok_or_else(|| BrokerError::channels_full(count))?;
        Ok(self.forget(&idle, channels_max))
    }

    /// Finds the channel that is idle for longest.
    fn find_idle(&self, cutoff_ms: u64) -> Option<Channel> {
        self.by_name
            .iter()
            .filter(|(_, log)| log.is_idle(cutoff_ms))
            .min_by_key(|(_, log)| log.last())
            .map(|(channel, _)| channel.clone())
    }

    /// Replaces a channel by its last id. Returns the bytes of its events.
    fn forget(&mut self, channel: &Channel, forgotten_max: usize) -> u64 {
        let Some(mut log) = self.by_name.remove(channel) else {
            return 0;
        };
        let freed_bytes = std::iter::from_fn(|| log.remove_oldest()).sum();
        self.forgotten.insert(channel.clone(), log.last());
        if self.forgotten.len() > forgotten_max {
            self.drop_oldest_last_id();
        }
        freed_bytes
    }

    /// Drops the oldest last id of a forgotten channel, and raises the origin to it.
    fn drop_oldest_last_id(&mut self) {
        if let Some((oldest, last)) = self.forgotten.iter().min_by_key(|(_, last)| **last) {
            let (oldest, last) = (oldest.clone(), *last);
            self.forgotten.remove(&oldest);
            self.origin = self.origin.max(last);
        }
    }
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
