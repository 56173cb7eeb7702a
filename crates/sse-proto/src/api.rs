//! The JSON that goes over HTTP: answers, errors, gaps, history, and the lines of a batch.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{cursor::EventId, event::Channel};

/// Answer to `POST /event/{action}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The id that the event got. It is durable.
    pub id: EventId,
}

/// Answer to `POST /events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPublished {
    /// Id of the first event of the batch.
    pub first_id: EventId,
    /// Id of the last one. In the channel nothing lies between but the batch, unless its lines had keys.
    pub last_id: EventId,
    /// How many events the batch had.
    pub count: usize,
    /// If lines had keys, the id of each event in the order of the batch: of those whose key was known, the first id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<EventId>>,
}

/// Body of every answer with a 4xx or 5xx status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// A stable word, `snake_case`.
    pub code: String,
    /// What to change.
    pub message: String,
}

/// Data of a `gap` event: events between two places may have been missed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The channel that has the gap.
    pub channel: Channel,
    /// The cursor that could not be continued, as it was sent (cut to 64 characters).
    pub after: String,
    /// The oldest event that is kept, or can be read, with which the stream goes on; none if there is none.
    pub oldest: Option<EventId>,
    /// Why.
    pub reason: GapReason,
    /// The range of ids that the log lost, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
}

/// Ids that a log gave out and lost: those between two others, but for events that are still read from between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The newest id before them that is still in the log; `0-0` if none is.
    pub after: EventId,
    /// The id of the log's own record of the loss, which is above all of them.
    pub before: EventId,
}

impl Lost {
    /// Whether this id is one of the range.
    #[must_use]
    pub fn has(&self, id: EventId) -> bool {
        self.after < id && id < self.before
    }
}

/// Why what follows a cursor could not be proved complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The cursor is older than the history that is kept.
    Trimmed,
    /// The cursor was never in this log: it was wiped, or the cursor is another server's, or no cursor at all.
    Unknown,
    /// The log lost acknowledged events, the cursor's among them (a fail-over, an older snapshot). A stranger's cursor that
    /// lies where such an event would have been cannot be told from it.
    LostTail,
    /// What follows the cursor cannot be read: the log's file is damaged there.
    Damaged,
}

impl GapReason {
    /// The word on the wire, also a label of the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Unknown => "unknown",
            Self::LostTail => "lost-tail",
            Self::Damaged => "damaged",
        }
    }
}

/// Data of every event of a stream with `?envelope=json`, but of a gap, which keeps its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// The event's id in its channel; the `id:` of the stream is the cursor, and may be of several channels.
    pub id: EventId,
    /// The channel that it was published in.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    /// Its type.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// Its data, always as a string, exactly as it was published.
    #[serde(borrow)]
    pub data: Cow<'a, str>,
    /// When, by the log's clock: RFC 3339, UTC, milliseconds.
    pub time: Cow<'a, str>,
}

/// Answer to `GET /events` as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The channel that was read.
    pub channel: Channel,
    /// Said when what follows the given cursor cannot be proved complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// Oldest first.
    pub events: Vec<HistoryEvent>,
    /// The cursor to read on from, and to subscribe from.
    pub next: String,
    /// Whether more events follow already.
    pub more: bool,
}

/// One event of the history; also a line of its NDJSON form, which can be posted back to `POST /events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEvent {
    /// The event's id; after a gap, the position from which history goes on.
    pub id: String,
    /// The event's type.
    pub event: String,
    /// The event's data, always as a string, exactly as it was published.
    pub data: String,
    /// When, by the log's clock: RFC 3339, UTC, milliseconds.
    pub time: String,
}

/// One event of a batch: a line of NDJSON or an item of a JSON array.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchLine<'a> {
    /// The event's type.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// The event's data: a string is sent as its text, any other value as its JSON.
    #[serde(borrow)]
    pub data: &'a RawValue,
    /// With it the event can be sent again, and is stored once.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Cow<'a, str>>,
    /// Ignored: what history gives can be posted back.
    #[serde(borrow, default, skip_serializing)]
    pub id: Option<&'a RawValue>,
    /// Ignored, likewise.
    #[serde(borrow, default, skip_serializing)]
    pub time: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_has_the_documented_keys() {
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
        for reason in [
            GapReason::Trimmed,
            GapReason::Unknown,
            GapReason::LostTail,
            GapReason::Damaged,
        ] {
            assert_eq!(
                serde_json::to_value(reason).expect("serialisable"),
                reason.as_str()
            );
        }
    }

    #[test]
    fn an_envelope_has_the_five_documented_keys() {
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
    fn a_batch_line_takes_what_history_gives_and_refuses_unknown_keys() {
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
