//! `GET /stream`: a stream of one or several channels.
//!
//! This module validates the request and opens the response. `fanout` sends the stream.

use std::time::Instant;

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use actix_web_lab::extract::LocalData;
use bytes::Bytes;
use sse_proto::Channel;

use super::{
    data_profile,
    stream_details::{show_opening, stream_details},
    stream_response::{add_class_headers, event_stream, rejection, rejection_retry, streamed_once},
    stream_shares::{NoShare, StreamShares, TOO_MANY_STREAMS, take_shares},
};
use crate::http::{
    access::{caller::Caller, channel_query::ChannelQuery},
    error::{ApiError, ApiResult},
    request::{
        event_filter,
        ignored_upgrade::has_chunks,
        query::Params,
        start_params::{self, StartParam},
    },
    request_log::ResponseNote,
    state::AppState,
};
use crate::{
    budget::ClientNet,
    channel::{Envelope, MultiSubscription, StartAt, SubscriptionOptions},
    fanout::{
        TransferCoding,
        admission::{AdmissionDecision, RejectReason},
        detach::DetachableSocket,
        multiplexed::MultiplexedStream,
        open_stream::{Handover, OpenStream},
        start::{NewSubscription, is_over, start_subscription},
        stream_body,
        stream_caller::StreamCaller,
        stream_guard::{CloseReason, StreamGuard},
    },
};

/// What a client asks for.
struct StreamRequest {
    channels: Vec<Channel>,
    options: SubscriptionOptions,
    start: Option<StartParam>,
    /// A finished channel is a 204 at once.
    if_open: bool,
}

impl StreamRequest {
    const fn resumes(&self) -> bool {
        matches!(self.start, Some(StartParam::Resume(_)))
    }

    /// Whether the log may be read for this stream alone.
    fn searches(&self) -> bool {
        match self.start {
            Some(StartParam::Last(_)) => true,
            Some(StartParam::Since(_) | StartParam::Oldest) => !self.options.filter.is_all(),
            Some(StartParam::Resume(_)) | None => false,
        }
    }
}

/// Subscribes to one or several channels.
pub(crate) async fn stream(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Result<Caller, ApiError>,
) -> ApiResult<HttpResponse> {
    let caller = match caller {
        // A 503 would end an `EventSource`, although the condition is temporary.
        Err(ApiError::AccessUnavailable) if !data_profile::is_wanted(&request) => {
            return Ok(refuse(&request, &state, NoShare::AccessUnavailable));
        }
        caller => caller?,
    };
    let asked = parse_request(&request, &caller)?;
    let shares = take_shares(&request, &state, &caller, &asked.channels, asked.searches());
    let refused = shares.as_ref().err().copied();
    let reason = refused.map(NoShare::reason);
    let has_only_data = asked.options.envelope == Envelope::Data;
    let decision = state.streams.admission.admit(asked.resumes(), reason);
    Ok(match (decision, shares) {
        (AdmissionDecision::Admitted(guard), Ok(shares)) => {
            open_stream(&request, &state, &caller, asked, guard, shares).await?
        }
        _ if has_only_data => return Err(data_profile::rejection(refused)),
        (AdmissionDecision::Rejected(guard, reason), _) => {
            let comment = refused.map_or_else(|| TOO_MANY_STREAMS.to_owned(), NoShare::comment);
            let retry = rejection_retry(&state.streams.drain);
            reject(&request, guard, reason, rejection(retry, &comment))
        }
        (AdmissionDecision::Admitted(_) | AdmissionDecision::Dropped, _) => {
            drop_connection(&request)
        }
    })
}

/// Ends a stream at once, before it is known what the client asks for.
fn refuse(request: &HttpRequest, state: &AppState, why: NoShare) -> HttpResponse {
    match state.streams.admission.admit(false, Some(why.reason())) {
        AdmissionDecision::Rejected(guard, reason) => {
            let retry = rejection_retry(&state.streams.drain);
            reject(request, guard, reason, rejection(retry, &why.comment()))
        }
        AdmissionDecision::Admitted(_) | AdmissionDecision::Dropped => drop_connection(request),
    }
}

fn parse_request(request: &HttpRequest, caller: &Caller) -> ApiResult<StreamRequest> {
    let known = start_params::known_parameters(&[
        "channel", "event", "envelope", "notices", "profile", "if",
    ]);
    let ChannelQuery { params, channels } =
        ChannelQuery::of_read(request.query_string(), caller, &known)?;
    let mut options = parse_options(&params)?;
    data_profile::parse(&params, &channels, &mut options)?;
    let if_open = data_profile::parse_if_open(&params, &channels)?;
    Ok(StreamRequest {
        channels,
        options,
        if_open,
        start: StartParam::from_request(request, &params)?,
    })
}

fn parse_options(params: &Params) -> ApiResult<SubscriptionOptions> {
    Ok(SubscriptionOptions {
        filter: event_filter::parse(params)?,
        envelope: data_profile::parse_envelope(params)?,
        until: start_params::parse_until(params)?,
        notices: params.is_given("notices", "1")?,
    })
}

async fn open_stream(
    request: &HttpRequest,
    state: &AppState,
    caller: &Caller,
    StreamRequest {
        channels,
        options,
        start,
        if_open,
    }: StreamRequest,
    mut guard: StreamGuard,
    StreamShares { reserved, permit }: StreamShares,
) -> ApiResult<HttpResponse> {
    let comment = opening_comment(&channels);
    let class = match &*channels {
        [channel] => state.hub.broker().classes().class_of(channel),
        _ => None,
    };
    let client = ClientNet::of_request(request);
    let searcher = state.streams.pages.searches().of_client(client);
    let until = options.until;
    let broker = state.hub.broker();
    if if_open
        && let Some(channel) = channels.first()
        && data_profile::is_finished(broker, channel).await?
    {
        return Ok(no_content());
    }
    // An operator can close the stream from here on.
    let details = stream_details(request, state, caller, &channels, permit);
    let stream_caller = details.caller.clone();
    let starting = stream_caller.map(|stream_caller| {
        let list = &state.streams.attached;
        list.add_starting(channels.clone(), stream_caller)
    });
    let starts =
        start_params::start_positions(start.as_ref(), StartAt::Now, channels, broker).await;
    let subscription = start_subscription(&state.hub, starts, &options, searcher.clone()).await;
    if let NewSubscription::Ready(subscription) = &subscription
        && (subscription.is_ended() || is_until_over(state, subscription, &options).await)
    {
        return Ok(no_content());
    }
    if options.envelope == Envelope::Data {
        data_profile::check_start(broker, &subscription).await?;
    }
    show_opening(request, state, &comment);
    guard.set_details(details);
    if let Some(at) = StreamCaller::expiry(caller.identity()) {
        guard.expire_at(at, CloseReason::Expired);
    }
    if let Some(life) = state.streams.life.random_part() {
        guard.end_by(Instant::now() + life, CloseReason::Life);
    }
    let stream = OpenStream {
        subscription,
        until,
        guard,
        reserved,
        searcher,
        handover: handover(request),
        multiplexed: multiplexed(request),
        starting,
    };
    let body = stream_body::stream_body(state.streams.clone(), stream, &comment);
    let mut response = event_stream(request, body);
    add_class_headers(response.headers_mut(), class);
    Ok(with_note(response, ResponseNote::StreamStart))
}

/// Whether the stream has an end, and nothing is left to send before it.
async fn is_until_over(
    state: &AppState,
    subscription: &MultiSubscription,
    options: &SubscriptionOptions,
) -> bool {
    match options.until {
        Some(bound) => is_over(&state.hub, subscription, &options.filter, bound).await,
        None => false,
    }
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

pub(super) fn socket_of(request: &HttpRequest) -> Option<&DetachableSocket> {
    request.conn_data()
}

/// Returns the request as its connection knows it, if the connection carries several at a time.
fn multiplexed(request: &HttpRequest) -> Option<MultiplexedStream> {
    request.extensions().get().cloned()
}

/// Whether the connection has room for one more stream.
pub(in crate::http) fn may_stream(request: &HttpRequest) -> bool {
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
fn reject(
    request: &HttpRequest,
    guard: StreamGuard,
    reason: RejectReason,
    opening: Bytes,
) -> HttpResponse {
    // The rejected client counts until its connection is closed, or its response has ended.
    if let Some(socket) = socket_of(request) {
        socket.keep_rejected(guard);
    } else if let Some(stream) = multiplexed(request) {
        stream.keep_rejected(guard);
    }
    let response = event_stream(request, streamed_once(opening));
    with_note(response, ResponseNote::Rejected(reason.as_str()))
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
