//! The bytes of what the log stores about the life of a channel, and of tombstones.
//!
//! ```text
//! life       alive ms u64 · end flag u8 · [id · after (16 bytes each) · had events u8
//!            · reason length u8 · reason] · five settings of flag u8 · value u64 · crc32c u32
//! tombstone  last · end · at (16 bytes each) · had events u8 · crc32c u32      (little endian)
//! ```
//!
//! The checksums also cover the name of the channel.

use sse_proto::EventId;

use super::{
    checksum::{seal, unseal},
    record::{put_id, split_id},
};
use crate::broker::lifecycle::{ChannelLife, ChannelSettings, CloseReason, EndMark, Tombstone};

/// Encodes the life of a channel.
pub(super) fn encode_life(channel: &str, life: &ChannelLife) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&life.alive_ms.to_le_bytes());
    out.push(u8::from(life.end.is_some()));
    if let Some(end) = &life.end {
        put_end(&mut out, end);
    }
    for value in life.settings.to_array() {
        out.push(u8::from(value.is_some()));
        out.extend_from_slice(&value.unwrap_or(0).to_le_bytes());
    }
    seal(channel.as_bytes(), out)
}

fn put_end(out: &mut Vec<u8>, end: &EndMark) {
    let reason = end.reason.as_str().as_bytes();
    put_id(out, end.id);
    put_id(out, end.after);
    out.push(u8::from(end.has_events));
    out.push(u8::try_from(reason.len()).expect("a reason has at most 32 bytes"));
    out.extend_from_slice(reason);
}

/// Decodes the life of a channel; returns `None` if the checksum or layout is wrong.
pub(super) fn decode_life(channel: &str, sealed: &[u8]) -> Option<ChannelLife> {
    let (alive_ms, rest) = split_u64(unseal(channel.as_bytes(), sealed)?)?;
    let (has_end, rest) = split_flag(rest)?;
    let (end, mut rest) = if has_end {
        let (end, rest) = split_end(rest)?;
        (Some(end), rest)
    } else {
        (None, rest)
    };
    let mut values = [None; 5];
    for value in &mut values {
        let (is_set, after_flag) = split_flag(rest)?;
        let (number, after_value) = split_u64(after_flag)?;
        (*value, rest) = (is_set.then_some(number), after_value);
    }
    rest.is_empty().then_some(ChannelLife {
        settings: ChannelSettings::from_array(values),
        end,
        alive_ms,
    })
}

fn split_end(bytes: &[u8]) -> Option<(EndMark, &[u8])> {
    let (id, rest) = split_id(bytes)?;
    let (after, rest) = split_id(rest)?;
    let (has_events, rest) = split_flag(rest)?;
    let (length, rest) = rest.split_first()?;
    let (reason, rest) = rest.split_at_checked(usize::from(*length))?;
    let reason = CloseReason::of_stored(std::str::from_utf8(reason).ok()?).ok()?;
    let end = EndMark {
        id,
        after,
        has_events,
        reason,
    };
    Some((end, rest))
}

/// Encodes a tombstone.
pub(super) fn encode_tombstone(channel: &str, tombstone: Tombstone) -> Vec<u8> {
    let mut out = Vec::with_capacity(56);
    for id in [tombstone.last, tombstone.end, tombstone.at] {
        put_id(&mut out, id);
    }
    out.push(u8::from(tombstone.has_events));
    seal(channel.as_bytes(), out)
}

/// Decodes a tombstone; returns `None` if the checksum or layout is wrong.
pub(super) fn decode_tombstone(channel: &str, sealed: &[u8]) -> Option<Tombstone> {
    let (last, rest): (EventId, _) = split_id(unseal(channel.as_bytes(), sealed)?)?;
    let (end, rest) = split_id(rest)?;
    let (at, rest) = split_id(rest)?;
    let (has_events, rest) = split_flag(rest)?;
    rest.is_empty().then_some(Tombstone {
        last,
        end,
        at,
        has_events,
    })
}

fn split_flag(bytes: &[u8]) -> Option<(bool, &[u8])> {
    match bytes.split_first()? {
        (0, rest) => Some((false, rest)),
        (1, rest) => Some((true, rest)),
        _ => None,
    }
}

fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_reads_back_and_a_changed_byte_a_cut_or_another_name_is_noticed() {
        let open = ChannelLife {
            settings: ChannelSettings {
                ttl_ms: Some(5),
                ..ChannelSettings::NONE
            },
            end: None,
            alive_ms: 7,
        };
        let closed = ChannelLife {
            end: Some(EndMark {
                id: EventId::new(3, 4),
                after: EventId::new(3, 3),
                has_events: true,
                reason: "completed".parse().unwrap(),
            }),
            ..open
        };
        let tombstone = Tombstone {
            last: EventId::new(1, 2),
            end: EventId::new(3, 4),
            at: EventId::new(5, 6),
            has_events: false,
        };
        let sealed = encode_tombstone("a", tombstone);
        assert_eq!(decode_tombstone("a", &sealed), Some(tombstone));
        assert_eq!(decode_tombstone("b", &sealed), None);
        for life in [open, closed] {
            let good = encode_life("a", &life);
            assert_eq!(decode_life("a", &good), Some(life));
            assert_eq!(decode_life("b", &good), None);
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1;
                let is_rejected = decode_life("a", &bad).is_none();
                assert!(
                    is_rejected && decode_life("a", &good[..at]).is_none(),
                    "{at}"
                );
            }
        }
    }
}
