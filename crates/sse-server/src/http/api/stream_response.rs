//! The head of a stream, and the stream that ends at once.

use std::{convert::Infallible, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    body::{BodyStream, MessageBody},
    dev::ResponseHead,
    http::{
        ConnectionType,
        header::{self, HeaderMap, HeaderName},
    },
};
use bytes::{Bytes, BytesMut};
use futures::stream;
use rand::RngExt as _;
use sse_proto::{EventId, wire};

use crate::{
    broker::lifecycle::ChannelClass,
    fanout::drain::Drain,
    http::{request::ignored_upgrade::has_chunks, response_headers::NO_STORE_NO_TRANSFORM},
};

/// Makes nginx send the response without buffering it.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Returns a body without a declared length, which ends after `bytes`.
pub(super) fn streamed_once(bytes: Bytes) -> impl MessageBody + 'static {
    BodyStream::new(stream::once(async move { Ok::<_, Infallible>(bytes) }))
}

/// Returns when a rejected client reconnects: not before a server with an in-process log is back.
pub(super) fn rejection_retry(drain: &Drain) -> Duration {
    let away = drain.plan().and_then(|plan| plan.retry);
    let random = Duration::from_millis(rand::rng().random_range(5_000..15_000));
    away.unwrap_or_default().saturating_add(random)
}

/// Returns the only block of a rejected stream.
pub(super) fn rejection(retry: Duration, comment: &str) -> Bytes {
    let mut opening = BytesMut::new();
    wire::opening(&mut opening, retry, None::<EventId>, comment);
    opening.freeze()
}

/// Returns a stream with this body.
pub(in crate::http) fn event_stream(
    request: &HttpRequest,
    body: impl MessageBody + 'static,
) -> HttpResponse {
    let mut response = stream_headers().body(body);
    set_framing(response.head_mut(), request);
    response
}

/// Adds the headers of the class of a stream's only channel.
pub(super) fn add_class_headers(headers: &mut HeaderMap, class: Option<ChannelClass>) {
    for (name, value) in class.into_iter().flat_map(|class| class.headers) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            headers.insert(name, value);
        }
    }
}

fn stream_headers() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        // With a charset, because some clients read text without one as Latin-1.
        .insert_header((header::CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header(NO_STORE_NO_TRANSFORM)
        .insert_header((X_ACCEL_BUFFERING, "no"));
    response
}

fn set_framing(response: &mut ResponseHead, request: &HttpRequest) {
    // The socket leaves actix, so no other request can follow on this connection.
    response.set_connection_type(ConnectionType::Close);
    if !has_chunks(request) {
        response.no_chunking(true);
    }
}
