//! The log in memory: appends and reads within the limits. It has no clock of its own; the caller
//! passes the time.

use sse_proto::{Channel, EventId, api::GapReason};

use super::{
    channel::ChannelLog,
    channels::Channels,
    keys::Keys,
    trim::{trim_channel, trim_to_bytes},
};
use crate::{
    broker::{
        BackPage, BrokerError, Continuity, Page, PageLimits, Publisher, ReadFrom, Retention,
        Settled,
        channel_index::Slot,
        channel_usage::ChannelUsage,
        client_shares::{ClientShares, NewKeys},
        clock::Clock,
        idempotency::{
            AppendItem, Disposition, count_new_keys, dispositions, known_outcomes, store_new_items,
        },
        lifecycle::{
            ChannelSettings, Classes, ClockGuard, Effective, EndMark, Incarnation, Tombstone,
            TombstoneRead, Write, Written,
        },
        publisher::KeyOwner,
    },
    metrics::LogSize,
};

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) retention: Retention,
    pub(super) classes: Classes,
    pub(super) clock: Clock,
    pub(super) channels: Channels,
    pub(super) clock_guard: ClockGuard,
    /// The version of the classes by which the channels are indexed.
    pub(super) classes_version: u64,
    /// Where the channels begin that are still indexed by earlier classes.
    pub(super) index_from: Option<Slot>,
    usage: ChannelUsage,
    shares: ClientShares,
    /// What all events count towards the limit of bytes.
    pub(super) bytes: u64,
}

impl Log {
    /// Creates an empty log, whose ids start with `first_seq` in each millisecond.
    pub(super) fn new(retention: Retention, classes: Classes, first_seq: u64) -> Self {
        let origin = EventId::new(0, first_seq);
        Self {
            retention,
            classes,
            clock: Clock::new(origin, first_seq),
            channels: Channels::new(origin),
            clock_guard: ClockGuard::default(),
            classes_version: 0,
            index_from: None,
            usage: ChannelUsage::new(retention.channels_max),
            shares: ClientShares::new(&retention),
            bytes: 0,
        }
    }

    /// Carries out a write, all of it or nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Broker::write`](crate::broker::Broker::write) that come from the log.
    pub(super) fn write(
        &mut self,
        publisher: Publisher,
        channel: &Channel,
        write: &Write,
        now_ms: u64,
    ) -> Result<Written, BrokerError> {
        let log_ms = self.log_ms(now_ms);
        let owner = publisher.key_owner(&write.items);
        let dispositions = self.decide(channel, owner, &write.items, log_ms)?;
        let gate = self.gate(channel);
        gate.check_incarnation(write)?;
        let known = known_outcomes(&dispositions).filter(|outcomes| !outcomes.is_empty());
        if let Some(outcomes) = known {
            if let Some(written) = gate.repeat(write, &outcomes) {
                return Ok(written);
            }
        } else if let Some(written) = gate.check(write)? {
            return Ok(written);
        }
        let new_keys = NewKeys {
            publisher,
            channel,
            count: count_new_keys(&dispositions) as u64,
            log_ms,
        };
        self.check_new_keys(new_keys)?;
        let new = (write.settings, write.items.is_empty());
        self.ensure_exists(publisher, channel, new, now_ms)?;
        let written = self.store(channel, write, &dispositions, owner, now_ms)?;
        self.shares.record_keys(new_keys);
        self.bytes = trim_to_bytes(&mut self.channels, self.bytes, self.retention.bytes_max);
        Ok(written)
    }

    /// Decides what to do with each item.
    fn decide(
        &self,
        channel: &Channel,
        owner: KeyOwner,
        items: &[AppendItem],
        log_ms: u64,
    ) -> Result<Vec<Disposition>, BrokerError> {
        let log = self.channels.get(channel);
        dispositions(items, owner, |key| {
            Ok(log.and_then(|log| log.keys.find(key, log_ms)))
        })
    }

    /// Makes room for new keys, and checks that there is enough.
    fn check_new_keys(&mut self, new: NewKeys<'_>) -> Result<(), BrokerError> {
        if new.count == 0 {
            return Ok(());
        }
        let stored = self.channels.keys();
        let (limits, shares) = (self.retention.keys, &self.shares);
        let count = usize::try_from(new.count).unwrap_or(usize::MAX);
        let check = |keys: &mut Keys| {
            let forgotten = keys.make_room(count, new.log_ms) as u64;
            shares.check_keys(new, keys.stored_beside(stored - forgotten), limits)
        };
        let checked = self
            .channels
            .update(new.channel, |log| check(&mut log.keys));
        checked.unwrap_or_else(|| check(&mut Keys::default()))
    }

    /// Stores the new items of a write, and the end if the write closes. The channel exists.
    fn store(
        &mut self,
        channel: &Channel,
        write: &Write,
        dispositions: &[Disposition],
        owner: KeyOwner,
        now_ms: u64,
    ) -> Result<Written, BrokerError> {
        let expiry_ms = self.retention.keys.expiry_ms(self.log_ms(now_ms));
        let (class, ..) = self.classes.rules_of(channel);
        let (clock, bytes, retention) = (&mut self.clock, &mut self.bytes, &self.retention);
        let stored = self.channels.update(channel, |log| {
            let outcomes = store_new_items(&write.items, dispositions, |item, key| {
                let (ids, added) = log.append(&item.events, clock, now_ms);
                *bytes += added;
                if let Some(key) = key {
                    let known = key.stored_with(ids, owner);
                    log.keys.remember(key.key, known, expiry_ms);
                }
                Ok::<_, BrokerError>(ids)
            })?;
            let mut life = log.life();
            let effective = Effective::new(life.settings, class, retention);
            *bytes -= trim_channel(log, &effective).bytes;
            if let Some(reason) = &write.close {
                life.end = Some(EndMark {
                    id: clock.next_id(now_ms),
                    after: log.last(),
                    has_events: log.has_had_events(),
                    reason: reason.clone(),
                });
                log.set_life(life);
            }
            let end = log.end().map(|end| end.id);
            let due_ms = end.and_then(|end| effective.due_ms(true, end.ms));
            let last = outcomes.last().map(|outcome| outcome.ids.last);
            let written = Written {
                newest: end.or(last).unwrap_or(log.last()),
                outcomes,
                end,
                incarnation: Incarnation(log.number),
            };
            Ok::<_, BrokerError>((written, due_ms, log.next_sweep_ms(&effective)))
        });
        let stored = stored.expect("the channel exists, or was created")?;
        let (written, due_ms, sweep_ms) = stored;
        self.channels.index(channel, due_ms, sweep_ms);
        Ok(written)
    }

    /// Creates `channel` if it does not exist, with these settings. The flag states that no event
    /// follows.
    pub(super) fn ensure_exists(
        &mut self,
        publisher: Publisher,
        channel: &Channel,
        (settings, is_empty): (ChannelSettings, bool),
        now_ms: u64,
    ) -> Result<(), BrokerError> {
        if self.channels.get(channel).is_none() {
            self.create(publisher, channel, now_ms)?;
            self.set_up(channel, settings, is_empty, now_ms);
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
        self.bytes -= channels.create(channel, channels_max, cutoff_ms, &mut self.clock)?;
        self.shares.record_new_channel(publisher, log_ms);
        Ok(())
    }

    /// Reads a page of a channel.
    pub(super) fn read(&self, channel: &Channel, from: ReadFrom, limits: PageLimits) -> Page {
        match self.channels.deleted.tombstone(channel) {
            Some(tombstone) => self.read_beside(tombstone, channel, from, limits),
            None => self.with_channel(channel, |log| log.read(channel, from, limits)),
        }
    }

    /// Reads a page of a channel that has a tombstone.
    fn read_beside(
        &self,
        tombstone: Tombstone,
        channel: &Channel,
        from: ReadFrom,
        limits: PageLimits,
    ) -> Page {
        let read = |from| self.with_channel(channel, |log| log.read(channel, from, limits));
        match tombstone.resolve(from, self.channels.get(channel).is_some()) {
            TombstoneRead::Other(from) => read(from),
            TombstoneRead::GapAndNext => read(ReadFrom::Oldest).after_gap(GapReason::Deleted),
            TombstoneRead::End(start) => tombstone.page(start, Some(tombstone.record(channel))),
            TombstoneRead::Nothing => tombstone.page(Continuity::Contiguous, None),
        }
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
            None => read(&ChannelLog::new(0, self.last_id(channel))),
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
            let newest = self.channels.get(channel).map(ChannelLog::newest);
            return Settled::Through(newest.unwrap_or_else(|| self.last_id(channel)));
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
