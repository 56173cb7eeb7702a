//! Who may use `/admin`.
//!
//! With access rules the rights decide. Without them the routes answer only a program or page of
//! this machine: a request to a loopback address, for a host of this machine, and without a header
//! of a proxy. A loopback address alone proves nothing, because behind a proxy on the same machine
//! every request comes from one.

use actix_web::{HttpRequest, http::header};
use sse_cli::loopback::is_loopback_ip;

use crate::{
    access::ServerRight,
    http::{
        access::{caller::Caller, host::names_this_machine},
        error::{ApiError, ApiResult},
        request::listen_address::listen_address,
        state::AppState,
    },
};

/// Headers that proxies add.
const FORWARDING_HEADERS: [&str; 5] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "via",
];

/// Rejects a caller that may not use a route of `/admin` that needs `right`.
pub(super) fn check_permission(
    request: &HttpRequest,
    state: &AppState,
    caller: &Caller,
    right: ServerRight,
) -> ApiResult<()> {
    if state.access.access().has_rules() {
        return caller.require_server(right);
    }
    if is_of_this_machine(request) {
        // A page of another site could send a change without reading the response.
        return state.origins.check_publish(request);
    }
    Err(ApiError::AdminNeedsRules)
}

fn is_of_this_machine(request: &HttpRequest) -> bool {
    let address = listen_address(request).tcp();
    let is_to_loopback = address.is_some_and(|address| is_loopback_ip(address.ip()));
    let is_forwarded = FORWARDING_HEADERS
        .iter()
        .any(|name| request.headers().contains_key(*name));
    is_to_loopback
        && !is_forwarded
        && request.headers().contains_key(header::HOST)
        && names_this_machine(request)
}
