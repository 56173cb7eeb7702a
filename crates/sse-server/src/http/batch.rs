//! `POST /events`: many events in, all or none.

use std::{borrow::Cow, fmt, time::Instant};

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

use super::{
    Edge, Limits,
    body::{self, BodyLimit},
    error::{ApiError, shortened},
    media::{self, Media},
    query::Params,
};

/// Publishes a batch to one channel.
pub(super) async fn events(
    request: HttpRequest,
    payload: Payload,
    edge: LocalData<Edge>,
) -> Result<HttpResponse, ApiError> {
    edge.origins.check_publish(&request)?;
    let channel = Params::parse(request.query_string(), &["channel"])?.channel()?;
    let media = media::of(&request);
    let limit = BodyLimit { bytes_max: edge.limits.batch_bytes_max, what: "the batch", flag: "--batch-bytes-max" };
    let body = match media {
        Ok(Media::Json | Media::NdJson) => body::read(&request, payload, limit, &edge.body_memory).await?,
        Ok(Media::Text | Media::Unsaid) => {
            return Err(unsupported("the body is not said to be JSON".to_owned(), &request));
        }
        Err(found) => return Err(unsupported(found, &request)),
    };
    let text = media::json_text(body.bytes.clone())?;
    let events = match media {
        Ok(Media::Json) => items(&text, &edge.limits)?,
        _ => lines(&text, &edge.limits)?,
    };

    let started = Instant::now();
    let count = events.len();
    let bytes = events.iter().map(|event| event.data.len()).sum();
    let appended = edge.hub.broker().append(&channel, events).await?;
    edge.metrics.published(count, bytes, started.elapsed());
    Ok(HttpResponse::Ok().json(BatchPublished { first_id: appended.first, last_id: appended.last, count }))
}

/// The events of NDJSON: one a line, blank lines apart.
fn lines(text: &ByteString, limits: &Limits) -> Result<Vec<Event>, ApiError> {
    let mut events = Vec::new();
    for (line, number) in text.split('\n').zip(1..) {
        if !line.trim().is_empty() {
            room_for_one_more(events.len(), limits)?;
            events.push(event(line, &format!("line {number}"), limits)?);
        }
    }
    if events.is_empty() { Err(ApiError::EmptyBatch) } else { Ok(events) }
}

/// The events of a JSON array.
fn items(text: &ByteString, limits: &Limits) -> Result<Vec<Event>, ApiError> {
    let mut array = Array { items: Vec::new(), too_many: None, limits };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = (&mut array).deserialize(&mut json).and_then(|()| json.end());
    if let Some(too_many) = array.too_many {
        return Err(too_many);
    }
    read.map_err(|error| ApiError::NotAnArray(shortened(error)))?;
    if array.items.is_empty() {
        return Err(ApiError::EmptyBatch);
    }
    let numbered = array.items.into_iter().zip(1..);
    numbered.map(|(item, number)| event(item.get(), &format!("item {number}"), limits)).collect()
}

/// Takes the items of an array as they are, and no more of them than may be.
struct Array<'l, 'de> {
    items: Vec<&'de RawValue>,
    too_many: Option<ApiError>,
    limits: &'l Limits,
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

fn room_for_one_more(events: usize, limits: &Limits) -> Result<(), ApiError> {
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

fn event(json: &str, place: &str, limits: &Limits) -> Result<Event, ApiError> {
    let wrong = |why: String| ApiError::InvalidBatch { place: place.to_owned(), why };
    if !json.trim_start().starts_with('{') {
        return Err(wrong(r#"an event is an object like {"event":"click","data":"x"}"#.to_owned()));
    }
    let line: BatchLine<'_> = serde_json::from_str(json).map_err(|error| wrong(words(&error)))?;
    let kind = ByteString::from(line.event.as_ref());
    let kind = kind.try_into().map_err(|why: sse_proto::event::InvalidName| wrong(why.to_string()))?;
    let data = data(line.data).map_err(|error| wrong(format!("data: {}", words(&error))))?;
    if data.len() > limits.event_bytes_max {
        return Err(ApiError::TooLarge {
            what: format!("the data of {place}"),
            max: limits.event_bytes_max,
            unit: "bytes",
            flag: "--event-bytes-max",
        });
    }
    Ok(Event { kind, data })
}

/// What serde says, without its own idea of a line (it saw only this one), and not at any length.
fn words(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let what = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
    format!("{} (column {})", shortened(what), error.column())
}

/// A string stands for its text, any other value for its JSON.
fn data(value: &RawValue) -> Result<ByteString, serde_json::Error> {
    let json = value.get();
    if json.starts_with('"') {
        let text: Cow<'_, str> = serde_json::from_str::<BorrowedText<'_>>(json)?.0;
        return Ok(ByteString::from(text.as_ref()));
    }
    Ok(json::without_white_space(&ByteString::from(json)))
}

/// A string without escapes is not copied twice.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

fn unsupported(found: String, request: &HttpRequest) -> ApiError {
    ApiError::UnsupportedType {
        found,
        expected: "application/x-ndjson, a line for each event, or a JSON array as application/json",
        example: media::curl_line(request, "application/x-ndjson", r#"{"event":"click","data":"x"}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { event_bytes_max: 20, batch_bytes_max: 1000, batch_events_max: 3, subscribers_max: 1 };

    fn datas(text: &str) -> Result<Vec<String>, String> {
        let text = ByteString::from(text);
        let events = if text.starts_with('[') { items(&text, &LIMITS) } else { lines(&text, &LIMITS) };
        let data = |event: Event| event.data.to_string();
        events.map(|events| events.into_iter().map(data).collect()).map_err(|error| error.to_string())
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
        assert_eq!(datas(text).unwrap(), ["x\n\"y\"", r#"{"b":1.0,"b":[1,2]}"#, "null"]);
        assert_eq!(datas(r#"[ {"event":"a","data":"1"}, {"data":1e999,"event":"b"} ]"#).unwrap(), ["1", "1e999"]);
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
            r#"{"event":"a","data":"123456789012345678901"}"#,
        ] {
            assert!(datas(&format!("{good}\n\n{bad}\n")).unwrap_err().contains("line 3"), "{bad}");
            if bad != "nonsense" && !bad.ends_with('x') {
                assert!(datas(&format!("[{good},{bad}]")).unwrap_err().contains("item 2"), "{bad}");
            }
        }
        assert!(datas(&[good; 4].join("\n")).unwrap_err().contains("more than 3 events"));
        assert!(datas("\n \n").is_err() && datas("[]").is_err() && datas("[").is_err());
    }
}
