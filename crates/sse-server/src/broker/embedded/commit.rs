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
    record::ChannelRow,
    revocations,
    staged_log::StagedLog,
    trim,
};
use crate::broker::{
    Appended, BrokerError, Publisher, Retention,
    client_shares::{ClientShares, NewKeys},
    idempotency::{
        AppendItem, AppendOutcome, Disposition, IdempotencyKey, count_new_keys, dispositions,
        known_outcomes, store_new_items,
    },
    publisher::KeyOwner,
    revocations::RevocationChange,
};

/// What an append has staged.
#[derive(Debug, Default)]
pub(super) struct StagedAppend {
    /// The last id of the channel before the append.
    pub(super) previous: EventId,
    pub(super) outcomes: Vec<AppendOutcome>,
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
        retention: &'a Retention,
        shares: &'a ClientShares,
        now_ms: u64,
        trims_max: u64,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            transaction,
            log: StagedLog::open(transaction, state, retention, now_ms, trims_max)?,
            keys: Keys::new(transaction, retention.keys, &state.channels),
            shares,
        })
    }

    /// Appends the items that `channel` does not have yet: all or none.
    ///
    /// `room` states whether there is disk space for more events. Even without disk space, items
    /// whose key is already known still get their original ids.
    pub(super) fn append(
        &mut self,
        publisher: Publisher,
        channel: &Channel,
        items: &[AppendItem],
        room: &Result<(), BrokerError>,
    ) -> Result<StagedAppend, AppendError> {
        let row = self.log.channels.row(channel);
        let mut new_keys = NewKeys {
            publisher,
            channel,
            count: 0,
            log_ms: self.log.log_ms(),
        };
        let dispositions = self.decide(&mut new_keys, row, items)?;
        if let Some(outcomes) = known_outcomes(&dispositions) {
            return Ok(StagedAppend {
                outcomes,
                ..StagedAppend::default()
            });
        }
        room.clone()?;
        let mut row = match row {
            Some(row) => row,
            None => create_channel(&mut self.log, self.shares, publisher, channel)?,
        };
        let previous = row.last;
        let owner = publisher.key_owner(items);
        let outcomes = store_new_items(items, &dispositions, |item, key| {
            let key = key.map(|key| (key, owner));
            self.store_item(&mut row, item, key)
        })?;
        self.shares.record_keys(new_keys);
        self.log.channels.set_row(channel, Some(row));
        trim::trim_to_count(&mut self.log, channel)?;
        Ok(StagedAppend { previous, outcomes })
    }

    /// Decides what to do with each item, counts the new keys, and makes room for them.
    fn decide(
        &mut self,
        new: &mut NewKeys<'_>,
        row: Option<ChannelRow>,
        items: &[AppendItem],
    ) -> Result<Vec<Disposition>, AppendError> {
        let log_ms = new.log_ms;
        let owner = new.publisher.key_owner(items);
        let dispositions = dispositions(items, owner, |key| match row {
            Some(row) => self
                .keys
                .find(row.number, key, log_ms)
                .map_err(|error| AppendError::from_key_lookup(new.channel, error)),
            None => Ok(None),
        })?;
        new.count = count_new_keys(&dispositions) as u64;
        if new.count > 0 {
            // A channel without a row has no keys under any number.
            let number = row.map_or(self.log.next_number(), |row| row.number);
            let stored = self.keys.make_room(number, new.count, log_ms)?;
            let limits = self.log.retention().keys;
            self.shares.check_keys(*new, stored, limits)?;
        }
        Ok(dispositions)
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
        trim::trim_all(&mut self.log)
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
