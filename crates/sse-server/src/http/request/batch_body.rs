//! The events of a batch, from NDJSON or from a JSON array.
//!
//! Each event is parsed by itself, so that an error names its line or item, and one wrong event
//! rejects the batch before anything is published. Types and data share the memory of the body:
//! only text with escapes, and JSON with white space, is copied.
//!
//! ```text
//! {"event":"a","data":"x\ny"}           data is the text of the string: x, a line break, y
//! {"event":"a","data":{"b": [1, 2]}}    data is the JSON without white space: {"b":[1,2]}
//! {"event":"a","data":1,"key":"k1"}     the event has an idempotency key of its own
//! {"event":"a","data":1,"channel":"b"}  the event belongs to this channel
//! ```

use std::{borrow::Cow, fmt};

use bytestring::ByteString;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use sse_proto::{
    Channel, Event, EventType,
    event::InvalidName,
    json,
    json_depth::{DEPTH_MAX, is_too_deep},
};

use super::{batch_line::Line, idempotency_key};
use crate::{
    broker::idempotency::Fingerprint,
    http::{
        error::{ApiError, ApiResult, shortened},
        request_limits::RequestLimits,
    },
};

/// An event of a batch, as the client sent it.
pub(crate) struct BatchEvent {
    pub(crate) place: BatchPlace,
    /// The channel that the event names; `None` if it belongs to that of the URL.
    pub(crate) channel: Option<Channel>,
    pub(crate) event: Event,
    pub(crate) key: Option<Fingerprint>,
}

/// Where in the body an event is, counted from one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BatchPlace {
    Line(usize),
    Item(usize),
}

impl fmt::Display for BatchPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Item(number) => write!(f, "item {number}"),
        }
    }
}

/// Parses NDJSON: one event per line. Blank lines are ignored, but counted.
pub(crate) fn parse_lines(text: &ByteString, limits: &RequestLimits) -> ApiResult<Vec<BatchEvent>> {
    let mut events = Vec::new();
    for (json, number) in non_blank_lines(text) {
        limits.batch_events().check(events.len() + 1)?;
        events.push(parse_event(text, json, BatchPlace::Line(number), limits)?);
    }
    check_not_empty(&events)?;
    Ok(events)
}

/// Returns the lines that are not blank, with their numbers.
fn non_blank_lines(text: &str) -> impl Iterator<Item = (&str, usize)> {
    text.split('\n')
        .zip(1..)
        .filter(|(line, _)| !line.trim().is_empty())
}

const fn check_not_empty<T>(events: &[T]) -> ApiResult<()> {
    if events.is_empty() {
        Err(ApiError::EmptyBatch)
    } else {
        Ok(())
    }
}

/// Parses a JSON array: one event per item.
pub(crate) fn parse_array(text: &ByteString, limits: &RequestLimits) -> ApiResult<Vec<BatchEvent>> {
    let items = split_array(text, limits)?;
    check_not_empty(&items)?;
    items
        .into_iter()
        .zip(1..)
        .map(|(item, number)| parse_event(text, item.get(), BatchPlace::Item(number), limits))
        .collect()
}

/// Splits an array into the JSON of its items, without a copy.
fn split_array<'a>(text: &'a str, limits: &RequestLimits) -> ApiResult<Vec<&'a RawValue>> {
    let mut splitter = ArraySplitter {
        items: Vec::new(),
        too_many: None,
        limits,
    };
    let result = splitter.read(text);
    if let Some(too_many) = splitter.too_many {
        return Err(too_many);
    }
    result.map_err(|error| ApiError::NotAnArray(shortened(error)))?;
    Ok(splitter.items)
}

/// Collects the items of an array, and stops at the first item beyond the limit.
struct ArraySplitter<'l, 'de> {
    items: Vec<&'de RawValue>,
    /// The error for an array that is too long, because serde's own error is only a text.
    too_many: Option<ApiError>,
    limits: &'l RequestLimits,
}

impl<'de> ArraySplitter<'_, 'de> {
    fn read(&mut self, text: &'de str) -> serde_json::Result<()> {
        let mut json = serde_json::Deserializer::from_str(text);
        self.deserialize(&mut json)?;
        json.end()
    }

    fn push(&mut self, item: &'de RawValue) -> ApiResult<()> {
        self.limits.batch_events().check(self.items.len() + 1)?;
        self.items.push(item);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut ArraySplitter<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut ArraySplitter<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(item) = array.next_element()? {
            if let Err(too_many) = self.push(item) {
                self.too_many = Some(too_many);
                return Err(A::Error::custom("too many events"));
            }
        }
        Ok(())
    }
}

/// Parses one event, which shares the memory of `text` where possible.
pub(crate) fn parse_event(
    text: &ByteString,
    json: &str,
    place: BatchPlace,
    limits: &RequestLimits,
) -> ApiResult<BatchEvent> {
    let invalid = |why: String| ApiError::InvalidBatch {
        place: place.to_string(),
        why,
    };
    let line = parse_line(json).map_err(invalid)?;
    line.check_ignored_keys().map_err(invalid)?;
    let channel = line.named_channel().map_err(invalid)?;
    let kind = parse_kind(text, line.event).map_err(invalid)?;
    let data = data_text(text, line.data.get()).map_err(|why| invalid(format!("data: {why}")))?;
    limits.check_data(&data, || format!("the data of {place}"))?;
    let key = line.key.as_deref().map(parse_key).transpose();
    Ok(BatchEvent {
        place,
        channel,
        event: Event { kind, data },
        key: key.map_err(invalid)?,
    })
}

fn parse_line(json: &str) -> Result<Line<'_>, String> {
    check_object(json)?;
    serde_json::from_str(json).map_err(|error| explain(&error))
}

/// Rejects what is no object, with a message that is better than that of serde.
fn check_object(json: &str) -> Result<(), String> {
    if json.trim_start().starts_with('{') {
        Ok(())
    } else {
        Err(r#"an event is an object like {"event":"click","data":"x"}"#.to_owned())
    }
}

fn parse_kind(text: &ByteString, name: Cow<'_, str>) -> Result<EventType, String> {
    share(text, name)
        .try_into()
        .map_err(|why: InvalidName| why.to_string())
}

fn parse_key(key: &str) -> Result<Fingerprint, String> {
    idempotency_key::parse(key.as_bytes()).map_err(|why| format!("key: {why}"))
}

/// Returns serde's message, shortened, and without its line number, because serde saw only one
/// line.
fn explain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let cause = shortened(without_position(&message));
    format!("{cause} (column {})", error.column())
}

fn without_position(message: &str) -> &str {
    message
        .rsplit_once(" at line ")
        .map_or(message, |(cause, _)| cause)
}

/// Returns the data of an event: the text of a string, or the compact JSON of any other value.
fn data_text(text: &ByteString, json: &str) -> Result<ByteString, String> {
    if json.starts_with('"') {
        string_text(text, json).map_err(|error| explain(&error))
    } else if is_too_deep(json) {
        Err(format!("nested deeper than {DEPTH_MAX} levels"))
    } else {
        Ok(json::without_white_space(&text.slice_ref(json)))
    }
}

fn string_text(text: &ByteString, json: &str) -> Result<ByteString, serde_json::Error> {
    let BorrowedText(string) = serde_json::from_str(json)?;
    Ok(share(text, string))
}

/// Returns `part` as a slice of `text`. Text that contained escapes has its own memory.
fn share(text: &ByteString, part: Cow<'_, str>) -> ByteString {
    match part {
        Cow::Borrowed(part) => text.slice_ref(part),
        Cow::Owned(part) => part.into(),
    }
}

/// A JSON string; borrowed if it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RequestLimits = RequestLimits {
        event_bytes_max: 20,
        batch_bytes_max: 1000,
        batch_events_max: 3,
        keys_max: 2,
    };

    fn parse_data(text: &str) -> Result<Vec<String>, String> {
        let text = ByteString::from(text);
        let events = if text.starts_with('[') {
            parse_array(&text, &LIMITS)
        } else {
            parse_lines(&text, &LIMITS)
        };
        let data = |event: BatchEvent| event.event.data.to_string();
        events
            .map(|events| events.into_iter().map(data).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn data_is_the_text_of_a_string_or_the_json_of_any_other_value() {
        let text = concat!(
            r#"{"event":"a","data":"x\n\"y\""}"#,
            "\r\n\n",
            r#"{"event":"a","data":{"b": 1.0, "b":[1 , 2]}}"#,
            "\n",
            r#"{"event":"a","data":null,"id":"5-0","time":"now"}"#,
        );
        assert_eq!(
            parse_data(text).unwrap(),
            ["x\n\"y\"", r#"{"b":1.0,"b":[1,2]}"#, "null"]
        );
        assert_eq!(
            parse_data(r#"[ {"event":"a","data":"1"}, {"data":1e999,"event":"b"} ]"#).unwrap(),
            ["1", "1e999"]
        );
    }

    #[test]
    fn an_error_names_the_line_or_item() {
        let good = r#"{"event":"a","data":"x"}"#;
        for bad in [
            r#"{"event":"a"}"#,
            r#"{"event":"gap","data":1}"#,
            r#"{"event":"a/b","data":1}"#,
            r#"{"event":"a","data":1,"x":2}"#,
            r#"{"event":"a","data":"\ud800"}"#,
            r#"["a",1]"#,
            "nonsense",
            r#"{"event":"a","data":1} x"#,
            r#"{"event":"a","data":1,"key":"a b"}"#,
            r#"{"event":"a","data":1,"key":7}"#,
            r#"{"event":"a","data":"123456789012345678901"}"#,
            r#"{"event":"a","data":"1\n2\n3\n"}"#,
        ] {
            assert!(
                parse_data(&format!("{good}\n\n{bad}\n"))
                    .unwrap_err()
                    .contains("line 3"),
                "{bad}"
            );
            if bad != "nonsense" && !bad.ends_with('x') {
                assert!(
                    parse_data(&format!("[{good},{bad}]"))
                        .unwrap_err()
                        .contains("item 2"),
                    "{bad}"
                );
            }
        }
        assert!(
            parse_data(&[good; 4].join("\n"))
                .unwrap_err()
                .contains("more than 3 events")
        );
        assert!(parse_data("\n \n").is_err() && parse_data("[]").is_err());
        assert!(parse_data("[").is_err());
    }
}
