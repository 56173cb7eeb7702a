//! A line of a recording: an event, a comment, or a mistake.

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use sse_proto::{EventType, event::InvalidName, json};

use crate::payload::{
    event::{DataFormat, NextEvent},
    event_type::{AnyEventType, InvalidEventType},
};

/// Event types that a replay sends. Types that sse-server reserves are never sent, because no
/// subscriber could interpret them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowedTypes {
    /// The types that sse-server accepts.
    SseServer,
    /// The types that a request can carry, to any server.
    AnyServer,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct RecordedEvent {
    pub(super) event: NextEvent,
    pub(super) data: String,
}

pub(super) enum ParsedLine {
    Event(RecordedEvent),
    /// An event of a reserved type.
    Reserved,
}

#[derive(Deserialize)]
struct RecordedLine<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// A comment of a stream, as `listener --show-comments --format json` prints it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Comment {
    #[serde(rename = "comment")]
    _text: IgnoredAny,
}

/// Parses a line. Returns `None` for a blank line and for a comment. The error describes the
/// mistake.
pub(super) fn parse_line(line: &[u8], types: AllowedTypes) -> Result<Option<ParsedLine>, String> {
    let text = str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    match parse_object(text.trim())? {
        Some(line) => parse_event(&line, types).map(Some),
        None => Ok(None),
    }
}

/// Parses the JSON of a line. Returns `None` for a blank line and for a comment.
fn parse_object(text: &str) -> Result<Option<RecordedLine<'_>>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('{') {
        return Err(r#"an event is an object like {"event":"click","data":"x"}"#.to_owned());
    }
    match serde_json::from_str(text) {
        Ok(line) => Ok(Some(line)),
        Err(_) if serde_json::from_str::<Comment>(text).is_ok() => Ok(None),
        Err(error) => Err(describe_json_error(&error)),
    }
}

fn parse_event(line: &RecordedLine<'_>, types: AllowedTypes) -> Result<ParsedLine, String> {
    let Some(event_type) = parse_type(&line.event, types)? else {
        return Ok(ParsedLine::Reserved);
    };
    let (format, data) = parse_data(line.data.get())?;
    let event = NextEvent { event_type, format };
    Ok(ParsedLine::Event(RecordedEvent { event, data }))
}

/// Parses an event type. Returns `None` if the type is reserved.
fn parse_type(text: &str, types: AllowedTypes) -> Result<Option<AnyEventType>, String> {
    match (text.parse::<EventType>(), types) {
        (Ok(event_type), _) => Ok(Some(event_type.into())),
        (Err(InvalidName::ReservedType), _) => Ok(None),
        (Err(why), AllowedTypes::SseServer) => Err(format!("event: {why}")),
        (Err(_), AllowedTypes::AnyServer) => text
            .parse()
            .map(Some)
            .map_err(|why: InvalidEventType| format!("event: {why}")),
    }
}

/// Parses the data, which is JSON: a string is sent as its text, any other value as it is.
fn parse_data(json: &str) -> Result<(DataFormat, String), String> {
    if json.starts_with('"') {
        serde_json::from_str(json)
            .map(|text| (DataFormat::Text, text))
            .map_err(|error| format!("data: {}", describe_json_error(&error)))
    } else {
        let json = json::without_white_space(&json.into()).to_string();
        Ok((DataFormat::Json, json))
    }
}

/// Formats an error of serde without its line number: serde sees one line only.
fn describe_json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(what, _)| what);
    format!("{what} (column {})", error.column())
}
