//! Pure parsers of the replies to stream commands and `TIME`.
//!
//! Redis belongs to the operator and other programs may write to it, so a reply can have any shape.
//! A shape that this server never writes is an error, never a panic. Commands run in pipelines that
//! ignore errors, so an error reply arrives here as a value. Script replies are parsed beside the
//! arguments of their scripts, in `idempotency` and `verification`.

use std::collections::HashMap;

use bytes::Bytes;
use bytestring::ByteString;
use redis::{ServerError, Value};
use sse_proto::{EventId, api::Lost};

use super::errors::broker_error;
use crate::broker::{
    BrokerError, Stored,
    continuity::{Extent, Trimmed},
};

/// The extent of a channel without a stream: the channel never had an event.
const NEVER_USED: Extent = Extent {
    oldest: None,
    last: EventId::ZERO,
    trimmed: Trimmed::NothingSince(EventId::ZERO),
};

/// The error for a reply that no command of this server should get.
pub(super) fn malformed(what: &str) -> BrokerError {
    BrokerError::Damaged(format!("Redis sent {what}"))
}

/// Splits the replies to a pipeline of `N` commands.
///
/// # Errors
///
/// `Damaged`: there are more or fewer replies.
pub(super) fn split_replies<const N: usize>(
    replies: Vec<Value>,
) -> Result<[Value; N], BrokerError> {
    replies
        .try_into()
        .map_err(|_| malformed("the wrong number of replies"))
}

/// Parses the reply to `XADD`: the id of the new entry.
///
/// # Errors
///
/// - What an error reply means; nothing was stored.
/// - `OutcomeUnknown`: the reply is not an id.
pub(super) fn parse_added_id(reply: Value) -> Result<EventId, BrokerError> {
    if let Value::ServerError(error) = reply {
        return Err(broker_error(&error.into()));
    }
    let unknown =
        || BrokerError::OutcomeUnknown("Redis replied to an XADD without an id".to_owned());
    parse_id(reply).ok_or_else(unknown)
}

/// Parses the reply to `TIME`: milliseconds since the Unix epoch.
pub(super) fn parse_time_ms(reply: Value) -> Result<u64, BrokerError> {
    if let Value::ServerError(error) = reply {
        return Err(broker_error(&error.into()));
    }
    let (seconds, micros): (u64, u64) =
        redis::from_redis_value(reply).map_err(|_| malformed("no time for a TIME"))?;
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}

/// Parses the reply to `XRANGE` or `XREVRANGE` on the stream of a channel.
///
/// An entry has the fields `event` and `data`. Other fields are ignored, so that a newer node may
/// add some.
pub(super) fn parse_entries(reply: Value) -> Result<Vec<Stored>, BrokerError> {
    match reply {
        Value::Array(entries) => entries
            .into_iter()
            .map(|entry| {
                parse_entry(entry).ok_or_else(|| malformed("an entry that no sse-server wrote"))
            })
            .collect(),
        Value::ServerError(error) => Err(broker_error(&error.into())),
        _ => Err(malformed("no entries for an XRANGE")),
    }
}

fn parse_entry(entry: Value) -> Option<Stored> {
    let Value::Array(items) = entry else {
        return None;
    };
    let [id, Value::Array(fields)] = <[Value; 2]>::try_from(items).ok()? else {
        return None;
    };
    let (kind, data) = parse_event_fields(fields)?;
    Some(Stored {
        id: parse_id(id)?,
        kind,
        data,
    })
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

/// Parses the reply to `XRANGE` on the index of gap records: the ranges of lost ids.
///
/// The index only helps to find records, so malformed entries are skipped.
pub(super) fn parse_gap_index(reply: Value) -> Vec<Lost> {
    let entries: Vec<(String, HashMap<String, String>)> =
        redis::from_redis_value(reply).unwrap_or_default();
    let parse_lost = |(id, fields): &(String, HashMap<String, String>)| {
        Some(Lost {
            after: fields.get("after")?.parse().ok()?,
            before: id.parse().ok()?,
        })
    };
    entries.iter().filter_map(parse_lost).collect()
}

/// Parses the reply to `XINFO STREAM`. A channel without a stream never had an event.
///
/// Redis does not record which entries it trimmed. If it counts as many entries as were ever added,
/// nothing was trimmed; it keeps that count from version 7.0 on.
pub(super) fn parse_extent(reply: Value) -> Result<Extent, BrokerError> {
    let fields = match reply {
        Value::ServerError(error) if is_missing_key(&error) => return Ok(NEVER_USED),
        Value::ServerError(error) => return Err(broker_error(&error.into())),
        Value::Array(fields) => fields,
        // RESP3
        Value::Map(pairs) => pairs
            .into_iter()
            .flat_map(|(name, value)| [name, value])
            .collect(),
        _ => return Err(malformed("no stream for an XINFO STREAM")),
    };
    parse_stream_info(fields)
}

fn parse_stream_info(fields: Vec<Value>) -> Result<Extent, BrokerError> {
    let mut extent = Extent {
        trimmed: Trimmed::Somewhere,
        ..NEVER_USED
    };
    let (mut length, mut added) = (None, None);
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match (text(name).as_deref(), value) {
            (Some("length"), Value::Int(number)) => length = Some(number),
            (Some("entries-added"), Value::Int(number)) => added = Some(number),
            (Some("last-generated-id"), id) => {
                extent.last = parse_id(id).ok_or_else(|| malformed("no last id of a stream"))?;
            }
            (Some("first-entry"), Value::Array(entry)) => {
                extent.oldest = entry.into_iter().next().and_then(parse_id);
            }
            _ => {}
        }
    }
    if added.is_some() && added == length {
        extent.trimmed = NEVER_USED.trimmed;
    }
    Ok(extent)
}

fn is_missing_key(error: &ServerError) -> bool {
    error
        .details()
        .is_some_and(|details| details.contains("no such key"))
}

fn parse_id(value: Value) -> Option<EventId> {
    text(value)?.parse().ok()
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
