//! Headers that every response has, whichever handler or error made it.
//!
//! A cache must not store any response: `GET /event/{action}` publishes, so a stored response would
//! be an event that is acknowledged and lost. Rules such as nginx's `proxy_cache_valid any` also
//! store errors. A handler that needs another `Cache-Control` sets its own.
//!
//! `Cross-Origin-Resource-Policy` keeps pages of other origins from embedding responses as images or
//! scripts, which CORS does not prevent. A server whose operator names other origins answers their
//! pages, so its policy is `cross-origin`, and CORS decides what they can read.
//!
//! A URL can contain names of channels. `Referrer-Policy` keeps them from the sites that a browser
//! opens from a response.

use std::time::Duration;

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
};
use actix_web_lab::extract::LocalData;

use super::{access::origins::Origins, state::AppState};

/// The header of a response that proxies must not store, buffer or compress: a compressor holds
/// back the end of an event until it has enough bytes for the next block.
pub(super) const NO_STORE_NO_TRANSFORM: (HeaderName, &str) =
    (header::CACHE_CONTROL, "no-store, no-transform");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// The headers of every response that depend on the settings.
#[derive(Debug, Clone)]
pub struct CommonHeaders {
    resource_policy: &'static str,
    /// `None` if the setting is off.
    transport_security: Option<HeaderValue>,
}

impl CommonHeaders {
    /// Creates the headers of a server whose pages and clients have these `origins`. With `hsts`,
    /// browsers use only HTTPS for the host during this time.
    #[must_use]
    pub fn new(origins: &Origins, hsts: Option<Duration>) -> Self {
        Self {
            resource_policy: if origins.is_empty() {
                "same-origin"
            } else {
                "cross-origin"
            },
            transport_security: hsts.and_then(|time| {
                let value = format!("max-age={}", time.as_secs());
                HeaderValue::from_maybe_shared(value).ok()
            }),
        }
    }

    /// Sets the headers that every response has.
    pub(super) fn set(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        for (name, value) in [
            // A browser must not take data, which publishers choose, for a page or a script.
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (CROSS_ORIGIN_RESOURCE_POLICY, self.resource_policy),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(value) = &self.transport_security {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
        }
    }
}

/// Middleware: adds the headers that every response has.
///
/// # Errors
///
/// Those of the services inside.
pub async fn add_common_headers<B: MessageBody>(
    state: LocalData<AppState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let mut response = next.call(request).await?;
    state.common_headers.set(response.headers_mut());
    Ok(response)
}
