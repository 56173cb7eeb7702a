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

/// Headers that proxies add, beside those that begin with [`FORWARDED_PREFIX`].
const FORWARDING_HEADERS: [&str; 7] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-original-host",
];
const FORWARDED_PREFIX: &str = "x-forwarded-";

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
    caller.note_action(right.as_str(), &[]);
    if is_of_this_machine(request) {
        // A page of another site could send a change without reading the response.
        return state.origins.check_own(request);
    }
    Err(ApiError::AdminNeedsRules)
}

/// Rejects a client of another machine while there are no access rules. The page itself holds no
/// secret, so with access rules everyone may load it, and then needs a credential.
pub(super) fn check_page(request: &HttpRequest, state: &AppState) -> ApiResult<()> {
    if state.access.access().has_rules() || is_of_this_machine(request) {
        return Ok(());
    }
    Err(ApiError::AdminNeedsRules)
}

fn is_of_this_machine(request: &HttpRequest) -> bool {
    let address = listen_address(request);
    let is_to_loopback = address.tcp().is_some_and(|to| is_loopback_ip(to.ip()));
    let is_from_loopback = request
        .peer_addr()
        .is_some_and(|from| is_loopback_ip(from.ip()));
    is_to_loopback
        && is_from_loopback
        && !address.requires_proxy_header()
        && !is_forwarded(request)
        && request.headers().contains_key(header::HOST)
        && names_this_machine(request)
}

fn is_forwarded(request: &HttpRequest) -> bool {
    request.headers().keys().any(|name| {
        let name = name.as_str();
        name.starts_with(FORWARDED_PREFIX) || FORWARDING_HEADERS.contains(&name)
    })
}
