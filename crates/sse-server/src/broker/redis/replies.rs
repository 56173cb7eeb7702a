//! Pure parsers of the replies to stream commands and `TIME`.
//!
//! Redis belongs to the operator and other programs may write to it, so a reply can have any shape.
//! A shape that this server never writes is an error, never a panic. Commands run in pipelines that
//! ignore errors, so an error reply arrives here as a value. The module `entries` parses the
//! entries of streams. The replies of scripts that write are parsed beside the arguments of their
//! scripts, in `idempotency` and `verification`.

use std::collections::HashMap;

use redis::{Cmd, Pipeline, Value};
use sse_proto::{EventId, api::Lost};

use super::{channel_state::parse_state, errors::broker_error};
use crate::broker::{
    BrokerError,
    continuity::{Extent, Trimmed},
};

/// The error for a reply that no command of this server should get.
pub(super) fn malformed(what: &str) -> BrokerError {
    BrokerError::Damaged(format!("Redis sent {what}"))
}

/// A pipeline whose error replies arrive as values.
///
/// The parsers find an error reply. Without the option, the client would also search every value
/// of a good reply for an error.
pub(super) fn value_pipeline(commands: impl IntoIterator<Item = Cmd>) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.ignore_errors();
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}

/// The replies to a pipeline of `N` commands.
pub(super) type Replies<const N: usize> = Result<[Value; N], BrokerError>;

/// Splits the replies to a pipeline of `N` commands.
///
/// # Errors
///
/// `Damaged`: there are more or fewer replies.
pub(super) fn split_replies<const N: usize>(replies: Vec<Value>) -> Replies<N> {
    replies
        .try_into()
        .map_err(|_| malformed("the wrong number of replies"))
}

/// Parses the reply to a command that changes no event.
///
/// # Errors
///
/// `Unavailable` or `Full`: what an error reply means, or the reply has another type.
pub(super) fn parse_reply<T: redis::FromRedisValue>(reply: Value) -> Result<T, BrokerError> {
    redis::from_redis_value(check_rejection(reply)?)
        .map_err(|error| BrokerError::Unavailable(format!("Redis sent an invalid reply: {error}")))
}

/// Converts an error reply into the error that it means.
pub(super) fn check_rejection(reply: Value) -> Result<Value, BrokerError> {
    match reply {
        Value::ServerError(error) => Err(broker_error(&error.into())),
        reply => Ok(reply),
    }
}

/// Parses the reply to `XADD`: the id of the new entry.
///
/// # Errors
///
/// - What an error reply means; nothing was stored.
/// - `OutcomeUnknown`: the reply is not an id.
pub(super) fn parse_added_id(reply: Value) -> Result<EventId, BrokerError> {
    let unknown =
        || BrokerError::OutcomeUnknown("Redis replied to an XADD without an id".to_owned());
    parse_id(check_rejection(reply)?).ok_or_else(unknown)
}

/// Parses the reply to `TIME`: milliseconds since the Unix epoch.
pub(super) fn parse_time_ms(reply: Value) -> Result<u64, BrokerError> {
    let (seconds, micros) = redis::from_redis_value(check_rejection(reply)?)
        .map_err(|_| malformed("no time for a TIME"))?;
    Ok(to_milliseconds(seconds, micros))
}

const fn to_milliseconds(seconds: u64, micros: u64) -> u64 {
    seconds.saturating_mul(1000).saturating_add(micros / 1000)
}

/// An entry of the index of gap records: its id and its fields.
type GapEntry = (String, HashMap<String, String>);

/// Parses the reply to `XRANGE` on the index of gap records: the ranges of lost ids.
///
/// The index only helps to find records, so malformed entries are skipped.
pub(super) fn parse_gap_index(reply: Value) -> Vec<Lost> {
    let entries: Vec<GapEntry> = redis::from_redis_value(reply).unwrap_or_default();
    entries.iter().filter_map(parse_lost).collect()
}

fn parse_lost((id, fields): &GapEntry) -> Option<Lost> {
    Some(Lost {
        after: fields.get("after")?.parse().ok()?,
        before: id.parse().ok()?,
    })
}

/// Parses the reply of `stream_extent.lua`: the last id ever assigned, before the end of a closed
/// channel.
pub(super) fn parse_last_id(reply: Value) -> Result<EventId, BrokerError> {
    Ok(parse_state(reply)?.extent.last)
}

/// Where a stream was last trimmed by age, as `trim.lua` records it.
///
/// The two events followed each other, so nothing is missing between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrimMark {
    newest_trimmed: EventId,
    oldest_kept: EventId,
}

impl TrimMark {
    /// Adds to `extent` what the mark proves.
    ///
    /// The mark proves nothing if the stream was trimmed further, by count for example.
    pub(super) fn apply(self, extent: &mut Extent) {
        if extent.oldest == Some(self.oldest_kept) {
            extent.trimmed = Trimmed::Through(self.newest_trimmed);
        }
    }
}

/// Parses the reply to `GET` for a trim mark.
///
/// The mark only helps to avoid a false gap, so a malformed one is ignored.
pub(super) fn parse_trim_mark(reply: Value) -> Option<TrimMark> {
    let text = text(reply)?;
    let (newest_trimmed, oldest_kept) = text.split_once(' ')?;
    Some(TrimMark {
        newest_trimmed: newest_trimmed.parse().ok()?,
        oldest_kept: oldest_kept.parse().ok()?,
    })
}

pub(super) fn parse_id(value: Value) -> Option<EventId> {
    text(value)?.parse().ok()
}

pub(super) fn into_array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
