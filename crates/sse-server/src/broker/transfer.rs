//! What `sse-server copy` reads from an embedded log: the state of its channels, their records and
//! their idempotency keys, in pages of a bounded size.
//!
//! A page belongs to one snapshot. A later page can belong to a later one, so every page of records
//! has the state that they lead to. Ids are assigned in one order for the whole log. A channel that
//! has changed after a page with the highest id `H` therefore has a record, an end or a deletion with
//! an id above `H`.

use std::fmt;

use serde::{Deserialize, Serialize};
use sse_proto::{Channel, EventId};

use super::{
    Broker,
    backup::BackupError,
    embedded::Embedded,
    lifecycle::{ChannelSettings, EndMark, Tombstone},
};

/// Channels that a page of a list has at most.
pub(crate) const LISTED_MAX: usize = 512;
/// Rows that a page of a list examines at most.
pub(crate) const EXAMINED_MAX: usize = 8192;
/// Records, and also keys, that a page has at most.
pub(crate) const RECORDS_MAX: usize = 1000;
/// Bytes of types and data after which a page ends.
pub(crate) const RECORD_BYTES_MAX: usize = 512 << 10;

/// A part of the list of all channels, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceList {
    /// The highest id that the log had assigned.
    pub(crate) highest: EventId,
    pub(crate) channels: Vec<SourceChannel>,
    /// The name after which the next part begins; `None` if this part is the last one.
    pub(crate) next: Option<Channel>,
}

/// A channel, without its records and keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceChannel {
    pub(crate) channel: Channel,
    /// `None` if the channel was deleted.
    pub(crate) state: Option<SourceState>,
    /// The last deletion, while the log keeps it.
    pub(crate) deletion: Option<SourceDeletion>,
}

/// A channel that exists. One that was forgotten to make room is a channel whose records were all
/// trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceState {
    /// The id after which the channel began.
    pub(crate) start: EventId,
    /// The last id before the end.
    pub(crate) last: EventId,
    /// The newest id that is not kept; `None` if the log has every record since `start`.
    pub(crate) trimmed: Option<EventId>,
    pub(crate) oldest: Option<EventId>,
    /// Number of records.
    pub(crate) records: u64,
    /// In the order of [`ChannelSettings::to_array`].
    pub(crate) settings: [Option<u64>; 5],
    pub(crate) alive_ms: u64,
    pub(crate) end: Option<SourceEnd>,
}

impl SourceState {
    pub(crate) const fn settings(&self) -> ChannelSettings {
        ChannelSettings::from_array(self.settings)
    }
}

/// The end of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceEnd {
    pub(crate) id: EventId,
    pub(crate) after: EventId,
    pub(crate) has_events: bool,
    pub(crate) reason: String,
}

impl From<EndMark> for SourceEnd {
    fn from(end: EndMark) -> Self {
        Self {
            id: end.id,
            after: end.after,
            has_events: end.has_events,
            reason: end.reason.as_str().to_owned(),
        }
    }
}

/// The note of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceDeletion {
    pub(crate) last: EventId,
    pub(crate) end: EventId,
    pub(crate) at: EventId,
    pub(crate) has_events: bool,
}

impl From<Tombstone> for SourceDeletion {
    fn from(tombstone: Tombstone) -> Self {
        Self {
            last: tombstone.last,
            end: tombstone.end,
            at: tombstone.at,
            has_events: tombstone.has_events,
        }
    }
}

/// Consecutive records of a channel after an id, and the keys that belong to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourcePage {
    pub(crate) channel: SourceChannel,
    /// Whether the id is one of the channel, or too old for the log to know that.
    pub(crate) continues: bool,
    pub(crate) records: Vec<SourceRecord>,
    pub(crate) keys: Vec<SourceKey>,
    /// The page has everything up to this id.
    pub(crate) end: EventId,
    /// Whether more follows.
    pub(crate) more: bool,
    /// Keys that cannot be read, because the file is damaged.
    pub(crate) damaged_keys: u64,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceRecord {
    pub(crate) id: EventId,
    /// `None` if the file is damaged here. Readers get a gap in its place.
    pub(crate) event: Option<SourceEvent>,
}

/// An event or a gap record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceEvent {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) data: String,
    /// The beginning of the range that a gap record reports as lost.
    pub(crate) lost_after: Option<EventId>,
}

/// An idempotency key that has not expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceKey {
    pub(crate) key: Hex128,
    pub(crate) content: Hex128,
    pub(crate) owner: u64,
    pub(crate) first: EventId,
    pub(crate) last: EventId,
    pub(crate) expires_ms: u64,
}

/// A fingerprint, as 32 hexadecimal digits: JSON has no number of 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Hex128(pub(crate) u128);

impl fmt::Display for Hex128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<Hex128> for String {
    fn from(number: Hex128) -> Self {
        number.to_string()
    }
}

impl TryFrom<String> for Hex128 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(&text, 16);
        match number {
            Ok(number) if is_hex => Ok(Self(number)),
            _ => Err("a fingerprint has 32 hexadecimal digits"),
        }
    }
}

impl Broker {
    /// Returns the log that can be copied to another broker.
    ///
    /// # Errors
    ///
    /// [`BackupError::NotSupported`]: there is no embedded log.
    pub(crate) fn source_log(&self) -> Result<&Embedded, BackupError> {
        match self {
            Self::Embedded(log) => Ok(log),
            Self::Memory(_) => Err(BackupError::NotSupported(
                "its events are in memory only (--memory)",
            )),
            Self::Redis(_) => Err(BackupError::NotSupported("its events are in Redis")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_back_and_other_text_is_rejected() {
        let number = Hex128(0xab);
        let json = serde_json::to_string(&number).unwrap();
        assert_eq!(json, "\"000000000000000000000000000000ab\"");
        assert_eq!(serde_json::from_str::<Hex128>(&json).unwrap(), number);
        for wrong in ["\"ab\"", "\"+0000000000000000000000000000000\"", "171"] {
            assert!(serde_json::from_str::<Hex128>(wrong).is_err(), "{wrong}");
        }
    }
}
