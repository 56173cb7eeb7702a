//! `POST /events`: many events in, all or none.

use std::{borrow::Cow, fmt};

use actix_web::{HttpRequest, HttpResponse, web::Payload};
use actix_web_lab::extract::LocalData;
use bytestring::ByteString;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use sse_proto::{
    Event,
    api::{BatchLine, BatchPublished},
    json,
};

use super::idempotency;
use crate::{
    broker::idempotency::{AppendItem, Fingerprint, IdempotencyKey},
    http::{
        error::{ApiError, shortened},
        request::{
            body::{self, BodyLimit},
            content_type::{self, ContentType},
            query::Params,
        },
        state::{AppState, RequestLimits},
    },
};

/// Publishes a batch to one channel.
pub(crate) async fn events(
    request: HttpRequest,
    payload: Payload,
    state: LocalData<AppState>,
) -> Result<HttpResponse, ApiError> {
    state.origins.check_publish(&request)?;
    let channel = Params::parse(request.query_string(), &["channel"])?.channel()?;
    let key = idempotency::header(&request)?;
    let media = content_type::of(&request);
    let limit = BodyLimit {
        bytes_max: state.limits.batch_bytes_max,
        what: "the batch",
        flag: "--batch-bytes-max",
    };
    let body = match media {
        Ok(ContentType::Json | ContentType::NdJson) => {
            body::read(&request, payload, limit, &state.body_memory).await?
        }
        Ok(ContentType::Text | ContentType::Unspecified) => {
            return Err(unsupported(
                "the body is not said to be JSON".to_owned(),
                &request,
            ));
        }
        Err(found) => return Err(unsupported(found, &request)),
    };
    let text = content_type::json_text(body.bytes.clone())?;
    let lines = match media {
        Ok(ContentType::Json) => items(&text, &state.limits)?,
        _ => lines(&text, &state.limits)?,
    };

    let count = lines.len();
    let stands: Vec<Place> = lines.iter().map(|line| line.place).collect();
    let (parts, by_line) = parts(lines, key, &state.limits)?;
    let whose = |part: usize| match stands.get(part) {
        Some(place) if by_line => format!("the key of {place}"),
        _ => "the Idempotency-Key".to_owned(),
    };
    let placed = idempotency::publish(&state, &channel, parts, whose).await?;
    let ends = idempotency::ends(&placed)?;
    let ids = by_line.then(|| placed.iter().map(|line| line.ids.first).collect());
    Ok(HttpResponse::Ok().json(BatchPublished {
        first_id: ends.first,
        last_id: ends.last,
        count,
        ids,
    }))
}

/// An event of a batch, as it was sent.
struct Line {
    place: Place,
    event: Event,
    key: Option<Fingerprint>,
}

/// Where in the body an event stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    Line(usize),
    Item(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Item(number) => write!(f, "item {number}"),
        }
    }
}

/// A part for each line if lines have keys, which is told; else the whole batch is one.
fn parts(
    lines: Vec<Line>,
    key: Option<Fingerprint>,
    limits: &RequestLimits,
) -> Result<(Vec<AppendItem>, bool), ApiError> {
    let keyed = lines.iter().filter(|line| line.key.is_some()).count();
    if keyed == 0 {
        let events: Vec<Event> = lines.into_iter().map(|line| line.event).collect();
        let idempotency = key.map(|key| IdempotencyKey {
            key,
            content: Fingerprint::of_events(&events),
        });
        return Ok((
            vec![AppendItem {
                events,
                idempotency,
            }],
            false,
        ));
    }
    if key.is_some() {
        return Err(ApiError::InvalidIdempotencyKey(
            "the batch has one, and so have lines of it: use one kind",
        ));
    }
    if keyed > limits.keys_max {
        // It would never fit.
        return Err(ApiError::TooLarge {
            what: "the batch".to_owned(),
            max: limits.keys_max,
            unit: "keys",
            flag: "--idempotency-keys",
        });
    }
    let part = |line: Line| {
        let idempotency = line.key.map(|key| IdempotencyKey {
            key,
            content: Fingerprint::of_events([&line.event]),
        });
        AppendItem {
            events: vec![line.event],
            idempotency,
        }
    };
    Ok((lines.into_iter().map(part).collect(), true))
}

/// The events of NDJSON: one a line, blank lines apart.
fn lines(text: &ByteString, limits: &RequestLimits) -> Result<Vec<Line>, ApiError> {
    let mut lines = Vec::new();
    for (json, number) in text.split('\n').zip(1..) {
        if !json.trim().is_empty() {
            room_for_one_more(lines.len(), limits)?;
            lines.push(line(text, json, Place::Line(number), limits)?);
        }
    }
    if lines.is_empty() {
        Err(ApiError::EmptyBatch)
    } else {
        Ok(lines)
    }
}

/// The events of a JSON array.
fn items(text: &ByteString, limits: &RequestLimits) -> Result<Vec<Line>, ApiError> {
    let mut array = Array {
        items: Vec::new(),
        too_many: None,
        limits,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = (&mut array)
        .deserialize(&mut json)
        .and_then(|()| json.end());
    if let Some(too_many) = array.too_many {
        return Err(too_many);
    }
    read.map_err(|error| ApiError::NotAnArray(shortened(error)))?;
    if array.items.is_empty() {
        return Err(ApiError::EmptyBatch);
    }
    let numbered = array.items.into_iter().zip(1..);
    numbered
        .map(|(item, number)| line(text, item.get(), Place::Item(number), limits))
        .collect()
}

/// Takes the items of an array as they are, and no more of them than may be.
struct Array<'l, 'de> {
    items: Vec<&'de RawValue>,
    too_many: Option<ApiError>,
    limits: &'l RequestLimits,
}

impl<'de> DeserializeSeed<'de> for &mut Array<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Array<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(item) = array.next_element()? {
            if let Err(too_many) = room_for_one_more(self.items.len(), self.limits) {
                self.too_many = Some(too_many);
                return Err(A::Error::custom("too many events"));
            }
            self.items.push(item);
        }
        Ok(())
    }
}

fn room_for_one_more(events: usize, limits: &RequestLimits) -> Result<(), ApiError> {
    if events < limits.batch_events_max {
        return Ok(());
    }
    Err(ApiError::TooLarge {
        what: "the batch".to_owned(),
        max: limits.batch_events_max,
        unit: "events",
        flag: "--batch-events-max",
    })
}

/// One event, which shares the memory of `text` where it can.
fn line(
    text: &ByteString,
    json: &str,
    place: Place,
    limits: &RequestLimits,
) -> Result<Line, ApiError> {
    let wrong = |why: String| ApiError::InvalidBatch {
        place: place.to_string(),
        why,
    };
    if !json.trim_start().starts_with('{') {
        return Err(wrong(
            r#"an event is an object like {"event":"click","data":"x"}"#.to_owned(),
        ));
    }
    let line: BatchLine<'_> = serde_json::from_str(json).map_err(|error| wrong(words(&error)))?;
    let kind = shared(text, line.event)
        .try_into()
        .map_err(|why: sse_proto::event::InvalidName| wrong(why.to_string()))?;
    let data = data(text, line.data).map_err(|error| wrong(format!("data: {}", words(&error))))?;
    if data.len() > limits.event_bytes_max {
        return Err(ApiError::TooLarge {
            what: format!("the data of {place}"),
            max: limits.event_bytes_max,
            unit: "bytes",
            flag: "--event-bytes-max",
        });
    }
    let key = line
        .key
        .map(|key| idempotency::key(key.as_bytes()))
        .transpose()
        .map_err(|why| wrong(format!("key: {why}")))?;
    Ok(Line {
        place,
        event: Event { kind, data },
        key,
    })
}

/// What serde says, without its own idea of a line (it saw only this one), and not at any length.
fn words(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let what = said
        .rsplit_once(" at line ")
        .map_or(said.as_str(), |(what, _)| what);
    format!("{} (column {})", shortened(what), error.column())
}

/// A string stands for its text, any other value for its JSON.
fn data(text: &ByteString, value: &RawValue) -> Result<ByteString, serde_json::Error> {
    let json = value.get();
    if json.starts_with('"') {
        return Ok(shared(
            text,
            serde_json::from_str::<BorrowedText<'_>>(json)?.0,
        ));
    }
    Ok(json::without_white_space(&text.slice_ref(json)))
}

/// A part of `text`, without a copy; what was escaped in it has memory of its own.
fn shared(text: &ByteString, part: Cow<'_, str>) -> ByteString {
    match part {
        Cow::Borrowed(part) => text.slice_ref(part),
        Cow::Owned(part) => part.into(),
    }
}

/// A string without escapes is borrowed.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

fn unsupported(found: String, request: &HttpRequest) -> ApiError {
    ApiError::UnsupportedMediaType {
        found,
        expected: "application/x-ndjson, a line for each event, or a JSON array as application/json",
        example: content_type::curl_line(
            request,
            "application/x-ndjson",
            r#"{"event":"click","data":"x"}"#,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RequestLimits = RequestLimits {
        event_bytes_max: 20,
        batch_bytes_max: 1000,
        batch_events_max: 3,
        keys_max: 2,
    };

    fn datas(text: &str) -> Result<Vec<String>, String> {
        let text = ByteString::from(text);
        let lines = if text.starts_with('[') {
            items(&text, &LIMITS)
        } else {
            lines(&text, &LIMITS)
        };
        let data = |line: Line| line.event.data.to_string();
        lines
            .map(|lines| lines.into_iter().map(data).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_string_is_its_text_and_any_other_value_its_json() {
        let text = concat!(
            r#"{"event":"a","data":"x\n\"y\""}"#,
            "\r\n\n",
            r#"{"event":"a","data":{"b": 1.0, "b":[1 , 2]}}"#,
            "\n",
            r#"{"event":"a","data":null,"id":"5-0","time":"now"}"#,
        );
        assert_eq!(
            datas(text).unwrap(),
            ["x\n\"y\"", r#"{"b":1.0,"b":[1,2]}"#, "null"]
        );
        assert_eq!(
            datas(r#"[ {"event":"a","data":"1"}, {"data":1e999,"event":"b"} ]"#).unwrap(),
            ["1", "1e999"]
        );
    }

    #[test]
    fn an_error_names_the_line() {
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
                datas(&format!("{good}\n\n{bad}\n"))
                    .unwrap_err()
                    .contains("line 3"),
                "{bad}"
            );
            if bad != "nonsense" && !bad.ends_with('x') {
                assert!(
                    datas(&format!("[{good},{bad}]"))
                        .unwrap_err()
                        .contains("item 2"),
                    "{bad}"
                );
            }
        }
        assert!(
            datas(&[good; 4].join("\n"))
                .unwrap_err()
                .contains("more than 3 events")
        );
        assert!(datas("\n \n").is_err() && datas("[]").is_err() && datas("[").is_err());
    }

    #[test]
    fn keys_are_of_the_batch_or_of_its_lines() {
        let keyed = |text: &str, key: Option<&str>| {
            let lines = lines(&text.into(), &LIMITS).unwrap();
            let key = key.map(|key| idempotency::key(key.as_bytes()).unwrap());
            let (parts, by_line) = parts(lines, key, &LIMITS).map_err(|error| error.to_string())?;
            let parts: Vec<_> = parts
                .iter()
                .map(|part| (part.events.len(), part.idempotency.is_some()))
                .collect();
            Ok::<_, String>((parts, by_line))
        };
        let without = r#"{"event":"a","data":1}"#;
        let with = r#"{"event":"a","data":1,"key":"k"}"#;
        let none = r#"{"event":"a","data":1,"key":null}"#;
        assert_eq!(
            keyed(&[without, none].join("\n"), None),
            Ok((vec![(2, false)], false))
        );
        assert_eq!(
            keyed(&[without, none].join("\n"), Some("k")),
            Ok((vec![(2, true)], false))
        );
        assert_eq!(
            keyed(&[without, with].join("\n"), None),
            Ok((vec![(1, false), (1, true)], true))
        );
        assert!(
            keyed(&[without, with].join("\n"), Some("k"))
                .unwrap_err()
                .contains("one kind")
        );
        assert!(
            keyed(&[with; 3].join("\n"), None)
                .unwrap_err()
                .contains("more than 2 keys")
        );
    }
}
