//! Headers that every response has, whichever handler or error made it.
//!
//! A cache must not store any response: `GET /event/{action}` publishes, so a stored response would
//! be an event that is acknowledged and lost. Rules such as nginx's `proxy_cache_valid any` also
//! store errors. A handler that needs another `Cache-Control` sets its own.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
};

/// The header of a response that proxies must not store, buffer or compress: a compressor holds
/// back the end of an event until it has enough bytes for the next block.
pub(super) const NO_STORE_NO_TRANSFORM: (HeaderName, &str) =
    (header::CACHE_CONTROL, "no-store, no-transform");

/// Middleware: adds the headers that every response has.
///
/// # Errors
///
/// Those of the services inside.
pub async fn add_common_headers<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let mut response = next.call(request).await?;
    set_common_headers(response.headers_mut());
    Ok(response)
}

/// Sets the headers that every response has.
pub(super) fn set_common_headers(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    // A browser must not take data, which publishers choose, for a page or a script.
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}
