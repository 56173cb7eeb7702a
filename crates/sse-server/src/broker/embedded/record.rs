//! The bytes of events, channel rows and the other rows of the log, each with a checksum.
//!
//! An event record contains the id of the event before it in its channel. A reader can therefore
//! prove that no event is missing between the two. A CRC32C covers key and value, because redb
//! verifies no checksums on ordinary reads.
//!
//! ```text
//! event      previous ms u64 · previous seq u64 · type length u8 · type · data · crc32c u32
//! channel    number u32 · origin · last · trimmed · oldest (16 bytes each) · count u64 · bytes u64
//!            · crc32c u32
//! forgotten  last (16 bytes) · crc32c u32
//! header     highest · origin (16 bytes each) · next number u32 · crc32c u32     (little endian)
//! ```

use std::ops::RangeInclusive;

use bytes::Bytes;
use bytestring::ByteString;
use crc32c::crc32c;
use sse_proto::EventId;

use super::checksum::{CHECKSUM, push_checksum, seal, split_checksum, unseal};
use crate::broker::{
    Stored,
    continuity::{Extent, Trimmed},
};

/// Version of the format. It changes when an older version could not read what this one writes.
pub(super) const FORMAT: u64 = 3;

/// The version before, whose files are converted when they are opened.
pub(super) const FORMAT_BEFORE: u64 = 2;

/// Key of an event: the number of its channel, and its id.
pub(super) type Key = (u32, u64, u64);

/// Returns the key of `id` in the channel with this number.
pub(super) const fn event_key(number: u32, id: EventId) -> Key {
    (number, id.ms, id.seq)
}

/// Returns the id in a key.
pub(super) const fn id_of(key: Key) -> EventId {
    EventId::new(key.1, key.2)
}

/// Returns what an event counts towards the limit of bytes: its record and its key.
pub(super) const fn record_bytes(record: usize) -> u64 {
    (record + size_of::<Key>()) as u64
}

/// Bytes of an event record before its type.
const EVENT_HEAD: usize = 17;

/// Encodes an event record into `out`, which is cleared first.
pub(super) fn encode_event(out: &mut Vec<u8>, key: Key, previous: EventId, kind: &str, data: &str) {
    let kind_length = u8::try_from(kind.len()).expect("an event type has at most 128 bytes");
    out.clear();
    out.reserve(EVENT_HEAD + kind.len() + data.len() + CHECKSUM);
    put_id(out, previous);
    out.push(kind_length);
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(data.as_bytes());
    push_checksum(out, key_checksum(key));
}

/// Decodes an event record; returns `None` if the checksum or layout is wrong.
///
/// The second value is the id of the event before it in its channel.
pub(super) fn decode_event(key: Key, record: &[u8]) -> Option<(Stored, EventId)> {
    let content = split_checksum(record, key_checksum(key))?;
    let (previous, rest) = split_id(content)?;
    let (&kind_length, text) = rest.split_first()?;
    if text.len() < usize::from(kind_length) {
        return None;
    }
    // Type and data share one copy of the text.
    let text = Bytes::copy_from_slice(text);
    let kind = ByteString::try_from(text.slice(..usize::from(kind_length))).ok()?;
    let data = ByteString::try_from(text.slice(usize::from(kind_length)..)).ok()?;
    Some((
        Stored {
            id: id_of(key),
            kind,
            data,
        },
        previous,
    ))
}

fn key_checksum((number, ms, seq): Key) -> u32 {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..12].copy_from_slice(&ms.to_le_bytes());
    bytes[12..].copy_from_slice(&seq.to_le_bytes());
    crc32c(&bytes)
}

/// Encodes the last id of a forgotten channel.
pub(super) fn encode_forgotten(channel: &str, last: EventId) -> Vec<u8> {
    let mut content = Vec::with_capacity(16 + CHECKSUM);
    put_id(&mut content, last);
    seal(channel.as_bytes(), content)
}

/// Decodes the last id of a forgotten channel; returns `None` if the checksum or layout is wrong.
pub(super) fn decode_forgotten(channel: &str, sealed: &[u8]) -> Option<EventId> {
    let (last, rest) = split_id(unseal(channel.as_bytes(), sealed)?)?;
    rest.is_empty().then_some(last)
}

/// The row that belongs to the whole log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogHeader {
    /// The highest id that the log's clock has assigned or passed.
    pub(super) highest: EventId,
    /// Where channels begin that have neither a row nor a known last id.
    pub(super) origin: EventId,
    /// The number of the next new channel, if it is free.
    pub(super) next_number: u32,
}

impl LogHeader {
    /// The key of the row.
    pub(super) const KEY: &'static str = "log";

    /// The header of a log without channels.
    pub(super) const NEW: Self = Self {
        highest: EventId::ZERO,
        origin: EventId::ZERO,
        next_number: 1,
    };

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(36 + CHECKSUM);
        put_id(&mut content, self.highest);
        put_id(&mut content, self.origin);
        content.extend_from_slice(&self.next_number.to_le_bytes());
        seal(Self::KEY.as_bytes(), content)
    }

    /// Decodes the header; returns `None` if the checksum or layout is wrong.
    pub(super) fn decode(sealed: &[u8]) -> Option<Self> {
        let content = unseal(Self::KEY.as_bytes(), sealed)?;
        let (highest, rest) = split_id(content)?;
        let (origin, rest) = split_id(rest)?;
        Some(Self {
            highest,
            origin,
            next_number: u32::from_le_bytes(rest.try_into().ok()?),
        })
    }
}

/// What the log knows about a channel. Its events and its row change in the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChannelRow {
    /// Identifies the channel in the keys of its events. Another channel gets this number only if
    /// the file has nothing of this one any more.
    pub(super) number: u32,
    /// The id after which the channel began; zero once something was trimmed.
    pub(super) origin: EventId,
    /// The last id assigned in the channel.
    pub(super) last: EventId,
    /// The newest trimmed id; `origin` if nothing was trimmed.
    pub(super) trimmed: EventId,
    /// The oldest event; zero if the channel has no events.
    pub(super) oldest: EventId,
    /// Number of events.
    pub(super) count: u64,
    /// Bytes of the events, including their keys.
    pub(super) bytes: u64,
}

impl ChannelRow {
    /// The row of a channel that has no event yet.
    pub(super) const fn new(number: u32, origin: EventId) -> Self {
        Self {
            number,
            origin,
            last: origin,
            trimmed: origin,
            oldest: EventId::ZERO,
            count: 0,
            bytes: 0,
        }
    }

    /// Whether an event was ever appended.
    pub(super) fn has_had_events(&self) -> bool {
        self.last != self.origin
    }

    /// Returns what decides whether a position can be continued.
    pub(super) fn extent(&self) -> Extent {
        let trimmed = Trimmed::through(self.trimmed, self.origin);
        Extent {
            oldest: (self.count > 0).then_some(self.oldest),
            last: self.last,
            trimmed,
        }
    }

    /// Returns the keys of the events from `first` to `last`.
    pub(super) const fn keys(&self, first: EventId, last: EventId) -> RangeInclusive<Key> {
        event_key(self.number, first)..=event_key(self.number, last)
    }

    /// Returns true if events other than the newest are older than `cutoff_ms`.
    pub(super) const fn has_events_before(&self, cutoff_ms: u64) -> bool {
        self.count > 1 && self.oldest.ms < cutoff_ms
    }

    /// Counts an event that was appended.
    pub(super) const fn add(&mut self, id: EventId, bytes: u64) {
        if self.count == 0 {
            self.oldest = id;
        }
        self.last = id;
        self.count += 1;
        self.bytes += bytes;
    }

    /// Subtracts the oldest event, which was trimmed. The caller sets `oldest`.
    pub(super) fn subtract(&mut self, id: EventId, bytes: u64) {
        self.trimmed = self.trimmed.max(id);
        self.origin = EventId::ZERO;
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Encodes the row.
    pub(super) fn encode(self, channel: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(88);
        out.extend_from_slice(&self.number.to_le_bytes());
        for id in [self.origin, self.last, self.trimmed, self.oldest] {
            put_id(&mut out, id);
        }
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        seal(channel.as_bytes(), out)
    }

    /// Decodes the row of a channel; returns `None` if the checksum or layout is wrong.
    pub(super) fn decode(channel: &str, bytes: &[u8]) -> Option<Self> {
        let (number, rest) = unseal(channel.as_bytes(), bytes)?.split_first_chunk::<4>()?;
        let (origin, rest) = split_id(rest)?;
        let (last, rest) = split_id(rest)?;
        let (trimmed, rest) = split_id(rest)?;
        let (oldest, rest) = split_id(rest)?;
        let (count, bytes) = split_id(rest).map(|(pair, _)| (pair.ms, pair.seq))?;
        Some(Self {
            number: u32::from_le_bytes(*number),
            origin,
            last,
            trimmed,
            oldest,
            count,
            bytes,
        })
    }
}

/// Appends an id.
pub(super) fn put_id(out: &mut Vec<u8>, id: EventId) {
    out.extend_from_slice(&id.ms.to_le_bytes());
    out.extend_from_slice(&id.seq.to_le_bytes());
}

/// Splits an id off the front.
pub(super) fn split_id(bytes: &[u8]) -> Option<(EventId, &[u8])> {
    let (ms, rest) = bytes.split_first_chunk::<8>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    Some((
        EventId::new(u64::from_le_bytes(*ms), u64::from_le_bytes(*seq)),
        rest,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Key = (7, 1700, 5);

    proptest! {
        #[test]
        fn every_event_reads_back(kind in "[^/\\p{Cc}]{1,32}", data in any::<String>()) {
            let mut record = Vec::new();
            encode_event(&mut record, KEY, EventId::new(1699, 2), &kind, &data);
            let (event, previous) = decode_event(KEY, &record).expect("reads back");
            prop_assert_eq!(event.id, EventId::new(1700, 5));
            prop_assert_eq!((&*event.kind, &*event.data), (&*kind, &*data));
            prop_assert_eq!(previous, EventId::new(1699, 2));
        }

        #[test]
        fn a_changed_byte_a_cut_or_another_key_is_noticed(at in 0_usize..32, flip in 1_u8..) {
            let mut record = Vec::new();
            encode_event(&mut record, KEY, EventId::ZERO, "click", "some data");
            prop_assert_eq!(decode_event((7, 1700, 6), &record), None);
            prop_assert_eq!(decode_event((8, 1700, 5), &record), None);
            let at = at % record.len();
            prop_assert_eq!(decode_event(KEY, &record[..at]), None);
            record[at] ^= flip;
            prop_assert_eq!(decode_event(KEY, &record), None);
        }
    }

    #[test]
    fn every_row_reads_back_and_a_changed_byte_a_cut_or_another_name_is_noticed() {
        let row = ChannelRow {
            oldest: EventId::new(3, 4),
            count: 5,
            bytes: 6,
            ..ChannelRow::new(9, EventId::new(1, 2))
        };
        let header = LogHeader {
            highest: EventId::new(5, 6),
            origin: EventId::new(1, 0),
            next_number: 7,
        };
        let last = EventId::new(8, 9);
        let (a_row, a_last) = (row.encode("orders"), encode_forgotten("orders", last));
        assert_eq!(ChannelRow::decode("orders", &a_row), Some(row));
        assert_eq!(ChannelRow::decode("order", &a_row), None);
        assert_eq!(decode_forgotten("orders", &a_last), Some(last));
        assert_eq!(decode_forgotten("users", &a_last), None);
        assert_eq!(LogHeader::decode(&header.encode()), Some(header));
        for good in [a_row, a_last, header.encode()] {
            let is_rejected = |bytes: &[u8]| {
                ChannelRow::decode("orders", bytes).is_none()
                    && decode_forgotten("orders", bytes).is_none()
                    && LogHeader::decode(bytes).is_none()
            };
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1;
                assert!(is_rejected(&bad) && is_rejected(&good[..at]), "{at}");
            }
        }
    }
}
