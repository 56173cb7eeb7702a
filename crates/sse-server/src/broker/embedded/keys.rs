//! The keys of publishes that may be sent again: what was stored under each, until it expires.
//!
//! Written in the same transaction as the events, so a key is known exactly if its events are in the log, whatever
//! happens between. An index by expiry lets a commit forget a bounded number of expired ones.
//!
//! ```text
//! key      expires ms u64 · first id · last id (16 bytes each) · content u128 · crc32c u32, over the key too
//! tally    count u64 · oldest ms u64 · crc32c u32, over the channel too
//! ```

use std::{collections::HashMap, time::Duration};

use redb::{
    ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, Table, WriteTransaction,
};
use sse_proto::EventId;

use super::{
    record::{CHECKSUM, put_id, seal, take_id, unseal},
    store::{KEY_EXPIRIES, KEY_TALLIES, KEYS, StoreError},
};
use crate::broker::{
    Appended, BrokerError,
    idempotency::{Fingerprint, IdempotencyKey, KeyLimits, KnownKey},
};

/// Expired keys that an append may forget, beyond as many as it brings: so that they get fewer.
const SWEPT_PER_APPEND: u64 = 16;
/// Expired keys that a commit forgets at the most, beyond those of its appends.
const SWEPT_PER_COMMIT: u64 = 1000;

/// The keys of a channel, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyCount {
    /// How many there are, expired ones among them.
    pub(super) count: u64,
    /// When the oldest expires.
    pub(super) oldest_ms: u64,
}

impl KeyCount {
    fn encode(&self, channel: u32) -> Vec<u8> {
        seal(
            &channel.to_le_bytes(),
            [self.count.to_le_bytes(), self.oldest_ms.to_le_bytes()].concat(),
        )
    }

    /// Reads a tally; none if it is not what was written.
    pub(super) fn decode(channel: u32, sealed: &[u8]) -> Option<Self> {
        let (count, oldest_ms) = unseal(&channel.to_le_bytes(), sealed)?.split_first_chunk()?;
        let (count, oldest_ms) = (
            u64::from_le_bytes(*count),
            u64::from_le_bytes(oldest_ms.try_into().ok()?),
        );
        Some(Self { count, oldest_ms })
    }
}

/// The keys as a transaction has them. Channels go by their numbers, and times by the log's clock.
pub(super) struct Keys<'a> {
    transaction: &'a WriteTransaction,
    limits: KeyLimits,
    committed: &'a HashMap<u32, KeyCount>,
    changed: HashMap<u32, KeyCount>,
    /// Opened when they are needed: most commits have to do with no key.
    tables: Option<Tables<'a>>,
}

struct Tables<'a> {
    keys: Table<'a, (u32, u128), &'static [u8]>,
    expiries: Table<'a, (u32, u64, u128), ()>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(
        transaction: &'a WriteTransaction,
        limits: KeyLimits,
        committed: &'a HashMap<u32, KeyCount>,
    ) -> Self {
        Self {
            transaction,
            limits,
            committed,
            changed: HashMap::new(),
            tables: None,
        }
    }

    /// Whether a channel has keys, or has expired ones that are not yet forgotten.
    pub(super) fn any(&self, channel: u32) -> bool {
        self.key_count(channel).count > 0
    }

    /// What is known of a key, unless it has expired.
    pub(super) fn look(
        &mut self,
        channel: u32,
        key: Fingerprint,
        now_ms: u64,
    ) -> Result<Option<KnownKey>, StoreError> {
        if !self.any(channel) {
            return Ok(None);
        }
        let Some(row) = self.tables()?.keys.get((channel, key.number()))? else {
            return Ok(None);
        };
        let (expires_ms, known) = decode(channel, key, row.value()).ok_or_else(|| {
            StoreError::Damaged("the row of a publish's key has a wrong checksum".to_owned())
        })?;
        Ok((expires_ms > now_ms).then_some(known))
    }

    /// Sees that a channel may have so many keys more. The inner error says that it may not.
    pub(super) fn make_room(
        &mut self,
        channel: u32,
        wanted: u64,
        now_ms: u64,
    ) -> Result<Result<(), BrokerError>, StoreError> {
        self.forget_expired(channel, now_ms, wanted + SWEPT_PER_APPEND)?;
        let key_count = self.key_count(channel);
        if key_count.count + wanted <= self.limits.keys_max as u64 {
            return Ok(Ok(()));
        }
        let expires_in = Duration::from_millis(key_count.oldest_ms.saturating_sub(now_ms));
        Ok(Err(BrokerError::TooManyKeys {
            keys_max: self.limits.keys_max,
            expires_in,
        }))
    }

    /// Keeps what was stored under a key that is not known, or has expired.
    pub(super) fn remember(
        &mut self,
        channel: u32,
        idempotency: IdempotencyKey,
        ids: Appended,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let expires_ms = now_ms.saturating_add(self.limits.window_ms());
        let key = idempotency.key.number();
        let row = encode(channel, idempotency, ids, expires_ms);
        let tables = self.tables()?;
        let replaced = tables
            .keys
            .insert((channel, key), row.as_slice())?
            .map(|old| old.value().to_vec());
        if let Some((expired_ms, _)) = replaced
            .as_ref()
            .and_then(|old| decode(channel, idempotency.key, old))
        {
            tables.expiries.remove((channel, expired_ms, key))?;
        }
        tables.expiries.insert((channel, expires_ms, key), ())?;
        // What was replaced had expired, and may have been the oldest.
        let oldest_ms = if replaced.is_some() {
            Some(tables.oldest_ms(channel)?)
        } else {
            None
        };
        let key_count = self.key_count(channel);
        let key_count = match oldest_ms {
            Some(oldest_ms) => KeyCount {
                oldest_ms,
                ..key_count
            },
            None => KeyCount {
                count: key_count.count + 1,
                oldest_ms: key_count.oldest_ms.min(expires_ms),
            },
        };
        self.changed.insert(channel, key_count);
        Ok(())
    }

    /// Forgets expired keys of all channels, as far as one commit may; returns whether some are left.
    pub(super) fn sweep(&mut self, now_ms: u64) -> Result<bool, StoreError> {
        let all: Vec<u32> = self
            .committed
            .keys()
            .chain(self.changed.keys())
            .copied()
            .collect();
        let mut left = SWEPT_PER_COMMIT;
        for channel in all {
            left -= self.forget_expired(channel, now_ms, left)?;
            if self.key_count(channel).oldest_ms <= now_ms {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the tallies that changed, and tells them.
    pub(super) fn finish(self) -> Result<HashMap<u32, KeyCount>, StoreError> {
        if !self.changed.is_empty() {
            let mut key_counts = self.transaction.open_table(KEY_TALLIES)?;
            for (channel, key_count) in &self.changed {
                match key_count.count {
                    0 => drop(key_counts.remove(channel)?),
                    _ => drop(key_counts.insert(channel, key_count.encode(*channel).as_slice())?),
                }
            }
        }
        Ok(self.changed)
    }

    /// Forgets up to `most` expired keys of a channel, the oldest first; returns how many.
    fn forget_expired(&mut self, channel: u32, now_ms: u64, most: u64) -> Result<u64, StoreError> {
        let key_count = self.key_count(channel);
        if key_count.oldest_ms > now_ms {
            return Ok(0);
        }
        let tables = self.tables()?;
        let mut expired = Vec::new();
        for entry in tables
            .expiries
            .range((channel, 0, 0)..=(channel, now_ms, u128::MAX))?
        {
            if expired.len() as u64 == most {
                break;
            }
            expired.push(entry?.0.value());
        }
        for (_, expires_ms, key) in &expired {
            tables.expiries.remove((channel, *expires_ms, *key))?;
            tables.keys.remove((channel, *key))?;
        }
        let oldest_ms = tables.oldest_ms(channel)?;
        let forgotten = expired.len() as u64;
        self.changed.insert(
            channel,
            KeyCount {
                count: key_count.count.saturating_sub(forgotten),
                oldest_ms,
            },
        );
        Ok(forgotten)
    }

    fn key_count(&self, channel: u32) -> KeyCount {
        let key_count = self
            .changed
            .get(&channel)
            .or_else(|| self.committed.get(&channel));
        key_count.copied().unwrap_or(KeyCount {
            count: 0,
            oldest_ms: u64::MAX,
        })
    }

    fn tables(&mut self) -> Result<&mut Tables<'a>, StoreError> {
        match &mut self.tables {
            Some(tables) => Ok(tables),
            none => Ok(none.insert(Tables {
                keys: self.transaction.open_table(KEYS)?,
                expiries: self.transaction.open_table(KEY_EXPIRIES)?,
            })),
        }
    }
}

impl Tables<'_> {
    /// When the oldest key of a channel expires.
    fn oldest_ms(&self, channel: u32) -> Result<u64, StoreError> {
        let mut entries = self
            .expiries
            .range((channel, 0, 0)..=(channel, u64::MAX, u128::MAX))?;
        let oldest = entries.next().transpose()?;
        Ok(oldest.map_or(u64::MAX, |(entry, _)| entry.value().1))
    }
}

/// Sees that all keys are there, each where it is looked for: one that is not found would be taken for one that never was,
/// and its events be stored again.
pub(super) fn verify(transaction: &ReadTransaction, expected: u64) -> Result<(), StoreError> {
    let keys = transaction.open_table(KEYS)?;
    let mut found = 0;
    for entry in keys.iter()? {
        let (key, row) = entry?;
        let (channel, fingerprint) = key.value();
        let is_found = keys
            .get((channel, fingerprint))?
            .is_some_and(|found| found.value() == row.value());
        if !is_found || decode(channel, fingerprint.into(), row.value()).is_none() {
            return Err(StoreError::Damaged(
                "the key of a publish is not what was written".to_owned(),
            ));
        }
        found += 1;
    }
    for found in [
        found,
        keys.len()?,
        transaction.open_table(KEY_EXPIRIES)?.len()?,
    ] {
        if found != expected {
            return Err(StoreError::Damaged(format!(
                "{found} of {expected} keys of publishes are there"
            )));
        }
    }
    Ok(())
}

fn encode(channel: u32, idempotency: IdempotencyKey, ids: Appended, expires_ms: u64) -> Vec<u8> {
    let mut row = Vec::with_capacity(60);
    row.extend_from_slice(&expires_ms.to_le_bytes());
    put_id(&mut row, ids.first);
    put_id(&mut row, ids.last);
    row.extend_from_slice(&idempotency.content.number().to_le_bytes());
    let checksum = checksum(channel, idempotency.key, &row);
    row.extend_from_slice(&checksum.to_le_bytes());
    row
}

/// When a key expires, and what is known of it; none if it is not what was written.
fn decode(channel: u32, key: Fingerprint, row: &[u8]) -> Option<(u64, KnownKey)> {
    let (content, found) = row.split_last_chunk::<CHECKSUM>()?;
    if checksum(channel, key, content) != u32::from_le_bytes(*found) {
        return None;
    }
    let (expires_ms, rest) = content.split_first_chunk()?;
    let (first, rest): (EventId, _) = take_id(rest)?;
    let (last, rest) = take_id(rest)?;
    let content = u128::from_le_bytes(rest.try_into().ok()?).into();
    Some((
        u64::from_le_bytes(*expires_ms),
        KnownKey {
            ids: Appended { first, last },
            content,
        },
    ))
}

fn checksum(channel: u32, key: Fingerprint, content: &[u8]) -> u32 {
    let of_channel = crc32c::crc32c(&channel.to_le_bytes());
    crc32c::crc32c_append(
        crc32c::crc32c_append(of_channel, &key.number().to_le_bytes()),
        content,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_and_a_changed_byte_a_cut_or_another_key_is_noticed() {
        let idempotency = IdempotencyKey {
            key: 1.into(),
            content: u128::MAX.into(),
        };
        let ids = Appended {
            first: EventId::new(5, 6),
            last: EventId::new(7, 8),
        };
        let row = encode(3, idempotency, ids, 99);
        assert_eq!(
            decode(3, idempotency.key, &row),
            Some((
                99,
                KnownKey {
                    ids,
                    content: idempotency.content
                }
            ))
        );
        assert_eq!(decode(4, idempotency.key, &row), None);
        assert_eq!(decode(3, 2.into(), &row), None);
        for at in 0..row.len() {
            assert_eq!(decode(3, idempotency.key, &row[..at]), None, "cut at {at}");
            let mut changed = row.clone();
            changed[at] ^= 0x10;
            assert_eq!(
                decode(3, idempotency.key, &changed),
                None,
                "changed at {at}"
            );
        }
    }
}
