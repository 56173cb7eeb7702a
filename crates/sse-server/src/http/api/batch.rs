//! `POST /events`: publishes many events, all or none.
//!
//! Without keys, or with a key in the header, the batch is one item of the append. If lines have
//! keys of their own, each line is an item: some lines may be duplicates of earlier publishes while
//! others are new.

use actix_web::{HttpRequest, HttpResponse, web::Payload};
use actix_web_lab::extract::LocalData;
use sse_proto::{Event, api::BatchPublished};

use super::idempotency;
use crate::{
    broker::idempotency::{AppendItem, Fingerprint, IdempotencyKey},
    http::{
        access::caller::Caller,
        error::ApiError,
        request::{
            batch_body::{BatchEvent, BatchPlace, parse_array, parse_lines},
            body::{self, Body, BodyLimit},
            content_type::{self, ContentType},
            idempotency_key,
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
    _caller: Caller,
) -> Result<HttpResponse, ApiError> {
    state.origins.check_publish(&request)?;
    let channel = Params::parse(request.query_string(), &["channel"])?.channel()?;
    let key = idempotency_key::from_header(&request)?;
    let format = BatchFormat::of(&request)?;
    // `body` holds its memory until the events are stored.
    let body = read_body(&request, payload, &state).await?;
    let events = format.parse(&body, &state.limits)?;
    let count = events.len();

    let Batch { items, places } = Batch::new(events, key, &state.limits)?;
    let describe_key = |item: usize| match places.as_ref().and_then(|places| places.get(item)) {
        Some(place) => format!("the key of {place}"),
        None => "the Idempotency-Key".to_owned(),
    };
    let outcomes = idempotency::append(&state, &channel, items, describe_key).await?;
    let ids = idempotency::first_and_last_id(&outcomes)?;
    Ok(HttpResponse::Ok().json(BatchPublished {
        first_id: ids.first,
        last_id: ids.last,
        count,
        ids: places.map(|_| outcomes.iter().map(|line| line.ids.first).collect()),
    }))
}

async fn read_body<'a>(
    request: &HttpRequest,
    payload: Payload,
    state: &'a AppState,
) -> Result<Body<'a>, ApiError> {
    let limit = BodyLimit {
        bytes_max: state.limits.batch_bytes_max,
        what: "the batch",
        flag: "--batch-bytes-max",
    };
    body::read(request, payload, limit, &state.body_memory).await
}

/// How the events of a batch are separated.
#[derive(Debug, Clone, Copy)]
enum BatchFormat {
    /// A JSON array.
    Array,
    /// NDJSON.
    Lines,
}

impl BatchFormat {
    fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        match content_type::parse(request) {
            Ok(ContentType::Json) => Ok(Self::Array),
            Ok(ContentType::NdJson) => Ok(Self::Lines),
            Ok(ContentType::Text | ContentType::Unspecified) => Err(unsupported(
                "the type of the body is not JSON".to_owned(),
                request,
            )),
            Err(found) => Err(unsupported(found, request)),
        }
    }

    fn parse(self, body: &Body<'_>, limits: &RequestLimits) -> Result<Vec<BatchEvent>, ApiError> {
        let text = content_type::json_text(body.bytes.clone())?;
        match self {
            Self::Array => parse_array(&text, limits),
            Self::Lines => parse_lines(&text, limits),
        }
    }
}

fn unsupported(found: String, request: &HttpRequest) -> ApiError {
    ApiError::UnsupportedMediaType {
        found,
        expected: "application/x-ndjson, one line per event, or a JSON array as application/json",
        example: content_type::curl_line(
            request,
            "application/x-ndjson",
            r#"{"event":"click","data":"x"}"#,
        ),
    }
}

/// A batch as items to append.
struct Batch {
    items: Vec<AppendItem>,
    /// The place of each item in the body, if each event is an item.
    places: Option<Vec<BatchPlace>>,
}

impl Batch {
    /// Each event is an item if any event has a key; otherwise the whole batch is one item.
    ///
    /// # Errors
    ///
    /// - `InvalidIdempotencyKey`: both the header and events have keys.
    /// - `TooLarge`: the batch has more keys than the broker remembers per channel.
    fn new(
        events: Vec<BatchEvent>,
        key: Option<Fingerprint>,
        limits: &RequestLimits,
    ) -> Result<Self, ApiError> {
        let keys = events.iter().filter(|event| event.key.is_some()).count();
        if keys == 0 {
            return Ok(Self::one_item(events, key));
        }
        if key.is_some() {
            return Err(ApiError::InvalidIdempotencyKey(
                "the header and lines of the batch have keys: use one kind",
            ));
        }
        if keys > limits.keys_max {
            return Err(ApiError::TooLarge {
                what: "the batch".to_owned(),
                max: limits.keys_max,
                unit: "keys",
                flag: "--idempotency-keys",
            });
        }
        Ok(Self::item_per_event(events))
    }

    fn one_item(events: Vec<BatchEvent>, key: Option<Fingerprint>) -> Self {
        let events: Vec<Event> = events.into_iter().map(|event| event.event).collect();
        let idempotency = key.map(|key| IdempotencyKey {
            key,
            content: Fingerprint::of_events(&events),
        });
        Self {
            items: vec![AppendItem {
                events,
                idempotency,
            }],
            places: None,
        }
    }

    fn item_per_event(events: Vec<BatchEvent>) -> Self {
        let places = events.iter().map(|event| event.place).collect();
        let item = |BatchEvent { event, key, .. }: BatchEvent| {
            let idempotency = key.map(|key| IdempotencyKey {
                key,
                content: Fingerprint::of_events([&event]),
            });
            AppendItem {
                events: vec![event],
                idempotency,
            }
        };
        Self {
            items: events.into_iter().map(item).collect(),
            places: Some(places),
        }
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

    #[test]
    fn keys_belong_to_the_batch_or_to_its_lines() {
        let keyed = |text: &str, key: Option<&str>| {
            let events = parse_lines(&text.into(), &LIMITS).unwrap();
            let key = key.map(|key| idempotency_key::parse(key.as_bytes()).unwrap());
            let batch = Batch::new(events, key, &LIMITS).map_err(|error| error.to_string())?;
            let items: Vec<_> = batch
                .items
                .iter()
                .map(|item| (item.events.len(), item.idempotency.is_some()))
                .collect();
            Ok::<_, String>((items, batch.places.is_some()))
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
