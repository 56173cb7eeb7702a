//! The bytes of idempotency keys and of their counts.
//!
//! ```text
//! key      expiry ms u64 · first id · last id (16 bytes each) · content u128 · owner u64 · crc32c u32
//! count    count u64 · first expiry ms u64 · crc32c u32                     (little endian)
//! ```
//!
//! Keys of earlier versions have no owner. The checksums also cover the key of each row: the channel, and the fingerprint of the key.

use sse_proto::EventId;

use super::{
    checksum::{push_checksum, seal, split_checksum, unseal},
    record::{put_id, split_id},
};
use crate::broker::{
    Appended,
    idempotency::{Fingerprint, KnownKey},
    publisher::KeyOwner,
};

/// The number of keys of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyCount {
    /// How many keys are stored, including expired ones.
    pub(super) count: u64,
    /// When the first of them expires; the maximum if there are none.
    pub(super) first_expiry_ms: u64,
}

impl KeyCount {
    /// A channel without keys.
    pub(super) const NONE: Self = Self {
        count: 0,
        first_expiry_ms: u64::MAX,
    };

    /// Returns the count after one more key was stored.
    pub(super) fn with_key(self, expiry_ms: u64) -> Self {
        Self {
            count: self.count + 1,
            first_expiry_ms: self.first_expiry_ms.min(expiry_ms),
        }
    }

    /// Returns true if a key has expired and is not forgotten yet.
    pub(super) const fn has_expired(&self, log_ms: u64) -> bool {
        self.first_expiry_ms <= log_ms
    }

    /// Returns the count unless there are no keys.
    pub(super) fn if_any(self) -> Option<Self> {
        (self.count > 0).then_some(self)
    }

    pub(super) fn encode(&self, channel: u32) -> Vec<u8> {
        seal(
            &channel.to_le_bytes(),
            [self.count.to_le_bytes(), self.first_expiry_ms.to_le_bytes()].concat(),
        )
    }

    /// Decodes a count; returns `None` if the checksum or layout is wrong.
    pub(super) fn decode(channel: u32, sealed: &[u8]) -> Option<Self> {
        let (count, expiry) = unseal(&channel.to_le_bytes(), sealed)?.split_first_chunk()?;
        Some(Self {
            count: u64::from_le_bytes(*count),
            first_expiry_ms: u64::from_le_bytes(expiry.try_into().ok()?),
        })
    }
}

/// Encodes what is stored under a key.
pub(super) fn encode_key(
    channel: u32,
    key: Fingerprint,
    known: KnownKey,
    expiry_ms: u64,
) -> Vec<u8> {
    let mut row = Vec::with_capacity(68);
    row.extend_from_slice(&expiry_ms.to_le_bytes());
    put_id(&mut row, known.ids.first);
    put_id(&mut row, known.ids.last);
    row.extend_from_slice(&known.content.number().to_le_bytes());
    row.extend_from_slice(&known.owner.number().to_le_bytes());
    push_checksum(&mut row, key_checksum(channel, key));
    row
}

/// Decodes the expiry of a key and what is stored under it.
///
/// Returns `None` if the checksum or layout is wrong.
pub(super) fn decode_key(channel: u32, key: Fingerprint, row: &[u8]) -> Option<(u64, KnownKey)> {
    let content = split_checksum(row, key_checksum(channel, key))?;
    let (expiry_ms, rest) = content.split_first_chunk()?;
    let (first, rest): (EventId, _) = split_id(rest)?;
    let (last, rest) = split_id(rest)?;
    let (content, owner) = rest.split_first_chunk()?;
    let known = KnownKey {
        ids: Appended { first, last },
        content: u128::from_le_bytes(*content).into(),
        owner: decode_owner(owner)?,
    };
    Some((u64::from_le_bytes(*expiry_ms), known))
}

fn decode_owner(bytes: &[u8]) -> Option<KeyOwner> {
    if bytes.is_empty() {
        return Some(KeyOwner::UNKNOWN);
    }
    Some(u64::from_le_bytes(bytes.try_into().ok()?).into())
}

fn key_checksum(channel: u32, key: Fingerprint) -> u32 {
    let of_channel = crc32c::crc32c(&channel.to_le_bytes());
    crc32c::crc32c_append(of_channel, &key.number().to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_and_a_changed_byte_a_cut_or_another_key_is_noticed() {
        let ids = Appended {
            first: EventId::new(5, 6),
            last: EventId::new(7, 8),
        };
        let known = KnownKey {
            ids,
            content: u128::MAX.into(),
            owner: 12.into(),
        };
        let key = 1.into();
        let row = encode_key(3, key, known, 99);
        assert_eq!(decode_key(3, key, &row), Some((99, known)));
        assert_eq!(decode_key(4, key, &row), None);
        assert_eq!(decode_key(3, 2.into(), &row), None);
        for at in 0..row.len() {
            let cut = decode_key(3, key, &row[..at]);
            assert_eq!(cut, None, "cut at {at}");
            let mut changed = row.clone();
            changed[at] ^= 0x10;
            let changed = decode_key(3, key, &changed);
            assert_eq!(changed, None, "changed at {at}");
        }
    }
    #[test]
    fn a_row_of_an_earlier_version_has_no_owner() {
        let known = KnownKey {
            ids: Appended {
                first: EventId::new(5, 6),
                last: EventId::new(7, 8),
            },
            content: 9.into(),
            owner: KeyOwner::UNKNOWN,
        };
        let key = 1.into();
        let mut row = encode_key(3, key, known, 99);
        row.truncate(row.len() - 12);
        push_checksum(&mut row, key_checksum(3, key));
        assert_eq!(decode_key(3, key, &row), Some((99, known)));
    }
}
