//! Idempotency keys: what was stored under each key, until it expires.
//!
//! A key is written in the same transaction as its events. The log therefore knows a key exactly if
//! it has the events, whatever fails in between. An index by expiry lets a commit forget a bounded
//! number of expired keys. Channels are identified by their numbers, and times are by the log's
//! clock.

use std::{collections::HashMap, ops::RangeInclusive};

use redb::{ReadableTable as _, Table, WriteTransaction};

use super::{
    committed_keys::CommittedKeys,
    error::StoreError,
    key_record::{KeyCount, decode_key, encode_key},
    tables::{KEY_COUNTS, KEY_EXPIRIES, KEYS},
};
use crate::broker::{
    client_shares::StoredKeys,
    idempotency::{Fingerprint, KeyLimits, KnownKey},
};

/// Expired keys that an append may forget in addition to as many as it adds. The number of expired
/// keys therefore falls with every append.
const FORGET_PER_APPEND: u64 = 16;
/// Expired keys that a sweep forgets at most.
const FORGET_PER_SWEEP: u64 = 1000;

/// The keys as a transaction has them.
pub(super) struct Keys<'a> {
    transaction: &'a WriteTransaction,
    limits: KeyLimits,
    committed: &'a CommittedKeys,
    changed: HashMap<u32, KeyCount>,
    /// Number of keys in all channels.
    total: u64,
    /// Opened on first use, because most commits touch no key.
    tables: Option<Tables<'a>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(
        transaction: &'a WriteTransaction,
        limits: KeyLimits,
        committed: &'a CommittedKeys,
    ) -> Self {
        Self {
            transaction,
            limits,
            committed,
            changed: HashMap::new(),
            total: committed.total(),
            tables: None,
        }
    }

    /// Returns true if a channel has keys, including expired keys that are not forgotten yet.
    pub(super) fn has_keys(&self, channel: u32) -> bool {
        self.key_count(channel).count > 0
    }

    /// Returns what is stored under a key, or `None` if the key is unknown or has expired.
    pub(super) fn find(
        &mut self,
        channel: u32,
        key: Fingerprint,
        log_ms: u64,
    ) -> Result<Option<KnownKey>, StoreError> {
        if !self.has_keys(channel) {
            return Ok(None);
        }
        let Some(row) = self.tables()?.keys.get((channel, key.number()))? else {
            return Ok(None);
        };
        let row = decode_key(channel, key, row.value());
        let (expiry_ms, known) = row.ok_or_else(damaged_key)?;
        Ok((expiry_ms > log_ms).then_some(known))
    }

    /// Makes room for `wanted` more keys of a channel, as far as keys have expired. Returns what is
    /// left.
    pub(super) fn make_room(
        &mut self,
        channel: u32,
        wanted: u64,
        log_ms: u64,
    ) -> Result<StoredKeys, StoreError> {
        self.forget_expired(channel, log_ms, wanted + FORGET_PER_APPEND)?;
        let key_count = self.key_count(channel);
        Ok(StoredKeys {
            in_channel: key_count.count,
            in_all: self.total,
            first_expiry_ms: key_count.first_expiry_ms,
        })
    }

    /// Stores a key that is unknown or has expired, with the ids of its events.
    pub(super) fn remember(
        &mut self,
        channel: u32,
        key: Fingerprint,
        known: KnownKey,
        log_ms: u64,
    ) -> Result<(), StoreError> {
        let expiry_ms = self.limits.expiry_ms(log_ms);
        let key_count = self.key_count(channel);
        let tables = self.tables()?;
        let key_count = if tables.insert(channel, key, known, expiry_ms)? {
            // The replaced key had expired. It may have been the first to expire.
            KeyCount {
                first_expiry_ms: tables.first_expiry_ms(channel)?,
                ..key_count
            }
        } else {
            key_count.with_key(expiry_ms)
        };
        self.set_key_count(channel, key_count);
        Ok(())
    }

    /// Forgets expired keys of all channels, as far as one commit may. Returns true if some are
    /// left.
    pub(super) fn forget_all_expired(&mut self, log_ms: u64) -> Result<bool, StoreError> {
        let mut left = FORGET_PER_SWEEP;
        for channel in self.committed.expired(log_ms) {
            left -= self.forget_expired(channel, log_ms, left)?;
            if left == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes and returns the counts that changed.
    pub(super) fn finish(self) -> Result<HashMap<u32, KeyCount>, StoreError> {
        if !self.changed.is_empty() {
            self.write_changed()?;
        }
        Ok(self.changed)
    }

    fn write_changed(&self) -> Result<(), StoreError> {
        let mut key_counts = self.transaction.open_table(KEY_COUNTS)?;
        for (channel, key_count) in &self.changed {
            match key_count.count {
                0 => drop(key_counts.remove(channel)?),
                _ => drop(key_counts.insert(channel, key_count.encode(*channel).as_slice())?),
            }
        }
        Ok(())
    }

    /// Forgets up to `forget_max` expired keys of a channel, the oldest first. Returns how many.
    fn forget_expired(
        &mut self,
        channel: u32,
        log_ms: u64,
        forget_max: u64,
    ) -> Result<u64, StoreError> {
        let key_count = self.key_count(channel);
        if !key_count.has_expired(log_ms) {
            return Ok(0);
        }
        let tables = self.tables()?;
        let forgotten = tables.remove_expired(channel, log_ms, forget_max)?;
        let key_count = KeyCount {
            count: key_count.count.saturating_sub(forgotten),
            first_expiry_ms: tables.first_expiry_ms(channel)?,
        };
        self.set_key_count(channel, key_count);
        Ok(forgotten)
    }

    fn set_key_count(&mut self, channel: u32, key_count: KeyCount) {
        let old = self.key_count(channel).count;
        self.total = (self.total + key_count.count).saturating_sub(old);
        self.changed.insert(channel, key_count);
    }

    fn key_count(&self, channel: u32) -> KeyCount {
        let changed = self.changed.get(&channel).copied();
        let key_count = changed.or_else(|| self.committed.get(channel));
        key_count.unwrap_or(KeyCount::NONE)
    }

    fn tables(&mut self) -> Result<&mut Tables<'a>, StoreError> {
        Ok(match &mut self.tables {
            Some(tables) => tables,
            none => none.insert(Tables::open(self.transaction)?),
        })
    }
}

fn damaged_key() -> StoreError {
    StoreError::Damaged("the row of a publish's key has a wrong checksum".to_owned())
}

/// The table of the keys and its index by expiry.
struct Tables<'a> {
    keys: Table<'a, (u32, u128), &'static [u8]>,
    expiries: Table<'a, (u32, u64, u128), ()>,
}

impl<'a> Tables<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            keys: transaction.open_table(KEYS)?,
            expiries: transaction.open_table(KEY_EXPIRIES)?,
        })
    }

    /// Inserts a key. Returns true if it replaces an expired one.
    fn insert(
        &mut self,
        channel: u32,
        fingerprint: Fingerprint,
        known: KnownKey,
        expiry_ms: u64,
    ) -> Result<bool, StoreError> {
        let key = fingerprint.number();
        let row = encode_key(channel, fingerprint, known, expiry_ms);
        let replaced = self
            .keys
            .insert((channel, key), row.as_slice())?
            .map(|old| decode_key(channel, fingerprint, old.value()));
        if let Some(Some((expired_ms, _))) = replaced {
            self.expiries.remove((channel, expired_ms, key))?;
        }
        self.expiries.insert((channel, expiry_ms, key), ())?;
        Ok(replaced.is_some())
    }

    /// Removes up to `remove_max` keys of a channel that have expired, and returns how many.
    fn remove_expired(
        &mut self,
        channel: u32,
        log_ms: u64,
        remove_max: u64,
    ) -> Result<u64, StoreError> {
        let mut expired = Vec::new();
        for entry in self.expiries.range(expiries_until(channel, log_ms))? {
            if expired.len() as u64 == remove_max {
                break;
            }
            expired.push(entry?.0.value());
        }
        for (_, expiry_ms, key) in &expired {
            self.expiries.remove((channel, *expiry_ms, *key))?;
            self.keys.remove((channel, *key))?;
        }
        Ok(expired.len() as u64)
    }

    /// Returns when the first key of a channel expires; the maximum if the channel has no key.
    fn first_expiry_ms(&self, channel: u32) -> Result<u64, StoreError> {
        let mut entries = self.expiries.range(expiries_until(channel, u64::MAX))?;
        let first = entries.next().transpose()?;
        Ok(first.map_or(u64::MAX, |(entry, _)| entry.value().1))
    }
}

/// Returns the range of the keys of a channel that expire up to `ms`.
const fn expiries_until(channel: u32, ms: u64) -> RangeInclusive<(u32, u64, u128)> {
    (channel, 0, 0)..=(channel, ms, u128::MAX)
}

#[cfg(test)]
mod tests;
