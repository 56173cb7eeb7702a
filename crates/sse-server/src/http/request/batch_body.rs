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
//! ```

use std::{borrow::Cow, fmt};

use bytestring::ByteString;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use sse_proto::{Event, api::BatchLine, event::InvalidName, json};

use super::idempotency_key;
use crate::{
    broker::idempotency::Fingerprint,
    http::{
        error::{ApiError, shortened},
        state::RequestLimits,
    },
};

/// An event of a batch, as the client sent it.
pub(crate) struct BatchEvent {
    pub(crate) place: BatchPlace,
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
pub(crate) fn parse_lines(
    text: &ByteString,
    limits: &RequestLimits,
) -> Result<Vec<BatchEvent>, ApiError> {
    let mut events = Vec::new();
    for (json, number) in text.split('\n').zip(1..) {
        if !json.trim().is_empty() {
            check_count(events.len(), limits)?;
            events.push(parse_event(text, json, BatchPlace::Line(number), limits)?);
        }
    }
    if events.is_empty() {
        Err(ApiError::EmptyBatch)
    } else {
        Ok(events)
    }
}

/// Parses a JSON array: one event per item.
pub(crate) fn parse_array(
    text: &ByteString,
    limits: &RequestLimits,
) -> Result<Vec<BatchEvent>, ApiError> {
    let items = split_array(text, limits)?;
    if items.is_empty() {
        return Err(ApiError::EmptyBatch);
    }
    items
        .into_iter()
        .zip(1..)
        .map(|(item, number)| parse_event(text, item.get(), BatchPlace::Item(number), limits))
        .collect()
}

/// Splits an array into the JSON of its items, without a copy.
fn split_array<'a>(text: &'a str, limits: &RequestLimits) -> Result<Vec<&'a RawValue>, ApiError> {
    let mut splitter = ArraySplitter {
        items: Vec::new(),
        too_many: None,
        limits,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let result = (&mut splitter)
        .deserialize(&mut json)
        .and_then(|()| json.end());
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
            if let Err(too_many) = check_count(self.items.len(), self.limits) {
                self.too_many = Some(too_many);
                return Err(A::Error::custom("too many events"));
            }
            self.items.push(item);
        }
        Ok(())
    }
}

/// Checks that a batch of `count` events may have one more.
fn check_count(count: usize, limits: &RequestLimits) -> Result<(), ApiError> {
    if count < limits.batch_events_max {
        return Ok(());
    }
    Err(ApiError::TooLarge {
        what: "the batch".to_owned(),
        max: limits.batch_events_max,
        unit: "events",
        flag: "--batch-events-max",
    })
}

/// Parses one event, which shares the memory of `text` where possible.
fn parse_event(
    text: &ByteString,
    json: &str,
    place: BatchPlace,
    limits: &RequestLimits,
) -> Result<BatchEvent, ApiError> {
    let invalid = |why: String| ApiError::InvalidBatch {
        place: place.to_string(),
        why,
    };
    if !json.trim_start().starts_with('{') {
        return Err(invalid(
            r#"an event is an object like {"event":"click","data":"x"}"#.to_owned(),
        ));
    }
    let line: BatchLine<'_> =
        serde_json::from_str(json).map_err(|error| invalid(explain(&error)))?;
    let kind = share(text, line.event)
        .try_into()
        .map_err(|why: InvalidName| invalid(why.to_string()))?;
    let data = data_text(text, line.data)
        .map_err(|error| invalid(format!("data: {}", explain(&error))))?;
    check_data(&data, place, limits)?;
    let key = line
        .key
        .map(|key| idempotency_key::parse(key.as_bytes()))
        .transpose()
        .map_err(|why| invalid(format!("key: {why}")))?;
    Ok(BatchEvent {
        place,
        event: Event { kind, data },
        key,
    })
}

fn check_data(data: &str, place: BatchPlace, limits: &RequestLimits) -> Result<(), ApiError> {
    if data.len() <= limits.event_bytes_max {
        return Ok(());
    }
    Err(ApiError::TooLarge {
        what: format!("the data of {place}"),
        max: limits.event_bytes_max,
        unit: "bytes",
        flag: "--event-bytes-max",
    })
}

/// Returns serde's message, shortened, and without its line number, because serde saw only one
/// line.
fn explain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let cause = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(cause, _)| cause);
    format!("{} (column {})", shortened(cause), error.column())
}

/// Returns the data of an event: the text of a string, or the compact JSON of any other value.
fn data_text(text: &ByteString, value: &RawValue) -> Result<ByteString, serde_json::Error> {
    let json = value.get();
    if json.starts_with('"') {
        return Ok(share(
            text,
            serde_json::from_str::<BorrowedText<'_>>(json)?.0,
        ));
    }
    Ok(json::without_white_space(&text.slice_ref(json)))
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
