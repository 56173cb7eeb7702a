//! `GET /stream`: where to start, and a stream from there that never ends by itself.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    body::MessageBody,
    http::{
        ConnectionType, Version,
        header::{self, HeaderName},
    },
};
use actix_web_lab::extract::LocalData;
use bytes::BytesMut;
use rand::RngExt as _;
use sse_proto::{Channel, Cursor, EventId, EventType, event::InvalidName, wire};

use super::{
    Edge,
    error::{ApiError, shortened},
    query::Params,
};
use crate::{
    channel::{Filter, Start, Subscription},
    fanout::body,
};

/// The last event id of an `EventSource` (WHATWG HTML §9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// For nginx: do not buffer this response.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const TYPES_MAX: usize = 64;

/// Subscribes to a channel.
pub(super) async fn stream(request: HttpRequest, edge: LocalData<Edge>) -> Result<HttpResponse, ApiError> {
    let params = Params::parse(request.query_string(), &["channel", "event", "last_event_id", "lastEventId"])?;
    let channel = params.channel()?;
    let filter = filter(&params)?;
    let cursor = last_event_id(&request, &params)?;
    let Some(guard) = edge.metrics.subscriber(cursor.is_some(), edge.limits.subscribers_max) else {
        return Ok(turned_away(&request));
    };
    let start = match cursor {
        Some(text) => claimed(&text, &channel),
        None => body::now(&edge.hub, &channel).await,
    };
    let opening_position = match start {
        Start::Claimed(position) => Some(position),
        Start::Unreadable(_) | Start::Time(_) => None,
    };
    let subscription = Subscription::new(channel.clone(), filter, start);
    let body = body::stream_body(
        edge.hub.clone(),
        channel,
        subscription,
        opening_position,
        edge.stream,
        guard,
        edge.stopping.clone(),
    );
    Ok(event_stream(&request, body))
}

/// An answer for one subscriber too many: a stream that ends at once and says when to come back. (An `EventSource`
/// would never come back after a 503.) Not all at the same moment, so the time is random.
fn turned_away(request: &HttpRequest) -> HttpResponse {
    let retry = Duration::from_millis(rand::rng().random_range(5_000..15_000));
    let mut opening = BytesMut::new();
    wire::opening(&mut opening, retry, None::<EventId>, "there are too many subscribers: come back later");
    event_stream(request, opening.freeze())
}

fn event_stream(request: &HttpRequest, body: impl MessageBody + 'static) -> HttpResponse {
    let mut response = HttpResponse::Ok()
        // With a charset, because some clients take text without one for Latin-1.
        .insert_header((header::CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        .body(body);
    if request.version() < Version::HTTP_11 {
        // HTTP/1.0 has no chunks: the stream is what comes until the connection closes.
        response.head_mut().no_chunking(true);
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// The cursor that the subscriber holds: the header beats the URL, because an `EventSource` reconnects with its old
/// URL. An empty one is none. `lastEventId` is what some polyfills call it.
pub(super) fn last_event_id(request: &HttpRequest, params: &Params) -> Result<Option<String>, ApiError> {
    let in_url = params.one("last_event_id")?.or(params.one("lastEventId")?);
    let in_url = in_url.filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    Ok(header_id(request).or(in_url))
}

fn header_id(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(LAST_EVENT_ID)?;
    let text = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// What `text` says of `channel`. Garbage is told as a gap, not as an error: an `EventSource` would give up for ever.
fn claimed(text: &str, channel: &Channel) -> Start {
    let position = text.parse::<Cursor>().ok().and_then(|cursor| cursor.position_in(channel));
    position.map_or_else(|| Start::Unreadable(text.to_owned()), Start::Claimed)
}

fn filter(params: &Params) -> Result<Filter, ApiError> {
    let mut kinds: Vec<EventType> = Vec::new();
    for text in params.all("event") {
        if EventType::RESERVED.contains(&text) {
            continue; // a gap passes every filter, and the others are never published
        }
        let wrong = |why: InvalidName| ApiError::InvalidName { what: "event type", value: shortened(text), why };
        kinds.push(text.parse().map_err(wrong)?);
    }
    if kinds.len() > TYPES_MAX {
        return Err(ApiError::InvalidParameter { name: "event", why: format!("is given more than {TYPES_MAX} times") });
    }
    Ok(Filter::new(kinds))
}
