//! One commit batch: the appends and the trimming that one transaction contains.
//!
//! A [`CommitBatch`] stages its work in a transaction and in a [`CommittedChange`] beside it. The
//! writer commits the transaction and then applies the change. An append that is rejected leaves
//! the batch as it was, so the other appends of the batch are not affected.
//!
//! ```text
//! append A (2 events)           staged      ids 7-0, 7-1
//! append B (too many channels)  rejected    nothing staged; B gets its error after the commit
//! append C (A's key)            duplicate   nothing staged; C gets A's ids after the commit
//! commit and fsync              A and C are acknowledged, readers see 7-0 and 7-1
//! ```

use redb::WriteTransaction;
use sse_proto::{Channel, EventId};

use super::{
    channels::create_channel,
    committed_state::{CommittedChange, CommittedState},
    error::{AppendError, StoreError},
    keys::Keys,
    life::{
        check_settings, close_channel, delete_channel, drop_old_tombstones, expire_channel, gate,
        keep_alive, set_settings, set_up,
    },
    record::ChannelRow,
    revocations,
    staged_log::StagedLog,
    trim,
};
use crate::broker::{
    Appended, BrokerError, Publisher, Retention,
    client_shares::{ClientShares, NewKeys},
    idempotency::{
        AppendItem, Disposition, IdempotencyKey, count_new_keys, dispositions, known_outcomes,
        store_new_items,
    },
    lifecycle::{ChannelSettings, Classes, Incarnation, Tombstone, Write, Written},
    publisher::KeyOwner,
    revocations::RevocationChange,
};

/// What a write has staged.
#[derive(Debug)]
pub(super) struct StagedWrite {
    /// The last id of the channel before the write.
    pub(super) previous: EventId,
    pub(super) written: Written,
}

impl StagedWrite {
    /// The write stores nothing.
    const fn unchanged(written: Written) -> Self {
        Self {
            previous: EventId::ZERO,
            written,
        }
    }
}

/// A transaction that is being filled.
pub(super) struct CommitBatch<'a> {
    transaction: &'a WriteTransaction,
    log: StagedLog<'a>,
    keys: Keys<'a>,
    shares: &'a ClientShares,
}

impl<'a> CommitBatch<'a> {
    /// Opens an empty batch. It may trim two events per appended event, and `trims_max` more.
    pub(super) fn open(
        transaction: &'a WriteTransaction,
        state: &'a CommittedState,
        (retention, classes): (&'a Retention, &'a Classes),
        shares: &'a ClientShares,
        now_ms: u64,
        trims_max: u64,
    ) -> Result<Self, StoreError> {
        let limits = (retention, classes);
        Ok(Self {
            transaction,
            log: StagedLog::open(transaction, state, limits, now_ms, trims_max)?,
            keys: Keys::new(transaction, retention.keys, state.channels.keys()),
            shares,
        })
    }

    /// Carries out a write: all of it or nothing.
    ///
    /// `room` states whether there is disk space for more events. Even without disk space, items
    /// whose key is already known still get their original ids.
    pub(super) fn write(
        &mut self,
        publisher: Publisher,
        channel: &Channel,
        write: &Write,
        room: &Result<(), BrokerError>,
    ) -> Result<StagedWrite, AppendError> {
        let row = self.log.channels.row(channel);
        let owner = publisher.key_owner(&write.items);
        let dispositions = self.decide(channel, row, owner, &write.items)?;
        let life = self.log.channels.life(channel).cloned();
        let gate = gate(&self.log, channel, row, life.as_deref());
        gate.check_incarnation(write)?;
        let known = known_outcomes(&dispositions).filter(|outcomes| !outcomes.is_empty());
        if let Some(outcomes) = known {
            if let Some(written) = gate.repeat(write, &outcomes) {
                return Ok(StagedWrite::unchanged(written));
            }
        } else if let Some(written) = gate.check(write)? {
            return Ok(StagedWrite::unchanged(written));
        }
        room.clone()?;
        let new_keys = NewKeys {
            publisher,
            channel,
            count: count_new_keys(&dispositions) as u64,
            log_ms: self.log.log_ms(),
        };
        self.check_new_keys(new_keys, row)?;
        let mut row = if let Some(row) = row {
            row
        } else {
            let is_empty = write.items.is_empty();
            self.create(publisher, channel, write.settings, is_empty)?
        };
        let (previous, was_busy) = (row.last, row.count > 1);
        let outcomes = store_new_items(&write.items, &dispositions, |item, key| {
            let key = key.map(|key| (key, owner));
            self.store_item(&mut row, item, key)
        })?;
        self.shares.record_keys(new_keys);
        self.log.channels.set_row(channel, Some(row));
        trim::trim_channel(&mut self.log, channel, was_busy)?;
        let end = match &write.close {
            Some(reason) => Some(close_channel(&mut self.log, channel, row, reason.clone())),
            None => None,
        };
        let last = outcomes.last().map(|outcome| outcome.ids.last);
        let written = Written {
            newest: end.or(last).unwrap_or(row.last),
            outcomes,
            end,
            incarnation: Incarnation(row.number.into()),
        };
        Ok(StagedWrite { previous, written })
    }

    /// Creates a channel with these settings.
    fn create(
        &mut self,
        publisher: Publisher,
        channel: &Channel,
        settings: ChannelSettings,
        is_empty: bool,
    ) -> Result<ChannelRow, AppendError> {
        let row = create_channel(&mut self.log, self.shares, publisher, channel)?;
        set_up(&mut self.log, channel, settings, is_empty);
        Ok(row)
    }

    /// Decides what to do with each item.
    fn decide(
        &mut self,
        channel: &Channel,
        row: Option<ChannelRow>,
        owner: KeyOwner,
        items: &[AppendItem],
    ) -> Result<Vec<Disposition>, AppendError> {
        let log_ms = self.log.log_ms();
        dispositions(items, owner, |key| match row {
            Some(row) => self
                .keys
                .find(row.number, key, log_ms)
                .map_err(|error| AppendError::from_key_lookup(channel, error)),
            None => Ok(None),
        })
    }

    /// Makes room for new keys, and checks that there is enough.
    fn check_new_keys(
        &mut self,
        new: NewKeys<'_>,
        row: Option<ChannelRow>,
    ) -> Result<(), AppendError> {
        if new.count > 0 {
            // No channel has the number zero, so a channel without a row has no keys.
            let number = row.map_or(0, |row| row.number);
            let stored = self.keys.make_room(number, new.count, new.log_ms)?;
            let limits = self.log.retention().keys;
            self.shares.check_keys(new, stored, limits)?;
        }
        Ok(())
    }

    /// Deletes a channel. Returns its tombstone; `None` if the log knows nothing of the channel.
    pub(super) fn delete(&mut self, channel: &Channel) -> Option<Tombstone> {
        delete_channel(&mut self.log, channel)
    }

    /// Replaces the settings of a channel, and creates it if it does not exist. Returns whether it
    /// was created.
    pub(super) fn configure(
        &mut self,
        publisher: Publisher,
        channel: &Channel,
        settings: ChannelSettings,
        room: &Result<(), BrokerError>,
    ) -> Result<bool, AppendError> {
        let Some(row) = self.log.channels.row(channel) else {
            room.clone()?;
            let row = self.create(publisher, channel, settings, true)?;
            self.log.channels.set_row(channel, Some(row));
            return Ok(true);
        };
        check_settings(&self.log, channel, settings)?;
        set_settings(&mut self.log, channel, row, settings);
        Ok(false)
    }

    /// Restarts the `ttl` of an incarnation.
    pub(super) fn keep_alive(
        &mut self,
        channel: &Channel,
        incarnation: Incarnation,
    ) -> Result<(), AppendError> {
        keep_alive(&mut self.log, channel, incarnation).map_err(AppendError::from)
    }

    /// Trims or deletes those of `channels` that are due, and drops old tombstones. Returns the
    /// channels that were deleted.
    pub(super) fn expire(&mut self, channels: &[Channel]) -> Result<Vec<Channel>, StoreError> {
        drop_old_tombstones(&mut self.log);
        let mut deleted = Vec::new();
        for channel in channels {
            if expire_channel(&mut self.log, &self.keys, channel)? {
                deleted.push(channel.clone());
            }
        }
        Ok(deleted)
    }

    /// Appends the events of an item, and stores its key.
    fn store_item(
        &mut self,
        row: &mut ChannelRow,
        item: &AppendItem,
        key: Option<(IdempotencyKey, KeyOwner)>,
    ) -> Result<Appended, StoreError> {
        let mut first = None;
        for event in &item.events {
            let id = self.log.append_event(row, event)?;
            first.get_or_insert(id);
        }
        let ids = Appended {
            first: first.unwrap_or(row.last),
            last: row.last,
        };
        if let Some((key, owner)) = key {
            let log_ms = self.log.log_ms();
            let known = key.stored_with(ids, owner);
            self.keys.remember(row.number, key.key, known, log_ms)?;
        }
        Ok(ids)
    }

    /// Changes the stored revocations.
    pub(super) fn change_revocations(&self, change: &RevocationChange) -> Result<(), AppendError> {
        revocations::stage_change(self.transaction, change)
    }

    /// Moves the log's clock past `bound`, if the time is later than `bound`.
    pub(super) fn advance_clock_past(&mut self, bound: EventId) {
        self.log.advance_clock_past(bound);
    }

    /// Trims by count, age and total bytes, and forgets expired keys, as far as this commit may.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        if self.keys.forget_all_expired(self.log.log_ms())? {
            self.log.defer_trimming();
        }
        self.log.remove_deleted()?;
        trim::trim_due(&mut self.log)
    }

    /// Trims by total bytes, as far as this commit may.
    pub(super) fn trim_to_bytes(&mut self) -> Result<(), StoreError> {
        trim::trim_to_bytes(&mut self.log)
    }

    /// Writes the rows that changed, and returns the change to apply after the commit.
    pub(super) fn finish(self) -> Result<CommittedChange, StoreError> {
        let key_counts = self.keys.finish()?;
        self.log.finish(key_counts)
    }
}
