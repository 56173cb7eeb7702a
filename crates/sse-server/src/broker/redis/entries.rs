//! Entries of a channel's stream.
//!
//! Other programs may write to the same Redis, so an entry is checked like a publish over HTTP. An
//! entry that no `sse-server` could have written is *foreign*. Reads skip it and report a gap with
//! the reason `damaged`, because the entry may have replaced an event:
//!
//! ```text
//! stream    5-0 event   6-0 foreign   7-0 foreign   8-0 event
//! reads     page: 5-0 │ gap (damaged, oldest 8-0), page: 8-0
//! ```

use bytes::Bytes;
use bytestring::ByteString;
use redis::Value;
use sse_proto::{Channel, EventId, EventType};

use super::replies::{check_rejection, into_array, malformed, parse_id};
use crate::broker::{BrokerError, GAP, Stored};

/// An entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// An event or a gap record.
    Stored(Stored),
    /// An entry that no `sse-server` wrote.
    Foreign(EventId),
}

impl Entry {
    /// Position of the entry in its channel.
    pub(super) const fn id(&self) -> EventId {
        match self {
            Self::Stored(stored) => stored.id,
            Self::Foreign(id) => *id,
        }
    }

    /// Whether no `sse-server` wrote the entry.
    pub(super) const fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign(_))
    }

    /// Returns the event or gap record; `None` if the entry is foreign.
    pub(super) fn into_stored(self) -> Option<Stored> {
        match self {
            Self::Stored(stored) => Some(stored),
            Self::Foreign(_) => None,
        }
    }
}

/// Parses the reply to `XRANGE` or `XREVRANGE` on the stream of `channel`.
///
/// An entry has the fields `event` and `data`. Other fields are ignored, so that a newer node may
/// add some.
///
/// # Errors
///
/// - What an error reply means.
/// - `Damaged`: the reply is not a list of entries.
pub(super) fn parse_entries(channel: &Channel, reply: Value) -> Result<Vec<Entry>, BrokerError> {
    let no_entries = || malformed("no entries for an XRANGE");
    let entries = into_array(check_rejection(reply)?).ok_or_else(no_entries)?;
    let parse = |entry| parse_entry(channel, entry).ok_or_else(no_entries);
    entries.into_iter().map(parse).collect()
}

/// Parses an entry, which is an array of its id and an array of its fields. Returns `None` if
/// Redis never sends such a value.
fn parse_entry(channel: &Channel, entry: Value) -> Option<Entry> {
    let [id, fields]: [Value; 2] = into_array(entry)?.try_into().ok()?;
    let id = parse_id(id)?;
    let stored = parse_stored(id, into_array(fields)?);
    let valid = stored.filter(|stored| is_valid(channel, stored));
    Some(valid.map_or(Entry::Foreign(id), Entry::Stored))
}

fn parse_stored(id: EventId, fields: Vec<Value>) -> Option<Stored> {
    let (kind, data) = parse_event_fields(fields)?;
    Some(Stored { id, kind, data })
}

fn parse_event_fields(fields: Vec<Value>) -> Option<(ByteString, ByteString)> {
    let (mut kind, mut data) = (None, None);
    let mut fields = fields.into_iter();
    while let (Some(Value::BulkString(name)), Some(Value::BulkString(value))) =
        (fields.next(), fields.next())
    {
        match name.as_slice() {
            b"event" => kind = Some(parse_text(value)?),
            b"data" => data = Some(parse_text(value)?),
            _ => {}
        }
    }
    Some((kind?, data?))
}

/// Keeps the bytes without a copy; returns `None` if they are not UTF-8.
fn parse_text(bytes: Vec<u8>) -> Option<ByteString> {
    ByteString::try_from(Bytes::from(bytes)).ok()
}

/// Whether a node could have written this entry of `channel`: a publish with a valid type, or a
/// record of `record_loss.lua`.
fn is_valid(channel: &Channel, stored: &Stored) -> bool {
    if stored.kind == GAP {
        is_own_record(channel, stored)
    } else {
        EventType::of_stored(stored.kind.clone()).is_ok()
    }
}

fn is_own_record(channel: &Channel, stored: &Stored) -> bool {
    let is_own = |gap: sse_proto::api::Gap| {
        gap.channel == *channel && gap.lost.is_some_and(|lost| lost.before == stored.id)
    };
    stored.gap().is_some_and(is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> Channel {
        Channel::default_channel()
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        let fields = fields.iter().map(|field| bulk(field)).collect();
        Value::Array(vec![bulk(id), Value::Array(fields)])
    }

    fn parse_one(entry: Value) -> Result<Entry, BrokerError> {
        let mut entries = parse_entries(&channel(), Value::Array(vec![entry]))?;
        assert_eq!(entries.len(), 1);
        Ok(entries.remove(0))
    }

    #[test]
    fn an_event_has_a_type_and_data_and_may_have_more_fields() {
        for (fields, kind, data) in [
            (&["event", "click", "data", "a"][..], "click", "a"),
            (&["new", "?", "data", "", "event", "é b"], "é b", ""),
            (
                &["event", "a", "data", "x\ny\r\u{1b}[31m"],
                "a",
                "x\ny\r\u{1b}[31m",
            ),
        ] {
            let expected = Stored {
                id: EventId::new(2, 7),
                kind: kind.into(),
                data: data.into(),
            };
            assert_eq!(
                parse_one(entry("2-7", fields)).unwrap(),
                Entry::Stored(expected)
            );
        }
        assert_eq!(parse_entries(&channel(), Value::Array(vec![])).unwrap(), []);
    }

    #[test]
    fn an_entry_that_no_node_could_write_is_foreign() {
        let too_long = "x".repeat(EventType::BYTES_MAX + 1);
        for fields in [
            &["event", "click"][..],
            &["data", "a", "event"],
            &["foo", "bar"],
            &[],
            &["event", "", "data", "a"],
            &["event", "a\nid: 7-7", "data", "a"],
            &["event", "a\rdata: x", "data", "a"],
            &["event", "\u{1b}[31m", "data", "a"],
            &["event", "open", "data", "a"],
            &["event", "error", "data", "a"],
            &["event", &too_long, "data", "a"],
        ] {
            let parsed = parse_one(entry("1-0", fields)).unwrap();
            assert_eq!(parsed, Entry::Foreign(EventId::new(1, 0)), "{fields:?}");
        }
        let not_utf8 = Value::Array(vec![
            bulk("1-0"),
            Value::Array(vec![
                bulk("event"),
                bulk("click"),
                bulk("data"),
                Value::BulkString(vec![0xff]),
            ]),
        ]);
        assert!(parse_one(not_utf8).unwrap().is_foreign());
    }

    #[test]
    fn a_gap_record_belongs_to_its_channel_and_id() {
        let record = |channel: &str, before: &str| {
            format!(
                r#"{{"channel":"{channel}","after":"1-0","oldest":"5-0","reason":"lost-tail",
                    "lost":{{"after":"1-0","before":"{before}"}}}}"#
            )
        };
        let is_foreign = |data: &str| {
            let parsed = parse_one(entry("5-0", &["event", "gap", "data", data]));
            parsed.unwrap().is_foreign()
        };
        assert!(!is_foreign(&record("sse", "5-0")));
        assert!(is_foreign(&record("other", "5-0")));
        assert!(is_foreign(&record("sse", "18446744073709551615-1")));
        assert!(is_foreign("not json\nevent: y"));
        assert!(is_foreign(
            r#"{"channel":"sse","after":"1-0","oldest":null,"reason":"trimmed"}"#
        ));
    }

    #[test]
    fn a_value_that_redis_never_sends_is_an_error() {
        for value in [
            entry("x", &["event", "click", "data", "a"]),
            Value::Array(vec![bulk("1-0")]),
            Value::Array(vec![bulk("1-0"), Value::Nil]),
            Value::Nil,
        ] {
            assert!(matches!(parse_one(value), Err(BrokerError::Damaged(_))));
        }
    }
}
