//! The bytes of an event, of a channel's row and of what else the log remembers, each with a checksum.
//!
//! An event record carries the id of the event before it in its channel, so that a reader can prove that none is
//! missing between the two. A CRC32C covers key and value, because redb checks no checksums on ordinary reads.
//!
//! ```text
//! event    previous ms u64 · previous seq u64 · type length u8 · type · data · crc32c u32     (little endian)
//! channel  number u32 · origin · last · trimmed · oldest (16 bytes each) · count u64 · bytes u64 · crc32c u32
//! numbers  highest · origin (16 bytes each) · next number u32 · crc32c u32
//! others   what they are · crc32c u32
//! ```

use bytes::Bytes;
use bytestring::ByteString;
use sse_proto::EventId;

use crate::broker::{
    Stored,
    continuity::{Extent, Trimmed},
};

/// Key of an event: the number of its channel, and its id.
pub(super) type Key = (u32, u64, u64);

/// The key of `id` in the channel with this number.
pub(super) const fn key(number: u32, id: EventId) -> Key {
    (number, id.ms, id.seq)
}

/// The id in a key.
pub(super) const fn id_of(key: Key) -> EventId {
    EventId::new(key.1, key.2)
}

const EVENT_HEAD: usize = 17;
/// Bytes of a checksum.
pub(super) const CHECKSUM: usize = 4;

/// Writes an event's record into `out`, which is cleared first.
pub(super) fn encode_event(out: &mut Vec<u8>, key: Key, previous: EventId, kind: &str, data: &str) {
    let kind_length = u8::try_from(kind.len()).expect("an event type has at most 128 bytes");
    out.clear();
    out.reserve(EVENT_HEAD + kind.len() + data.len() + CHECKSUM);
    put_id(out, previous);
    out.push(kind_length);
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(data.as_bytes());
    let checksum = crc32c::crc32c_append(key_checksum(key), out);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// Reads an event's record; none if it is not what was written.
///
/// Returns the event and the id of the one before it in its channel.
pub(super) fn decode_event(key: Key, record: &[u8]) -> Option<(Stored, EventId)> {
    let (content, checksum) = record.split_last_chunk::<CHECKSUM>()?;
    if crc32c::crc32c_append(key_checksum(key), content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (previous, rest) = take_id(content)?;
    let (&kind_length, text) = rest.split_first()?;
    if text.len() < usize::from(kind_length) {
        return None;
    }
    // One copy out of the page; type and data share it.
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
    crc32c::crc32c(&bytes)
}

/// Adds a checksum of `content` and of the key that it stands under.
pub(super) fn seal(key: &[u8], mut content: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(key), &content);
    content.extend_from_slice(&checksum.to_le_bytes());
    content
}

/// The content of what was sealed under this key; none if it is not what was written.
pub(super) fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (content, checksum) = sealed.split_last_chunk::<CHECKSUM>()?;
    let is_whole =
        crc32c::crc32c_append(crc32c::crc32c(key), content) == u32::from_le_bytes(*checksum);
    is_whole.then_some(content)
}

/// The last id of a forgotten channel, sealed.
pub(super) fn encode_forgotten(channel: &str, last: EventId) -> Vec<u8> {
    let mut content = Vec::with_capacity(16 + CHECKSUM);
    put_id(&mut content, last);
    seal(channel.as_bytes(), content)
}

/// The same read; none if it is not what was written.
pub(super) fn decode_forgotten(channel: &str, sealed: &[u8]) -> Option<EventId> {
    let (last, rest) = take_id(unseal(channel.as_bytes(), sealed)?)?;
    rest.is_empty().then_some(last)
}

/// What belongs to the whole log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogHeader {
    /// The highest id given out, or passed.
    pub(super) highest: EventId,
    /// Where channels begin of which nothing is known.
    pub(super) origin: EventId,
    /// For the next new channel.
    pub(super) next_number: u32,
}

impl LogHeader {
    /// The key that they stand under.
    pub(super) const KEY: &'static str = "log";

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(36 + CHECKSUM);
        put_id(&mut content, self.highest);
        put_id(&mut content, self.origin);
        content.extend_from_slice(&self.next_number.to_le_bytes());
        seal(Self::KEY.as_bytes(), content)
    }

    /// Reads them; none if they are not what was written.
    pub(super) fn decode(sealed: &[u8]) -> Option<Self> {
        let content = unseal(Self::KEY.as_bytes(), sealed)?;
        let (highest, rest) = take_id(content)?;
        let (origin, rest) = take_id(rest)?;
        Some(Self {
            highest,
            origin,
            next_number: u32::from_le_bytes(rest.try_into().ok()?),
        })
    }
}

/// What the log knows of a channel, kept in step with its events by the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChannelRow {
    /// Stands for the channel in the keys of its events; never given to another channel.
    pub(super) number: u32,
    /// Where the channel began: nothing of it lies before.
    pub(super) origin: EventId,
    /// The last id given out in the channel.
    pub(super) last: EventId,
    /// The newest id trimmed; `origin` if none was.
    pub(super) trimmed: EventId,
    /// The oldest event kept; zero if none is.
    pub(super) oldest: EventId,
    /// Events kept.
    pub(super) count: u64,
    /// Their bytes, keys included.
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

    /// What of it decides whether a position can be continued.
    pub(super) fn extent(&self) -> Extent {
        let trimmed = Trimmed::through(self.trimmed, self.origin);
        Extent {
            oldest: (self.count > 0).then_some(self.oldest),
            last: self.last,
            trimmed,
        }
    }

    /// The bytes of the row of this channel.
    pub(super) fn encode(&self, channel: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(88);
        out.extend_from_slice(&self.number.to_le_bytes());
        for id in [self.origin, self.last, self.trimmed, self.oldest] {
            put_id(&mut out, id);
        }
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        seal(channel.as_bytes(), out)
    }

    /// Reads the row of a channel; none if it is not what was written.
    pub(super) fn decode(channel: &str, bytes: &[u8]) -> Option<Self> {
        let (number, rest) = unseal(channel.as_bytes(), bytes)?.split_first_chunk::<4>()?;
        let (origin, rest) = take_id(rest)?;
        let (last, rest) = take_id(rest)?;
        let (trimmed, rest) = take_id(rest)?;
        let (oldest, rest) = take_id(rest)?;
        let (count, bytes) = take_id(rest).map(|(pair, _)| (pair.ms, pair.seq))?;
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

/// Writes an id.
pub(super) fn put_id(out: &mut Vec<u8>, id: EventId) {
    out.extend_from_slice(&id.ms.to_le_bytes());
    out.extend_from_slice(&id.seq.to_le_bytes());
}

/// Reads an id off the front.
pub(super) fn take_id(bytes: &[u8]) -> Option<(EventId, &[u8])> {
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
            prop_assert_eq!((event.id, &*event.kind, &*event.data), (EventId::new(1700, 5), &*kind, &*data));
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
    fn what_is_remembered_reads_back_and_notices_a_changed_byte_a_cut_and_another_name() {
        let row = ChannelRow {
            oldest: EventId::new(3, 4),
            count: 5,
            bytes: 6,
            ..ChannelRow::new(9, EventId::new(1, 2))
        };
        let numbers = LogHeader {
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
        assert_eq!(LogHeader::decode(&numbers.encode()), Some(numbers));
        for good in [a_row, a_last, numbers.encode()] {
            let is_refused = |bytes: &[u8]| {
                ChannelRow::decode("orders", bytes).is_none()
                    && decode_forgotten("orders", bytes).is_none()
                    && LogHeader::decode(bytes).is_none()
            };
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1;
                assert!(is_refused(&bad) && is_refused(&good[..at]), "{at}");
            }
        }
    }
}
