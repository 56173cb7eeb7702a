//! `Expect: 100-continue`: a client waits for permission before it sends a body (RFC 9110, section
//! 10.1.1).
//!
//! A body whose declared length exceeds the limit of its route is rejected at once. Otherwise
//! actix sends the permission, and the handler decides everything else.

use actix_http::{Request, Response};
use actix_web::{ResponseError as _, body::BoxBody, http::Method};

use super::{body::declared_length, query::find_param};
use crate::ListenAddress;
use crate::http::{
    request_limits::{Limit, RequestLimits},
    request_log::log_rejection,
    state::AppState,
};

/// Returns the request if its client may send the body. A rejection is logged, because the app does
/// not see it.
///
/// # Errors
///
/// The response to a request whose body is too large.
pub fn check_expectation(
    mut request: Request,
    state: &AppState,
    address: &ListenAddress,
) -> Result<Request, Response<BoxBody>> {
    let length = declared_length(&request.head().headers);
    if let (Some(limit), Some(length)) = (limit_of_route(&request, &state.limits), length)
        && let Err(error) = limit.check(length)
    {
        let mut response = error.error_response();
        if let Some(rejection) = response.extensions().get() {
            state.rejections.record(rejection);
        }
        state.common_headers.set(response.headers_mut());
        let response = response.into();
        if let Some(log) = &state.access_log {
            let client = state
                .trusted_proxies
                .client_address(request.head(), address);
            request.head_mut().peer_addr = client;
            log_rejection(log, &request, &response);
        }
        return Err(response);
    }
    Ok(request)
}

/// Returns the limit of a body, or `None` if the route has no body.
fn limit_of_route(request: &Request, limits: &RequestLimits) -> Option<Limit> {
    match request.path() {
        _ if request.method() != Method::POST => None,
        // Its lines have a limit, and its body has none.
        "/events" if is_streaming_publish(request) => None,
        "/events" => Some(limits.batch_bytes()),
        path => path.starts_with("/event/").then(|| limits.event_bytes()),
    }
}

fn is_streaming_publish(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    find_param(query, "mode").is_ok_and(|mode| mode.as_deref() == Some("stream"))
}
