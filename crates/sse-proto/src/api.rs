//! JSON bodies of the HTTP API: responses, errors, gaps, history and the lines of a batch.
//!
//! The field names and the words of [`GapReason`] are part of the API. Limits, such as the events
//! per batch, are checked by the server.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{cursor::EventId, event::Channel};

/// Response to `POST /event/{action}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Id of the event, which is durable.
    pub id: EventId,
    /// Id of the end, if the publish has closed the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EventId>,
}

/// Response to `POST /events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPublished {
    /// Id of the first event of the batch.
    pub first_id: EventId,
    /// Id of the last event of the batch.
    ///
    /// Without idempotency keys, the channel has no other events between the first and the last.
    pub last_id: EventId,
    /// Number of events in the batch.
    pub count: usize,
    /// Id of each event in the order of the batch, if at least one line had an idempotency key.
    ///
    /// An event whose key was known has the id of the event that was stored first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<EventId>>,
    /// Id of the end, if the batch has closed the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EventId>,
}

/// Body of every response with a 4xx or 5xx status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// An error for programs (`code`) and for people (`message`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// Stable error code in `snake_case`.
    pub code: String,
    /// Explanation, with the change that would make the request valid.
    pub message: String,
}

/// Data of a `gap` event, which reports that the subscriber may have missed events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The channel that has the gap.
    pub channel: Channel,
    /// The cursor that could not be continued, as the client sent it, cut to 64 characters.
    pub after: String,
    /// The oldest event that can still be read: the stream continues with it. `None` if the log
    /// has no readable event.
    pub oldest: Option<EventId>,
    /// The cause of the gap.
    pub reason: GapReason,
    /// The range of ids that the log lost, if the range is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
}

/// A range of ids that the log assigned and lost. Both ends are exclusive.
///
/// Events inside the range that survived the loss are still delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The newest id before the range that is still in the log; `0-0` if the log has no such id.
    pub after: EventId,
    /// The id of the log's own record of the loss, which is greater than every lost id.
    pub before: EventId,
}

impl Lost {
    /// Returns whether the range contains `id`.
    #[must_use]
    pub fn has(&self, id: EventId) -> bool {
        self.after < id && id < self.before
    }
}

/// The reason why the server cannot prove that a subscriber receives all events after its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The cursor is older than the oldest event that the log retains.
    Trimmed,
    /// The cursor was never in this log. The log was wiped, or the cursor belongs to another
    /// server, or the text is not a cursor.
    Unknown,
    /// The log lost acknowledged events after a failover or a restored snapshot, and the cursor's
    /// event is one of them.
    ///
    /// A foreign cursor inside the lost range is indistinguishable from a lost event.
    LostTail,
    /// The log file is damaged after the cursor, so these events cannot be read.
    Damaged,
    /// The channel was deleted, and the events after the cursor with it.
    Deleted,
}

impl GapReason {
    /// All reasons.
    pub const ALL: [Self; 5] = [
        Self::Trimmed,
        Self::Unknown,
        Self::LostTail,
        Self::Damaged,
        Self::Deleted,
    ];

    /// The reason as it is written on the wire and in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Unknown => "unknown",
            Self::LostTail => "lost-tail",
            Self::Damaged => "damaged",
            Self::Deleted => "deleted",
        }
    }
}

/// Data of an `end` event, which reports that nothing follows in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The channel that has ended.
    pub channel: Channel,
    /// Why it has ended: `[a-z0-9_.-]{1,32}`. The reason `deleted` comes from the server.
    pub reason: String,
    /// Id of the last event before the end; `None` if the channel never had one.
    pub last: Option<EventId>,
}

/// Data of every event of a stream with `?envelope=json`. A `gap` event has a [`Gap`] instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// Id of the event in its channel. The `id:` field of the stream is a cursor instead, which can
    /// name several channels.
    pub id: EventId,
    /// The channel of the event.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    /// Event type.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// Event data, always as a string, exactly as it was published.
    #[serde(borrow)]
    pub data: Cow<'a, str>,
    /// Time of the event by the log's clock, in RFC 3339, UTC, with milliseconds.
    pub time: Cow<'a, str>,
}

/// Response to `GET /events` as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The channel that was read.
    pub channel: Channel,
    /// The gap after the requested cursor, if the events cannot be proved complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// The events, oldest first.
    pub events: Vec<HistoryEvent>,
    /// The cursor of the next page, which is also a cursor to subscribe from.
    pub next: String,
    /// Whether the log has more events after this page.
    pub more: bool,
}

/// Response to `GET /events` for several channels as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultiHistory {
    /// The channels that were read, in the order of their names.
    pub channels: Vec<Channel>,
    /// The gap after the requested position, for each channel that has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// The events of all channels by id, and those with the same id by the name of the channel.
    pub events: Vec<HistoryEvent>,
    /// The cursor of the next page, with a position in each channel. It is also a cursor to
    /// subscribe from.
    pub next: String,
    /// Whether the log of at least one channel has more events after this page.
    pub more: bool,
}

/// One event of the history, and one line of the NDJSON form.
///
/// `POST /events` accepts such a line as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEvent {
    /// Event id. A line that reports a gap has the position after the gap instead.
    pub id: String,
    /// The channel of the event. `None` if the request names only one channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// Event type.
    pub event: String,
    /// Event data, always as a string, exactly as it was published.
    pub data: String,
    /// Time of the event by the log's clock, in RFC 3339, UTC, with milliseconds.
    pub time: String,
}

/// One event of a batch, which is a line of NDJSON or an item of a JSON array.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchLine<'a> {
    /// Event type.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// Event data. The text of a JSON string is published; any other value is published as JSON.
    #[serde(borrow)]
    pub data: &'a RawValue,
    /// Idempotency key. If the publisher repeats the request, the event is stored only once.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Cow<'a, str>>,
    /// Ignored, so that lines of the history can be published as they are.
    #[serde(borrow, default, skip_serializing)]
    pub id: Option<&'a RawValue>,
    /// Ignored, for the same reason as `id`.
    #[serde(borrow, default, skip_serializing)]
    pub time: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_has_the_documented_fields() {
        let gap = Gap {
            channel: Channel::default_channel(),
            after: "1-0".to_owned(),
            oldest: Some(EventId::new(5, 0)),
            reason: GapReason::LostTail,
            lost: None,
        };
        let json = r#"{"channel":"sse","after":"1-0","oldest":"5-0","reason":"lost-tail"}"#;
        assert_eq!(serde_json::to_string(&gap).expect("serialisable"), json);
        assert_eq!(serde_json::from_str::<Gap>(json).expect("reads back"), gap);
        let lost = Lost {
            after: EventId::new(1, 0),
            before: EventId::new(5, 0),
        };
        let gap = Gap {
            lost: Some(lost),
            ..gap
        };
        let json = r#"{"channel":"sse","after":"1-0","oldest":"5-0","reason":"lost-tail","lost":{"after":"1-0","before":"5-0"}}"#;
        assert_eq!(serde_json::to_string(&gap).expect("serialisable"), json);
        assert_eq!(serde_json::from_str::<Gap>(json).expect("reads back"), gap);
        assert!(lost.has(EventId::new(1, 1)) && lost.has(EventId::new(4, 9)));
        assert!(!lost.has(lost.after) && !lost.has(lost.before));
        for reason in GapReason::ALL {
            assert_eq!(
                serde_json::to_value(reason).expect("serialisable"),
                reason.as_str()
            );
        }
    }

    #[test]
    fn an_envelope_has_the_five_documented_fields() {
        let envelope = Envelope {
            id: EventId::new(5, 1),
            channel: "sse".into(),
            event: "a\"b".into(),
            data: "x\r\ny".into(),
            time: "1970-01-01T00:00:00.005Z".into(),
        };
        let json = r#"{"id":"5-1","channel":"sse","event":"a\"b","data":"x\r\ny","time":"1970-01-01T00:00:00.005Z"}"#;
        assert_eq!(
            serde_json::to_string(&envelope).expect("serialisable"),
            json
        );
        assert_eq!(
            serde_json::from_str::<Envelope<'_>>(json).expect("reads back"),
            envelope
        );
    }

    #[test]
    fn a_batch_line_accepts_a_line_of_the_history_and_rejects_unknown_fields() {
        let line = r#"{"id":"5-0","event":"a\"b","data":"x","time":"2026-11-24T00:00:00.000Z"}"#;
        let parsed: BatchLine<'_> = serde_json::from_str(line).expect("a history line");
        assert_eq!(
            (parsed.event.as_ref(), parsed.data.get()),
            ("a\"b", "\"x\"")
        );
        for bad in [
            r#"{"event":"a"}"#,
            r#"{"data":1}"#,
            r#"{"event":"a","data":1,"x":1}"#,
        ] {
            assert!(serde_json::from_str::<BatchLine<'_>>(bad).is_err(), "{bad}");
        }
    }
}
