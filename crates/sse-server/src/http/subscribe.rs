//! `GET /stream`: a stream of one or several channels.
//!
//! This module validates the request and opens the response. `fanout` sends the stream.

use std::{convert::Infallible, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodyStream, MessageBody},
    http::{
        ConnectionType, Version,
        header::{self, HeaderName},
    },
};
use actix_web_lab::extract::LocalData;
use bytes::BytesMut;
use futures::stream;
use rand::RngExt as _;
use sse_proto::{Channel, EventId, wire};

use super::{
    AppState,
    error::ApiError,
    event_filter,
    query::Params,
    start_params::{self, PARAMETERS, StartParam},
};
use crate::{
    channel::{Envelope, StartAt, SubscriptionOptions},
    fanout::{
        Framing,
        detach::Connection,
        start::{NewSubscription, is_over, start_subscription},
        stream_body::{self, Exit},
    },
    metrics::{Admission, SubscriberGuard},
};

/// Makes nginx send the response without buffering it.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a client asks for.
struct StreamRequest {
    channels: Vec<Channel>,
    options: SubscriptionOptions,
    start: Option<StartParam>,
}

/// Subscribes to one or several channels.
pub(super) async fn stream(
    request: HttpRequest,
    state: LocalData<AppState>,
) -> Result<HttpResponse, ApiError> {
    let asked = parse_request(&request)?;
    let resumes = matches!(asked.start, Some(StartParam::Resume(_)));
    let guard = match state
        .metrics
        .subscriber(resumes, state.limits.subscribers_max)
    {
        Admission::Admitted(guard) => guard,
        Admission::TurnedAway(guard) => return Ok(reject_with_stream(&request, guard)),
        Admission::Refused => return Ok(drop_connection(&request)),
    };
    Ok(open_stream(&request, &state, asked, guard).await)
}

fn parse_request(request: &HttpRequest) -> Result<StreamRequest, ApiError> {
    let known = [&["channel", "event", "envelope"], &PARAMETERS[..]].concat();
    let params = Params::parse(request.query_string(), &known)?;
    Ok(StreamRequest {
        channels: params.channels()?,
        options: SubscriptionOptions {
            filter: event_filter::of(&params)?,
            envelope: parse_envelope(&params)?,
            until: start_params::parse_until(&params)?,
        },
        start: StartParam::from_request(request, &params)?,
    })
}

async fn open_stream(
    request: &HttpRequest,
    state: &AppState,
    StreamRequest {
        channels,
        options,
        start,
    }: StreamRequest,
    guard: SubscriberGuard,
) -> HttpResponse {
    let comment = opening_comment(&channels);
    let until = options.until;
    let broker = state.hub.broker();
    let starts =
        start_params::start_positions(start.as_ref(), StartAt::Now, channels, broker).await;
    let subscription = start_subscription(&state.hub, starts, &options).await;
    if let (Some(bound), NewSubscription::Ready(subscription)) = (until, &subscription)
        && is_over(&state.hub, subscription, &options.filter, bound).await
    {
        return no_content();
    }
    let body = stream_body::stream_body(
        state.streams.clone(),
        subscription,
        until,
        &comment,
        guard,
        exit(request),
    );
    event_stream(request, body)
}

/// Returns the one response after which an `EventSource` does not reconnect.
fn no_content() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}

/// Returns the way for the socket to leave actix, if the connection has one.
fn exit(request: &HttpRequest) -> Option<Exit> {
    let framing = if has_chunks(request) {
        Framing::Chunked
    } else {
        Framing::Plain
    };
    let connection = request.conn_data::<Connection>()?;
    Some(Exit {
        connection: connection.clone(),
        framing,
    })
}

/// Returns the comment of the opening, which names the channels.
fn opening_comment(channels: &[Channel]) -> String {
    let names: Vec<&str> = channels.iter().map(Channel::as_str).collect();
    format!(
        "channel{} {}",
        if names.len() == 1 { "" } else { "s" },
        names.join(", ")
    )
}

/// Returns a stream that ends at once, and that sets when the client reconnects.
///
/// A 503 would not do: an `EventSource` never reconnects after it. The time is random, so that the
/// rejected clients do not reconnect at the same moment.
fn reject_with_stream(request: &HttpRequest, guard: SubscriberGuard) -> HttpResponse {
    let retry = Duration::from_millis(rand::rng().random_range(5_000..15_000));
    let mut opening = BytesMut::new();
    wire::opening(
        &mut opening,
        retry,
        None::<EventId>,
        "there are too many subscribers: come back later",
    );
    // The rejected client counts until its connection is closed.
    if let Some(connection) = request.conn_data::<Connection>() {
        connection.hold(guard);
    }
    let opening = opening.freeze();
    event_stream(
        request,
        BodyStream::new(stream::once(async move { Ok::<_, Infallible>(opening) })),
    )
}

/// Closes the connection without a response, because too many clients are being rejected already.
///
/// An `EventSource` reconnects after a broken connection.
fn drop_connection(request: &HttpRequest) -> HttpResponse {
    if let Some(connection) = request.conn_data::<Connection>() {
        connection.close();
    }
    // If the connection cannot be closed, this is the shortest response.
    event_stream(request, ())
}

/// Whether the response has chunks. An HTTP/1.0 response ends when the connection is closed.
fn has_chunks(request: &HttpRequest) -> bool {
    request.version() >= Version::HTTP_11
}

/// Returns the head of a stream, with `body`.
fn event_stream(request: &HttpRequest, body: impl MessageBody + 'static) -> HttpResponse {
    let mut response = HttpResponse::Ok()
        // With a charset, because some clients read text without one as Latin-1.
        .insert_header((header::CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        .body(body);
    // The socket leaves actix, so no other request can follow on this connection.
    response
        .head_mut()
        .set_connection_type(ConnectionType::Close);
    if !has_chunks(request) {
        response.head_mut().no_chunking(true);
    }
    response
}

fn parse_envelope(params: &Params) -> Result<Envelope, ApiError> {
    match params.one("envelope")? {
        None => Ok(Envelope::None),
        Some("json") => Ok(Envelope::Json),
        Some(_) => Err(ApiError::InvalidParameter {
            name: "envelope",
            why: "must be \"json\"".to_owned(),
        }),
    }
}
