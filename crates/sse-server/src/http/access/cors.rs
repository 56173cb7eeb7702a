//! The CORS headers of responses (Fetch standard, CORS protocol).
//!
//! Without a named origin, no response has these headers, and a preflight is an `OPTIONS` like any
//! other. [`preflight`](super::preflight) answers preflights.

use actix_web::{
    Error, ResponseError as _,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderValue},
    middleware::Next,
};
use actix_web_lab::extract::LocalData;

use super::{
    allow_origin::allow_origin,
    origins::Origins,
    preflight::{Preflight, VARY_OF_PREFLIGHT},
};
use crate::http::{
    error::{ApiError, ApiResult},
    request::query::{MoreThanOne, at_most_one},
    state::AppState,
};

/// Response headers that pages can read, beyond those that they always can.
const EXPOSED_HEADERS: HeaderValue =
    HeaderValue::from_static("ETag, Link, Retry-After, WWW-Authenticate");

/// Middleware: answers preflights, and adds the CORS headers to all other responses.
///
/// # Errors
///
/// Those of the services inside.
pub async fn apply_cors<B: MessageBody + 'static>(
    state: LocalData<AppState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let origins = &state.origins;
    let origin = match origin_header(&request) {
        Ok(origin) => origin,
        Err(error) => return Ok(request.error_response(error).map_into_right_body()),
    };
    if origins.is_empty() {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    if let Some(preflight) = Preflight::from_request(&request, origin.as_ref()) {
        let response = preflight.response(origins);
        let mut response = response.unwrap_or_else(|error| error.error_response());
        response
            .headers_mut()
            .append(header::VARY, VARY_OF_PREFLIGHT);
        return Ok(request.into_response(response).map_into_right_body());
    }
    let mut response = next.call(request).await?.map_into_left_body();
    add_headers(response.headers_mut(), origins, origin);
    Ok(response)
}

/// Returns the origin of the page that sent the request, or `None` if no page of another origin
/// did.
fn origin_header(request: &ServiceRequest) -> ApiResult<Option<HeaderValue>> {
    at_most_one(request.headers().get_all(header::ORIGIN))
        .map(Option::<&HeaderValue>::cloned)
        .map_err(|MoreThanOne| ApiError::RepeatedHeader("Origin"))
}

fn add_headers(headers: &mut HeaderMap, origins: &Origins, origin: Option<HeaderValue>) {
    if !origins.every_page_may_read() {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if allow_origin(headers, origins, origin) {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }
}
