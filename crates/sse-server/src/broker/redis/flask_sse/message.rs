//! The messages of Flask-SSE: what it publishes in Redis, and what it can read.
//!
//! Flask-SSE publishes a JSON object with the key `data` and, if they are set, `type`, `id` and
//! `retry`. Any program can publish in Redis, so a message is checked like a publish over HTTP. A
//! message with another key is rejected, because such a message ends every stream of Flask-SSE.

use std::{borrow::Cow, fmt};

use bytestring::ByteString;
use serde::{
    Deserialize, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use sse_proto::{Event, EventId, EventType, event::InvalidName, json_depth::is_too_deep};

/// The type of an event without a type.
const DEFAULT_TYPE: &str = "message";

/// A message that can be appended to the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FlaskMessage {
    pub(super) event: Event,
    /// The `id` of the message, if it has the form of an event id.
    pub(super) id: Option<EventId>,
}

/// Why a message is not appended to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    TooLarge,
    NotUtf8,
    NotJson,
    NotAnObject,
    UnknownKey,
    NoData,
    InvalidType,
    ReservedType,
    TooDeep,
}

impl Rejection {
    /// Value of the metric's label.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::NotUtf8 => "not_utf8",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::UnknownKey => "unknown_key",
            Self::NoData => "no_data",
            Self::InvalidType => "invalid_type",
            Self::ReservedType => "reserved_type",
            Self::TooDeep => "too_deep",
        }
    }
}

impl From<InvalidName> for Rejection {
    fn from(error: InvalidName) -> Self {
        match error {
            InvalidName::ReservedType => Self::ReservedType,
            InvalidName::Channel | InvalidName::EventType => Self::InvalidType,
        }
    }
}

/// Parses what was published in a channel of Flask-SSE.
///
/// The event's data is the text of `data` if that is a string, and otherwise its JSON text, byte
/// for byte. `retry`, and an `id` of another form, are ignored.
///
/// # Errors
///
/// The message cannot be an event, or its data has more than `data_max` bytes.
pub(super) fn parse_message(payload: &[u8], data_max: usize) -> Result<FlaskMessage, Rejection> {
    let text = std::str::from_utf8(payload).map_err(|_| Rejection::NotUtf8)?;
    let value: &RawValue = serde_json::from_str(text).map_err(|_| Rejection::NotJson)?;
    if !value.get().starts_with('{') {
        return Err(Rejection::NotAnObject);
    }
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|_| Rejection::UnknownKey)?;
    let data = parse_data(fields.data.ok_or(Rejection::NoData)?)?;
    if data.len() > data_max {
        return Err(Rejection::TooLarge);
    }
    Ok(FlaskMessage {
        event: Event {
            kind: parse_type(fields.kind)?,
            data,
        },
        id: fields.id.and_then(parse_id),
    })
}

fn parse_data(value: &RawValue) -> Result<ByteString, Rejection> {
    let json = value.get();
    if json.starts_with('"') {
        // Half of a surrogate pair is valid JSON, but no text.
        let text: String = serde_json::from_str(json).map_err(|_| Rejection::NotJson)?;
        return Ok(text.into());
    }
    if is_too_deep(json) {
        return Err(Rejection::TooDeep);
    }
    Ok(json.into())
}

/// Flask-SSE sends no type if the value counts as false in Python.
fn parse_type(value: Option<&RawValue>) -> Result<EventType, Rejection> {
    let json = value.map_or("null", RawValue::get);
    let text: Option<String> = serde_json::from_str(json).map_err(|_| Rejection::InvalidType)?;
    let text = text.filter(|text| !text.is_empty());
    let kind: EventType = text.as_deref().unwrap_or(DEFAULT_TYPE).parse()?;
    Ok(kind)
}

fn parse_id(value: &RawValue) -> Option<EventId> {
    let text: Cow<'_, str> = serde_json::from_str(value.get()).ok()?;
    text.parse().ok()
}

/// The keys of a message. As in Python, the last one of equal keys counts.
#[derive(Default)]
struct Fields<'a> {
    data: Option<&'a RawValue>,
    kind: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the keys of Flask-SSE")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let value = Some(map.next_value::<&RawValue>()?);
            match key.as_ref() {
                "data" => fields.data = value,
                "type" => fields.kind = value,
                "id" => fields.id = value,
                "retry" => {}
                _ => return Err(A::Error::custom("an unknown key")),
            }
        }
        Ok(fields)
    }
}

/// What is published for the readers of Flask-SSE, which accept no other keys.
#[derive(Serialize)]
struct OutboundMessage<'a> {
    /// A string, so that Flask-SSE sends exactly this text.
    data: &'a str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'a str>,
}

/// Encodes an event of the log for Flask-SSE.
pub(super) fn encode_message(id: EventId, kind: &str, data: &str) -> String {
    let message = OutboundMessage {
        data,
        id: id.to_string(),
        r#type: (kind != DEFAULT_TYPE).then_some(kind),
    };
    // Text and numbers can always be encoded.
    serde_json::to_string(&message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA_MAX: usize = 1000;

    fn parsed(text: &str) -> Result<(String, String, Option<String>), Rejection> {
        let message = parse_message(text.as_bytes(), DATA_MAX)?;
        let Event { kind, data } = message.event;
        Ok((
            kind.as_str().to_owned(),
            data.to_string(),
            message.id.map(|id| id.to_string()),
        ))
    }

    #[test]
    fn data_is_the_text_of_a_string_and_the_json_of_any_other_value() {
        for (message, kind, data) in [
            (
                r#"{"data": {"message": "Hello!"}, "type": "greeting"}"#,
                "greeting",
                r#"{"message": "Hello!"}"#,
            ),
            (
                r#"{"data": "\"user: \u00e9\"", "type": "click"}"#,
                "click",
                "\"user: é\"",
            ),
            (
                r#"{"data": {"a": "\u00e9", "b": 1.0}}"#,
                "message",
                r#"{"a": "\u00e9", "b": 1.0}"#,
            ),
            (r#"{"data": null, "type": null}"#, "message", "null"),
            (r#"{"data": "", "type": ""}"#, "message", ""),
            (
                r#"{"data": 1e400, "id": 7, "retry": 3000}"#,
                "message",
                "1e400",
            ),
            (r#"{"data": 1, "data": 2, "t\u0079pe": "a"}"#, "a", "2"),
        ] {
            let expected = (kind.to_owned(), data.to_owned(), None);
            assert_eq!(parsed(message), Ok(expected), "{message}");
        }
    }

    #[test]
    fn only_an_id_of_our_form_is_kept() {
        for (id, expected) in [
            (r#""1700-5""#, Some("1700-5")),
            (r#""7""#, None),
            ("7", None),
            ("null", None),
            (r#""01700-5""#, None),
            (r#"["1700-5"]"#, None),
        ] {
            let (_, _, found) = parsed(&format!(r#"{{"data": 1, "id": {id}}}"#)).unwrap();
            assert_eq!(found.as_deref(), expected, "{id}");
        }
    }

    #[test]
    fn a_hostile_message_is_rejected_with_its_reason() {
        let long_type = format!(r#"{{"data": 1, "type": "{}"}}"#, "x".repeat(129));
        let long_data = format!(r#"{{"data": "{}"}}"#, "x".repeat(DATA_MAX + 1));
        let deep = format!(r#"{{"data": {}1{}}}"#, "[".repeat(200), "]".repeat(200));
        for (message, rejection) in [
            ("hello", Rejection::NotJson),
            ("", Rejection::NotJson),
            (r#"{"data": NaN}"#, Rejection::NotJson),
            (r#"{"data": 1} {"data": 2}"#, Rejection::NotJson),
            (r#"{"data": "\ud800"}"#, Rejection::NotJson),
            ("[1]", Rejection::NotAnObject),
            (r#""data""#, Rejection::NotAnObject),
            ("null", Rejection::NotAnObject),
            (r#"{"data": 1, "event": "x"}"#, Rejection::UnknownKey),
            ("{}", Rejection::NoData),
            (r#"{"type": "x"}"#, Rejection::NoData),
            (
                r#"{"data": 1, "type": "x\nid: evil"}"#,
                Rejection::InvalidType,
            ),
            (r#"{"data": 1, "type": "x\u0085y"}"#, Rejection::InvalidType),
            (r#"{"data": 1, "type": 5}"#, Rejection::InvalidType),
            (r#"{"data": 1, "type": "gap"}"#, Rejection::ReservedType),
            (r#"{"data": 1, "type": "end"}"#, Rejection::ReservedType),
            (&long_type, Rejection::InvalidType),
            (&long_data, Rejection::TooLarge),
            (&deep, Rejection::TooDeep),
        ] {
            assert_eq!(parsed(message), Err(rejection), "{message}");
        }
        let not_utf8 = parse_message(b"{\"data\": \"\xff\"}", DATA_MAX);
        assert_eq!(not_utf8, Err(Rejection::NotUtf8));
    }

    #[test]
    fn an_event_is_sent_with_the_keys_of_flask_sse_and_comes_back_equal() {
        let id = EventId::new(1700, 5);
        assert_eq!(
            encode_message(id, "message", "a"),
            r#"{"data":"a","id":"1700-5"}"#
        );
        for (kind, data) in [
            ("click", r#"{"a": 1.0}"#),
            ("message", ""),
            ("événement", "line 1\nline 2\r\n\u{2028}\u{1b}\"\\"),
        ] {
            let back = parse_message(encode_message(id, kind, data).as_bytes(), DATA_MAX).unwrap();
            assert_eq!(back.id, Some(id));
            assert_eq!((back.event.kind.as_str(), &*back.event.data), (kind, data));
        }
    }
}
