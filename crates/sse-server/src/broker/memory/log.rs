//! The log in memory: appends and reads within the limits. It has no clock of its own; the caller
//! passes the time.

use sse_proto::{Channel, EventId};

use super::{
    channel::ChannelLog,
    channels::Channels,
    keys::Keys,
    trim::{trim_to_age, trim_to_bytes, trim_to_count},
};
use crate::{
    broker::{
        BackPage, BrokerError, Page, PageLimits, Publisher, ReadFrom, Retention, Settled,
        channel_usage::ChannelUsage,
        client_shares::{ClientShares, NewKeys},
        clock::Clock,
        idempotency::{
            AppendItem, AppendOutcome, Disposition, count_new_keys, dispositions, known_outcomes,
            store_new_items,
        },
    },
    metrics::LogSize,
};

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    retention: Retention,
    clock: Clock,
    channels: Channels,
    usage: ChannelUsage,
    shares: ClientShares,
    /// What all events count towards the limit of bytes.
    bytes: u64,
}

impl Log {
    /// Creates an empty log, whose ids start with `first_seq` in each millisecond.
    pub(super) fn new(retention: Retention, first_seq: u64) -> Self {
        let origin = EventId::new(0, first_seq);
        Self {
            retention,
            clock: Clock::new(origin, first_seq),
            channels: Channels::new(origin),
            usage: ChannelUsage::new(retention.channels_max),
            shares: ClientShares::new(&retention),
            bytes: 0,
        }
    }

    /// Appends the items that `channel` does not have yet: all or none.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Full`], [`BrokerError::TooManyNewChannels`], [`BrokerError::KeyReused`],
    /// [`BrokerError::TooManyKeys`].
    pub(super) fn append(
        &mut self,
        publisher: Publisher,
        channel: &Channel,
        items: &[AppendItem],
        now_ms: u64,
    ) -> Result<Vec<AppendOutcome>, BrokerError> {
        let log_ms = self.log_ms(now_ms);
        let mut new_keys = NewKeys {
            publisher,
            channel,
            count: 0,
            log_ms,
        };
        let dispositions = self.decide(&mut new_keys, items)?;
        if let Some(outcomes) = known_outcomes(&dispositions) {
            return Ok(outcomes);
        }
        self.ensure_exists(publisher, channel, now_ms)?;
        let Retention {
            keys, events_max, ..
        } = self.retention;
        let (owner, expiry_ms) = (publisher.key_owner(items), keys.expiry_ms(log_ms));
        let store = |log: &mut ChannelLog| {
            let outcomes = store_new_items(items, &dispositions, |item, key| {
                let (ids, bytes) = log.append(&item.events, &mut self.clock, now_ms);
                self.bytes += bytes;
                if let Some(key) = key {
                    let known = key.stored_with(ids, owner);
                    log.keys.remember(key.key, known, expiry_ms);
                }
                Ok::<_, BrokerError>(ids)
            });
            self.bytes -= trim_to_count(log, events_max.get()).bytes;
            outcomes
        };
        let outcomes = self
            .channels
            .update(channel, store)
            .expect("the channel exists, or was created")?;
        self.shares.record_keys(new_keys);
        self.bytes = trim_to_bytes(&mut self.channels, self.bytes, self.retention.bytes_max);
        Ok(outcomes)
    }

    /// Decides what to do with each item, counts the new keys, and makes room for them.
    fn decide(
        &mut self,
        new: &mut NewKeys<'_>,
        items: &[AppendItem],
    ) -> Result<Vec<Disposition>, BrokerError> {
        let (channel, log_ms, stored) = (new.channel, new.log_ms, self.channels.keys());
        let (limits, shares) = (self.retention.keys, &self.shares);
        let owner = new.publisher.key_owner(items);
        let mut decide = |keys: &mut Keys| {
            let find = |key| Ok::<_, BrokerError>(keys.find(key, log_ms));
            let dispositions = dispositions(items, owner, find)?;
            let count = count_new_keys(&dispositions);
            if count > 0 {
                let forgotten = keys.make_room(count, log_ms) as u64;
                new.count = count as u64;
                shares.check_keys(*new, keys.stored_beside(stored - forgotten), limits)?;
            }
            Ok(dispositions)
        };
        let decided = self.channels.update(channel, |log| decide(&mut log.keys));
        decided.unwrap_or_else(|| decide(&mut Keys::default()))
    }

    /// Creates `channel` if it does not exist.
    fn ensure_exists(
        &mut self,
        publisher: Publisher,
        channel: &Channel,
        now_ms: u64,
    ) -> Result<(), BrokerError> {
        if self.channels.get(channel).is_none() {
            self.create(publisher, channel, now_ms)?;
            self.usage.record_growth(self.channels.count());
        }
        Ok(())
    }

    fn create(
        &mut self,
        publisher: Publisher,
        channel: &Channel,
        now_ms: u64,
    ) -> Result<(), BrokerError> {
        let channels_max = self.retention.channels_max;
        let cutoff_ms = self.retention.cutoff_ms(now_ms);
        let log_ms = self.log_ms(now_ms);
        let channels = &mut self.channels;
        channels.check_room(channels_max, cutoff_ms)?;
        self.shares.check_new_channel(publisher, log_ms, |needed| {
            channels.has_free(needed, channels_max, cutoff_ms)
        })?;
        self.bytes -= channels.create(channel, channels_max, cutoff_ms)?;
        self.shares.record_new_channel(publisher, log_ms);
        Ok(())
    }

    /// Removes up to `remove_max` old events and expired keys. Returns true if there may be more.
    pub(super) fn sweep(&mut self, now_ms: u64, remove_max: usize) -> bool {
        let cutoff_ms = self.retention.cutoff_ms(now_ms);
        let log_ms = self.log_ms(now_ms);
        let mut left = remove_max;
        self.channels.update_each(|log| {
            left -= log.keys.forget_expired(log_ms, left);
            let removed = trim_to_age(log, cutoff_ms, left);
            self.bytes -= removed.bytes;
            left -= removed.events;
            left > 0
        });
        left == 0
    }

    /// Reads a page of a channel.
    pub(super) fn read(&self, channel: &Channel, from: ReadFrom, limits: PageLimits) -> Page {
        self.with_channel(channel, |log| log.read(from, limits))
    }

    /// Reads a page of a channel backwards.
    pub(super) fn read_back(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> BackPage {
        self.with_channel(channel, |log| log.read_back(before, limits))
    }

    /// Calls `read` with the log of `channel`, which is empty if the channel does not exist.
    fn with_channel<T>(&self, channel: &Channel, read: impl FnOnce(&ChannelLog) -> T) -> T {
        match self.channels.get(channel) {
            Some(log) => read(log),
            None => read(&ChannelLog::new(self.last_id(channel))),
        }
    }

    /// Returns the last id of a channel. A channel without events has the id after which it begins.
    pub(super) fn last_id(&self, channel: &Channel) -> EventId {
        self.channels.last_id(channel)
    }

    /// Whether the channel has, or had, events.
    pub(super) fn has_channel(&self, channel: &Channel) -> bool {
        self.channels.contains(channel)
    }

    /// Moves the log's clock past `bound`, if the time is later than `bound`, so that no id up to
    /// it can appear any more.
    pub(super) fn check_settled(
        &mut self,
        channel: &Channel,
        bound: EventId,
        now_ms: u64,
    ) -> Settled {
        if self.advance_clock_past(bound, now_ms) {
            return Settled::Through(self.last_id(channel));
        }
        Settled::not_before(bound, now_ms)
    }

    /// Returns true if the log's clock is past `bound` now.
    fn advance_clock_past(&mut self, bound: EventId, now_ms: u64) -> bool {
        self.clock.advance_past(bound, now_ms);
        self.clock.highest() >= bound
    }

    /// Returns how much the log holds.
    pub(super) fn size(&self) -> LogSize {
        LogSize {
            channels: self.channels.count(),
            events: self.channels.events(),
            bytes: self.bytes,
            keys: self.channels.keys(),
        }
    }

    /// Returns the log's time, which never goes back.
    pub(super) fn log_ms(&self, now_ms: u64) -> u64 {
        self.clock.log_ms(now_ms)
    }
}

#[cfg(test)]
mod tests;
