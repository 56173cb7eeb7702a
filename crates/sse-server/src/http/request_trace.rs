//! Requests report to the open traces, see [`crate::trace`].
//!
//! The middleware `record_rejections` calls this module for every request that arrives while a trace
//! is open. Who the caller is and which channels it names is known from its
//! [`AuditNote`](super::audit::AuditNote), which such a request has even if the audit log is off.

use actix_web::{
    HttpMessage as _, HttpRequest,
    dev::{ServiceRequest, ServiceResponse},
};

use super::{
    access::caller::Caller, audit::AuditNote, rejections::Rejection, request_log::ResponseNote,
};
use crate::trace::{Actor, Happening, Tracer, Traces};

/// The right whose use a trace reports with the ids of the events instead.
const PUBLISH: &str = "publish";
const OK: &str = "ok";

/// Prepares a request for the open traces.
pub(super) fn prepare(traces: &Traces, request: &ServiceRequest) -> AuditNote {
    let mut extensions = request.extensions_mut();
    let note = extensions.get::<AuditNote>().cloned().unwrap_or_default();
    extensions.insert(note.clone());
    extensions.insert(traces.clone());
    note
}

/// Reports a request that has a response.
pub(super) fn report<B>(traces: &Traces, note: &AuditNote, response: &ServiceResponse<B>) {
    let (request, response) = (response.request(), response.response());
    let (identity, right, channels) = note.facts();
    let extensions = response.extensions();
    let rejection = extensions.get::<Rejection>();
    let result = match (rejection, extensions.get::<ResponseNote>()) {
        (Some(rejection), _) => rejection.code,
        (None, Some(ResponseNote::Rejected(reason))) => reason,
        _ => OK,
    };
    if result == OK && right == Some(PUBLISH) {
        return;
    }
    let actor = Actor {
        address: request.peer_addr().map(|peer| peer.ip()),
        identity: identity.as_deref(),
        channels: &channels,
    };
    let happening = Happening::Request {
        method: request.method().as_str(),
        path: request.path(),
        right,
        status: response.status().as_u16(),
        result,
        message: rejection.map(|rejection| &*rejection.message),
    };
    traces.record(&actor, &happening);
}

/// Returns what reports the events or the stream of a request; `None` if no trace was open when it
/// arrived.
pub(super) fn tracer(request: &HttpRequest, caller: &Caller) -> Option<Tracer> {
    let traces = request.extensions().get::<Traces>().cloned()?;
    let address = request.peer_addr().map(|peer| peer.ip());
    Some(Tracer::new(traces, address, caller.identity().clone()))
}
