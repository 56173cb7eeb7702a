//! `POST /events`: publishes many events, all or none.
//!
//! Without keys, or with a key in the header, the batch is one item of the append. If lines have
//! keys of their own, each line is an item: some lines may be duplicates of earlier publishes while
//! others are new.
//!
//! ```text
//! {"event":"a","key":"k1"}   item 1: known from an earlier publish, keeps its id
//! {"event":"b","key":"k2"}   item 2: new
//! {"event":"b","key":"k2"}   item 3: the same key again, gets the id of item 2
//! {"event":"c"}              item 4: no key, stored each time it is sent
//! ```
//!
//! If lines name channels, each channel has a batch of its own (`batch_channels`). With
//! `mode=stream` lines are stored while the body is still open (`streaming_publish`).

use actix_web::{HttpRequest, HttpResponse, web::Payload};
use actix_web_lab::extract::LocalData;
use bytestring::ByteString;
use sse_proto::api::BatchPublished;

use super::{
    batch_channels,
    channels::etag,
    idempotency::{self, HEADER_KEY, Target, append_item},
    publish_quota::PublishQuota,
    streaming_publish,
};
use crate::{
    access::Right,
    broker::{
        idempotency::{AppendItem, Fingerprint},
        lifecycle::Written,
    },
    http::{
        access::{caller::Caller, channel_query::BatchQuery},
        error::{ApiError, ApiResult},
        request::{
            batch_body::{BatchEvent, BatchPlace, parse_array, parse_lines},
            body::{self, Body},
            content_type::{self, ContentType},
            curl_line::curl_line,
        },
        request_limits::RequestLimits,
        state::AppState,
    },
};

/// Publishes a batch.
pub(crate) async fn events(
    request: HttpRequest,
    payload: Payload,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    state.origins.check_publish(&request)?;
    let query = BatchQuery::parse(request.query_string(), &caller)?;
    query.lifecycle.check(&state, &caller, &query.channel)?;
    if query.is_stream {
        return streaming_publish::publish(&request, payload, &state, &caller, query).await;
    }
    let received = receive(&request, payload, &state, &caller, &query).await;
    let Received {
        events,
        target,
        quota,
        // It holds its memory until the events are stored.
        body: _body,
    } = query.decide(received, |received| {
        let needs_default = |event: &BatchEvent| event.channel.is_none();
        received.events.iter().any(needs_default)
    })?;
    let caller = caller.after_wait()?;
    if events.iter().any(|event| event.channel.is_some()) {
        return batch_channels::publish(&state, &caller, &target, &quota, events).await;
    }
    caller.require(Right::Publish, std::slice::from_ref(&target.channel))?;
    quota.take_channel(&state, &target).await?;
    let batch = Batch::new(events, target.key, &state.limits)?;
    let (published, written) = batch.append(&state, &target).await?;
    Ok(HttpResponse::Ok()
        .insert_header(etag(written.newest))
        .json(published))
}

/// A batch that is read and checked.
struct Received<'a> {
    events: Vec<BatchEvent>,
    target: Target,
    quota: PublishQuota,
    body: Body<'a>,
}

async fn receive<'a>(
    request: &HttpRequest,
    payload: Payload,
    state: &'a AppState,
    caller: &Caller,
    query: &BatchQuery,
) -> ApiResult<Received<'a>> {
    let target = Target::new(request, caller, query.channel.clone(), &query.lifecycle)?;
    let format = BatchFormat::of(request)?;
    let quota = PublishQuota::take(request, state, caller, 0)?;
    let limit = state.limits.batch_bytes();
    let body = body::read(request, payload, limit, &state.body_memory).await?;
    quota.take_body(body.bytes.len())?;
    let text = content_type::json_text(body.bytes.clone())?;
    let events = format.parse(&text, &state.limits)?;
    let own_key = |event| own_key(event, target.principal);
    let events: Vec<_> = events.into_iter().map(own_key).collect();
    quota.take_events(events.len())?;
    Ok(Received {
        events,
        target,
        quota,
        body,
    })
}

const NOT_JSON: &str = "the type of the body is not JSON";

/// How the events of a batch are separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchFormat {
    /// A JSON array.
    Array,
    /// NDJSON.
    Lines,
}

impl BatchFormat {
    pub(super) fn of(request: &HttpRequest) -> ApiResult<Self> {
        content_type::parse(request)
            .and_then(|found| Self::of_type(found).ok_or_else(|| NOT_JSON.to_owned()))
            .map_err(|found| unsupported(found, request))
    }

    const fn of_type(content_type: ContentType) -> Option<Self> {
        match content_type {
            ContentType::Json => Some(Self::Array),
            ContentType::NdJson => Some(Self::Lines),
            ContentType::Text | ContentType::Unspecified => None,
        }
    }

    fn parse(self, text: &ByteString, limits: &RequestLimits) -> ApiResult<Vec<BatchEvent>> {
        match self {
            Self::Array => parse_array(text, limits),
            Self::Lines => parse_lines(text, limits),
        }
    }
}

/// Returns the error of a body that cannot be read line by line.
pub(super) fn unsupported_lines(request: &HttpRequest) -> ApiError {
    unsupported("an array cannot be stored line by line".to_owned(), request)
}

fn unsupported(found: String, request: &HttpRequest) -> ApiError {
    ApiError::UnsupportedMediaType {
        found,
        expected: "application/x-ndjson, one line per event, or a JSON array as application/json",
        example: curl_line(
            request,
            "application/x-ndjson",
            r#"{"event":"click","data":"x"}"#,
        ),
    }
}

/// The events of a batch that belong to one channel, as items to append.
pub(super) struct Batch {
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
    pub(super) fn new(
        events: Vec<BatchEvent>,
        key: Option<Fingerprint>,
        limits: &RequestLimits,
    ) -> ApiResult<Self> {
        let keys = events.iter().filter(|event| event.key.is_some()).count();
        if keys == 0 {
            return Ok(Self::one_item(events, key));
        }
        if key.is_some() {
            return Err(ApiError::InvalidIdempotencyKey(
                "the header and lines of the batch have keys: use one kind",
            ));
        }
        limits.batch_keys().check(keys)?;
        Ok(Self::item_per_event(events))
    }

    fn one_item(events: Vec<BatchEvent>, key: Option<Fingerprint>) -> Self {
        let events = events.into_iter().map(|event| event.event).collect();
        Self {
            items: vec![append_item(events, key)],
            places: None,
        }
    }

    fn item_per_event(events: Vec<BatchEvent>) -> Self {
        let (items, places) = events.into_iter().map(item_of).unzip();
        Self {
            items,
            places: Some(places),
        }
    }

    /// Appends the events. Returns the response, and what the log reports.
    pub(super) async fn append(
        self,
        state: &AppState,
        target: &Target,
    ) -> ApiResult<(BatchPublished, Written)> {
        let Self { items, places } = self;
        let count = items.iter().map(|item| item.events.len()).sum();
        let describe_key = |item| describe_key(places.as_deref(), item);
        let written = idempotency::append(state, target, items, describe_key).await?;
        let outcomes = &written.outcomes;
        let ids = idempotency::first_and_last_id(outcomes)?;
        let published = BatchPublished {
            first_id: ids.first,
            last_id: ids.last,
            count,
            ids: places.map(|_| outcomes.iter().map(|line| line.ids.first).collect()),
            end: written.end,
        };
        Ok((published, written))
    }
}

/// Makes the key of an event that of the principal that sent it.
pub(super) fn own_key(mut event: BatchEvent, principal: Option<u64>) -> BatchEvent {
    event.key = event.key.map(|key| key.of_principal(principal));
    event
}

fn item_of(event: BatchEvent) -> (AppendItem, BatchPlace) {
    (append_item(vec![event.event], event.key), event.place)
}

fn describe_key(places: Option<&[BatchPlace]>, item: usize) -> String {
    match places.and_then(|places| places.get(item)) {
        Some(place) => format!("the key of {place}"),
        None => HEADER_KEY.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::idempotency_key;

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
