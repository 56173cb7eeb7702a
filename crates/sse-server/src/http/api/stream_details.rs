//! What is kept and shown of a stream that a request opens.

use std::sync::Arc;

use actix_web::HttpRequest;
use sse_proto::Channel;

use super::stream::socket_of;
use crate::{
    access::Right,
    budget::ClientNet,
    fanout::{detach::DetachableSocket, stream_guard::StreamDetails},
    http::{
        access::caller::Caller, request_log::stream_record, request_trace::tracer, state::AppState,
    },
    metrics::recent::{Description, IncidentKind},
    quota::StreamPermit,
};

/// Adds a stream to those that the dashboard shows.
pub(super) fn show_opening(request: &HttpRequest, state: &AppState, channels: &str) {
    let recent = state.metrics.recent();
    recent.stream(IncidentKind::Opened, "opened", || Description {
        caller: request.peer_addr().map(|peer| peer.ip().to_string()),
        detail: Some(channels.to_owned()),
    });
}

/// Returns what the guard of a stream of `channels` keeps.
pub(super) fn stream_details(
    request: &HttpRequest,
    state: &AppState,
    caller: &Caller,
    channels: &[Channel],
    permit: Option<StreamPermit>,
) -> StreamDetails {
    let client = ClientNet::of_request(request);
    let peer = socket_of(request).and_then(DetachableSocket::peer_net);
    let tracer = tracer(request, caller);
    StreamDetails {
        record: state
            .access_log
            .as_ref()
            .map(|log| stream_record(log, request)),
        client: client.filter(|_| client != peer).map(Box::new),
        permit: permit.map(Box::new),
        caller: caller
            .stream_caller(request.peer_addr().map(|peer| peer.ip()), Right::Subscribe)
            .map(Arc::new),
        trace: tracer.map(|tracer| Box::new(tracer.of_stream(channels.to_vec()))),
    }
}
