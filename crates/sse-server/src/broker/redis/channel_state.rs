//! The state of a channel, as `stream_extent.lua` describes it.

use redis::{ServerError, Value};
use sse_proto::EventId;

use super::{
    replies::{check_rejection, into_array, malformed, parse_id, text},
    settings_text::parse_settings,
};
use crate::broker::{
    BrokerError,
    continuity::{Extent, Trimmed},
    lifecycle::{ChannelSettings, CloseReason, EndMark, Tombstone},
};

/// The extent of a channel without a stream: the channel never had an event.
const NEVER_USED: Extent = Extent {
    oldest: None,
    last: EventId::ZERO,
    trimmed: Trimmed::NothingSince(EventId::ZERO),
};

/// What Redis holds of a channel, without its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChannelState {
    /// Its `last` is the last id before the end.
    pub(super) extent: Extent,
    /// Whether there is a stream.
    pub(super) exists: bool,
    pub(super) events: u64,
    pub(super) end: Option<EndMark>,
    pub(super) tombstone: Option<Tombstone>,
    pub(super) settings: ChannelSettings,
    /// When the channel was created or kept alive last; zero if that is not stored.
    pub(super) alive_ms: u64,
}

impl ChannelState {
    /// A channel of which Redis holds nothing.
    const NOTHING: Self = Self {
        extent: NEVER_USED,
        exists: false,
        events: 0,
        end: None,
        tombstone: None,
        settings: ChannelSettings::NONE,
        alive_ms: 0,
    };

    /// Returns the id of the newest record, which may be the end.
    pub(super) fn newest(&self) -> EventId {
        self.end.as_ref().map_or(self.extent.last, |end| end.id)
    }

    /// Returns the time from which `ttl` or `ttl_closed` counts.
    pub(super) fn written_ms(&self) -> u64 {
        match &self.end {
            Some(end) => end.id.ms,
            None => self.extent.last.ms.max(self.alive_ms),
        }
    }
}

/// Parses the reply of `stream_extent.lua`.
///
/// Redis does not record which entries it trimmed. If it counts as many entries as were ever added,
/// nothing was trimmed; it keeps that count from version 7.0 on.
pub(super) fn parse_state(reply: Value) -> Result<ChannelState, BrokerError> {
    match reply {
        Value::ServerError(error) if is_missing_key(&error) => Ok(ChannelState::NOTHING),
        reply => {
            parse_values(check_rejection(reply)?).ok_or_else(|| malformed("no state of a channel"))
        }
    }
}

/// The values of the reply, in its order.
type Values = [Value; 11];

fn parse_values(reply: Value) -> Option<ChannelState> {
    let values: Values = into_array(reply)?.try_into().ok()?;
    let [
        last,
        oldest,
        length,
        added,
        tombstone,
        _,
        start,
        settings,
        alive,
        end,
        emptied,
    ] = values;
    let tombstone = optional(tombstone, parse_tombstone)?;
    let exists = last != Value::Nil;
    if !exists {
        let tombstone = tombstone?;
        return Some(ChannelState {
            extent: Extent {
                last: tombstone.at,
                trimmed: Trimmed::NothingSince(tombstone.at),
                ..NEVER_USED
            },
            tombstone: Some(tombstone),
            ..ChannelState::NOTHING
        });
    }
    let end = optional(end, parse_end)?;
    let start = optional(start, |text| text.parse().ok())?.unwrap_or(EventId::ZERO);
    let events = number(&length)?;
    let missing = number(&added).and_then(|added| added.checked_sub(events));
    let emptied = optional(emptied, parse_emptied)?;
    let last = parse_id(last)?;
    Some(ChannelState {
        extent: Extent {
            oldest: parse_id(oldest),
            last: end.as_ref().map_or(last, |end| end.after),
            trimmed: trimmed(start, missing, emptied),
        },
        exists,
        events,
        end,
        tombstone,
        settings: optional(settings, parse_settings)?.unwrap_or_default(),
        alive_ms: optional(alive, |text| text.parse().ok())?.unwrap_or(0),
    })
}

/// What is known of trimmed events if `missing` of all entries are not in the stream.
fn trimmed(start: EventId, missing: Option<u64>, emptied: Option<(EventId, u64)>) -> Trimmed {
    match (missing, emptied) {
        (Some(0), _) => Trimmed::NothingSince(start),
        (Some(missing), Some((last, count))) if missing == count => Trimmed::Through(last),
        _ => Trimmed::Somewhere,
    }
}

/// Parses a text; the outer `None` means that the text is not valid.
#[expect(
    clippy::option_option,
    reason = "the value is optional, and its parse can fail"
)]
fn optional<T>(value: Value, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    match value {
        Value::Nil => Some(None),
        value => parse(&text(value)?).map(Some),
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn parse_emptied(text: &str) -> Option<(EventId, u64)> {
    let (last, count) = text.split_once(' ')?;
    Some((last.parse().ok()?, count.parse().ok()?))
}

/// Parses the field `end` of the hash.
pub(super) fn parse_end(text: &str) -> Option<EndMark> {
    let words: Vec<&str> = text.split(' ').collect();
    let [id, after, has_events, reason] = words.as_slice() else {
        return None;
    };
    Some(EndMark {
        id: id.parse().ok()?,
        after: after.parse().ok()?,
        has_events: *has_events == "1",
        reason: CloseReason::of_stored(reason).ok()?,
    })
}

/// Parses the member of the sorted set of tombstones.
pub(super) fn parse_tombstone(text: &str) -> Option<Tombstone> {
    let words: Vec<&str> = text.split(' ').collect();
    let [last, end, at, has_events, _] = words.as_slice() else {
        return None;
    };
    Some(Tombstone {
        last: last.parse().ok()?,
        end: end.parse().ok()?,
        at: at.parse().ok()?,
        has_events: *has_events == "1",
    })
}

fn is_missing_key(error: &ServerError) -> bool {
    error
        .details()
        .is_some_and(|details| details.contains("no such key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: &str = "18446744073709551615-18446744073709551615";

    fn bulk(text: &str) -> Value {
        if text == "-" {
            return Value::Nil;
        }
        Value::BulkString(text.as_bytes().to_vec())
    }

    /// `texts`: last, oldest, tombstone, start, settings, end, emptied.
    fn state(texts: [&str; 7], counts: [i64; 2]) -> Result<ChannelState, BrokerError> {
        let [last, oldest, tombstone, start, settings, end, emptied] = texts.map(bulk);
        let [length, added] = counts.map(Value::Int);
        let values = vec![
            last,
            oldest,
            length,
            added,
            tombstone,
            bulk("7"),
            start,
            settings,
            bulk("9"),
            end,
            emptied,
        ];
        parse_state(Value::Array(values))
    }

    #[test]
    fn a_closed_channel_ends_with_its_last_event() {
        let open = state(["5-0", "4-0", "-", "-", "-", "-", "-"], [2, 2]).unwrap();
        assert_eq!((open.newest(), open.events), (EventId::new(5, 0), 2));
        assert_eq!(open.extent.trimmed, Trimmed::NothingSince(EventId::ZERO));
        let end = "6-0 5-0 1 completed";
        let closed = state([MAX, "4-0", "-", "-", "- - - - 3", end, "-"], [2, 3]).unwrap();
        assert_eq!(closed.extent.last, EventId::new(5, 0));
        assert_eq!(
            (closed.newest(), closed.written_ms()),
            (EventId::new(6, 0), 6)
        );
        assert_eq!(closed.settings.ttl_closed_ms, Some(3));
        assert_eq!(closed.extent.trimmed, Trimmed::Somewhere);
    }

    #[test]
    fn a_deleted_channel_begins_after_its_deletion() {
        let tombstone = "5-0 6-0 7-0 1 42";
        let deleted = state(["-", "-", tombstone, "-", "-", "-", "-"], [0, 0]).unwrap();
        assert!(!deleted.exists);
        assert_eq!(deleted.newest(), EventId::new(7, 0));
        let next = state(["7-0", "-", tombstone, "7-0", "-", "-", "-"], [0, 0]).unwrap();
        assert_eq!(
            next.extent.trimmed,
            Trimmed::NothingSince(EventId::new(7, 0))
        );
        assert_eq!(next.tombstone, deleted.tombstone);
    }

    #[test]
    fn the_first_event_after_a_channel_was_emptied_follows_the_last_one_before() {
        let emptied = |counts| {
            let state = state(["9-0", "9-0", "-", "-", "-", "-", "5-0 3"], counts);
            state.unwrap().extent.trimmed
        };
        assert_eq!(emptied([1, 4]), Trimmed::Through(EventId::new(5, 0)));
        assert_eq!(emptied([1, 5]), Trimmed::Somewhere);
    }

    #[test]
    fn what_no_node_wrote_is_an_error() {
        for texts in [
            ["x", "-", "-", "-", "-", "-", "-"],
            ["5-0", "-", "5-0", "-", "-", "-", "-"],
            ["5-0", "-", "-", "-", "1 2", "-", "-"],
            ["5-0", "-", "-", "-", "-", "6-0 5-0 1", "-"],
        ] {
            let parsed = state(texts, [1, 1]);
            assert!(matches!(parsed, Err(BrokerError::Damaged(_))), "{texts:?}");
        }
    }
}
