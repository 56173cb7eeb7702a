//! `GET /stream`: a stream of one or several channels, which ends by itself only if it is told when.

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

use crate::http::{
    access::caller::Caller,
    error::ApiError,
    request::{
        event_filter,
        query::Params,
        start_params::{self, PARAMETERS, StartParam},
    },
    state::AppState,
};
use crate::{
    channel::{Envelope, StartAt, SubscriptionOptions},
    fanout::{
        TransferCoding,
        admission::{AdmissionDecision, StreamGuard},
        detach::DetachableSocket,
        start::{NewSubscription, is_over, start_subscription},
        stream_body::{self, Handover},
    },
};

/// For nginx: do not buffer this response.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Subscribes to one or several channels.
pub(crate) async fn stream(
    request: HttpRequest,
    state: LocalData<AppState>,
    _caller: Caller,
) -> Result<HttpResponse, ApiError> {
    let known = [&["channel", "event", "envelope"], &PARAMETERS[..]].concat();
    let params = Params::parse(request.query_string(), &known)?;
    let channels = params.channels()?;
    let options = SubscriptionOptions {
        filter: event_filter::parse(&params)?,
        envelope: envelope(&params)?,
        until: start_params::parse_until(&params)?,
    };
    let start = StartParam::from_request(&request, &params)?;
    let resumes = matches!(start, Some(StartParam::Resume(_)));
    let guard = match state.streams.admission.admit(resumes) {
        AdmissionDecision::Admitted(guard) => guard,
        AdmissionDecision::Rejected(guard) => return Ok(turned_away(&request, guard)),
        AdmissionDecision::Dropped => return Ok(refused(&request)),
    };
    let comment = comment(&channels);
    let until = options.until;
    let broker = state.hub.broker();
    let starts =
        start_params::start_positions(start.as_ref(), StartAt::Now, channels, broker).await;
    let subscription = start_subscription(&state.hub, starts, &options).await;
    if let (Some(bound), NewSubscription::Ready(subscription)) = (until, &subscription)
        && is_over(&state.hub, subscription, &options.filter, bound).await
    {
        // To an `EventSource`, the one answer that means "do not come back".
        return Ok(HttpResponse::NoContent()
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .finish());
    }
    let coding = if has_chunks(&request) {
        TransferCoding::Chunked
    } else {
        TransferCoding::Identity
    };
    let socket = request.conn_data::<DetachableSocket>();
    let handover = socket.map(|socket| Handover {
        socket: socket.clone(),
        coding,
    });
    let body = stream_body::stream_body(
        state.streams.clone(),
        subscription,
        until,
        &comment,
        guard,
        handover,
    );
    Ok(event_stream(&request, body))
}

fn comment(channels: &[Channel]) -> String {
    let names: Vec<&str> = channels.iter().map(Channel::as_str).collect();
    format!(
        "channel{} {}",
        if names.len() == 1 { "" } else { "s" },
        names.join(", ")
    )
}

/// An answer for one subscriber too many: a stream that ends at once and says when to come back. (An `EventSource`
/// would never come back after a 503.) Not all at the same moment, so the time is random.
fn turned_away(request: &HttpRequest, guard: StreamGuard) -> HttpResponse {
    let retry = Duration::from_millis(rand::rng().random_range(5_000..15_000));
    let mut opening = BytesMut::new();
    wire::opening(
        &mut opening,
        retry,
        None::<EventId>,
        "there are too many subscribers: come back later",
    );
    // It counts until its connection is gone.
    if let Some(connection) = request.conn_data::<DetachableSocket>() {
        connection.keep_rejected(guard);
    }
    let opening = opening.freeze();
    event_stream(
        request,
        BodyStream::new(stream::once(async move { Ok::<_, Infallible>(opening) })),
    )
}

/// There is not even time to turn them all away: the connection is closed without a response. To an `EventSource` that
/// is a broken connection, after which it comes back.
fn refused(request: &HttpRequest) -> HttpResponse {
    if let Some(connection) = request.conn_data::<DetachableSocket>() {
        connection.close();
    }
    // Where the connection cannot be closed, this is as short as it gets.
    event_stream(request, ())
}

/// HTTP/1.0 has no chunks: the stream is what comes until the connection closes.
fn has_chunks(request: &HttpRequest) -> bool {
    request.version() >= Version::HTTP_11
}

fn event_stream(request: &HttpRequest, body: impl MessageBody + 'static) -> HttpResponse {
    let mut response = HttpResponse::Ok()
        // With a charset, because some clients take text without one for Latin-1.
        .insert_header((header::CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        .body(body);
    // Nobody parses HTTP on the connection after this.
    response
        .head_mut()
        .set_connection_type(ConnectionType::Close);
    if !has_chunks(request) {
        response.head_mut().no_chunking(true);
    }
    response
}

fn envelope(params: &Params) -> Result<Envelope, ApiError> {
    match params.one("envelope")? {
        None => Ok(Envelope::None),
        Some("json") => Ok(Envelope::Json),
        Some(_) => Err(ApiError::InvalidParameter {
            name: "envelope",
            why: "can only be \"json\"".to_owned(),
        }),
    }
}
