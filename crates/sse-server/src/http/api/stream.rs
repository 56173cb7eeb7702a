//! `GET /stream`: a stream of one or several channels.
//!
//! This module validates the request and opens the response. `fanout` sends the stream.

use std::{convert::Infallible, time::Duration};

use actix_web::{
    HttpMessage as _, HttpRequest, HttpResponse, HttpResponseBuilder,
    body::{BodyStream, MessageBody},
    dev::ResponseHead,
    http::{
        ConnectionType,
        header::{self, HeaderName},
    },
};
use actix_web_lab::extract::LocalData;
use bytes::{Bytes, BytesMut};
use futures::stream;
use rand::RngExt as _;
use sse_proto::{Channel, EventId, wire};

use crate::http::{
    access::caller::Caller,
    error::ApiResult,
    request::{
        event_filter,
        ignored_upgrade::has_chunks,
        query::Params,
        start_params::{self, StartParam},
    },
    request_log::{ResponseNote, stream_record},
    response_headers::NO_STORE_NO_TRANSFORM,
    state::AppState,
};
use crate::{
    broker::FollowLimitReached,
    budget::ClientNet,
    channel::{Envelope, ReservedChannels, StartAt, SubscriptionOptions},
    fanout::{
        TransferCoding,
        admission::{AdmissionDecision, StreamGuard},
        detach::DetachableSocket,
        multiplexed::MultiplexedStream,
        open_stream::{Handover, OpenStream},
        start::{NewSubscription, is_over, start_subscription},
        stream_body,
    },
};

/// Makes nginx send the response without buffering it.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a client asks for.
struct StreamRequest {
    channels: Vec<Channel>,
    options: SubscriptionOptions,
    start: Option<StartParam>,
}

impl StreamRequest {
    const fn resumes(&self) -> bool {
        matches!(self.start, Some(StartParam::Resume(_)))
    }
}

/// Subscribes to one or several channels.
pub(crate) async fn stream(
    request: HttpRequest,
    state: LocalData<AppState>,
    _caller: Caller,
) -> ApiResult<HttpResponse> {
    let asked = parse_request(&request)?;
    let client = ClientNet::of_request(&request);
    let reserved = state.hub.reserve(&asked.channels, client);
    let may_stream = may_stream(&request);
    let admission = &state.streams.admission;
    let may_open = may_stream && reserved.is_ok();
    Ok(
        match (admission.admit(asked.resumes(), may_open), reserved) {
            (AdmissionDecision::Admitted(guard), Ok(reserved)) => {
                open_stream(&request, &state, asked, guard, reserved).await
            }
            (AdmissionDecision::Admitted(guard) | AdmissionDecision::Rejected(guard), reserved) => {
                reject(&request, guard, rejection_comment(&reserved))
            }
            (AdmissionDecision::Dropped, _) => drop_connection(&request),
        },
    )
}

/// Returns the comment of a stream that ends at once, which names the limit.
const fn rejection_comment<T>(reserved: &Result<T, FollowLimitReached>) -> &'static str {
    match reserved {
        Ok(_) => "too many open streams; reconnect later",
        Err(FollowLimitReached) => "too many channels with open streams; reconnect later",
    }
}

fn parse_request(request: &HttpRequest) -> ApiResult<StreamRequest> {
    let params = start_params::parse_query(request, &["channel", "event", "envelope"])?;
    Ok(StreamRequest {
        channels: params.channels()?,
        options: parse_options(&params)?,
        start: StartParam::from_request(request, &params)?,
    })
}

fn parse_options(params: &Params) -> ApiResult<SubscriptionOptions> {
    Ok(SubscriptionOptions {
        filter: event_filter::parse(params)?,
        envelope: parse_envelope(params)?,
        until: start_params::parse_until(params)?,
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
    mut guard: StreamGuard,
    reserved: ReservedChannels,
) -> HttpResponse {
    let comment = opening_comment(&channels);
    let client = ClientNet::of_request(request);
    let searcher = state.streams.pages.searches().of_client(client);
    let until = options.until;
    let broker = state.hub.broker();
    let starts =
        start_params::start_positions(start.as_ref(), StartAt::Now, channels, broker).await;
    let subscription = start_subscription(&state.hub, starts, &options, searcher.clone()).await;
    if let (Some(bound), NewSubscription::Ready(subscription)) = (until, &subscription)
        && is_over(&state.hub, subscription, &options.filter, bound).await
    {
        return no_content();
    }
    if let Some(log) = &state.access_log {
        guard.set_record(stream_record(log, request));
    }
    let stream = OpenStream {
        subscription,
        until,
        guard,
        reserved,
        searcher,
        handover: handover(request),
        multiplexed: multiplexed(request),
    };
    let body = stream_body::stream_body(state.streams.clone(), stream, &comment);
    with_note(event_stream(request, body), ResponseNote::StreamStart)
}

/// Returns the response with what the access log reports about it.
fn with_note(mut response: HttpResponse, note: ResponseNote) -> HttpResponse {
    response.extensions_mut().insert(note);
    response
}

/// Returns the one response after which an `EventSource` does not reconnect.
fn no_content() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

/// Returns how the socket can leave actix, if the connection allows it.
fn handover(request: &HttpRequest) -> Option<Handover> {
    let socket = socket_of(request)?.clone();
    let coding = transfer_coding(request);
    // The end of a session of TLS is no end of a body without chunks that every client accepts.
    let may_detach = coding == TransferCoding::Chunked || !socket.uses_tls();
    Some(Handover {
        socket,
        coding,
        may_detach,
    })
}

fn socket_of(request: &HttpRequest) -> Option<&DetachableSocket> {
    request.conn_data()
}

/// Returns the request as its connection knows it, if the connection carries several at a time.
fn multiplexed(request: &HttpRequest) -> Option<MultiplexedStream> {
    request.extensions().get().cloned()
}

/// Whether the connection has room for one more stream.
fn may_stream(request: &HttpRequest) -> bool {
    socket_of(request).is_none_or(DetachableSocket::may_stream)
        && multiplexed(request).is_none_or(|stream| stream.claim_place())
}

/// Returns the coding of the response: an HTTP/1.0 response has no chunks.
fn transfer_coding(request: &HttpRequest) -> TransferCoding {
    if has_chunks(request) {
        TransferCoding::Chunked
    } else {
        TransferCoding::Identity
    }
}

/// Returns the comment of the opening, which names the channels.
fn opening_comment(channels: &[Channel]) -> String {
    let plural = if channels.len() == 1 { "" } else { "s" };
    format!("channel{plural} {}", joined_names(channels))
}

fn joined_names(channels: &[Channel]) -> String {
    let names: Vec<&str> = channels.iter().map(Channel::as_str).collect();
    names.join(", ")
}

/// Returns a stream that ends at once and names a time to reconnect.
///
/// An `EventSource` would never reconnect after a 503. The time is random, so that rejected clients
/// do not return at the same moment.
fn reject(request: &HttpRequest, guard: StreamGuard, comment: &str) -> HttpResponse {
    let opening = rejection(comment);
    // The rejected client counts until its connection is closed, or its response has ended.
    if let Some(socket) = socket_of(request) {
        socket.keep_rejected(guard);
    } else if let Some(stream) = multiplexed(request) {
        stream.keep_rejected(guard);
    }
    let response = event_stream(request, streamed_once(opening));
    with_note(response, ResponseNote::Rejected("limit"))
}

/// Returns a body without a declared length, which ends after `bytes`.
fn streamed_once(bytes: Bytes) -> impl MessageBody + 'static {
    BodyStream::new(stream::once(async move { Ok::<_, Infallible>(bytes) }))
}

fn random_retry() -> Duration {
    Duration::from_millis(rand::rng().random_range(5_000..15_000))
}

fn rejection(comment: &str) -> Bytes {
    let mut opening = BytesMut::new();
    wire::opening(&mut opening, random_retry(), None::<EventId>, comment);
    opening.freeze()
}

/// Closes the connection without a response, because too many clients are being rejected already.
///
/// To an `EventSource` that is a broken connection, after which it reconnects. A connection that
/// carries other requests stays open, and only the request ends.
fn drop_connection(request: &HttpRequest) -> HttpResponse {
    if let Some(connection) = socket_of(request) {
        connection.close();
    }
    if let Some(stream) = multiplexed(request) {
        stream.refuse();
    }
    // If the connection cannot be closed, this is the shortest response.
    with_note(event_stream(request, ()), ResponseNote::Rejected("dropped"))
}

fn event_stream(request: &HttpRequest, body: impl MessageBody + 'static) -> HttpResponse {
    let mut response = stream_headers().body(body);
    set_framing(response.head_mut(), request);
    response
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

fn parse_envelope(params: &Params) -> ApiResult<Envelope> {
    if params.is_given("envelope", "json")? {
        Ok(Envelope::Json)
    } else {
        Ok(Envelope::None)
    }
}
