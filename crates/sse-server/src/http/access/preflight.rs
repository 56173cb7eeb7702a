//! CORS preflights: before a page of another origin sends certain requests, its browser asks
//! whether it may.
//!
//! The server ignores request headers that it does not know. So a page of an allowed origin may
//! send all headers that it asks for, such as those that a proxy or a tracing library needs.

use actix_web::{
    HttpResponse,
    dev::ServiceRequest,
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};

use super::{allow_origin::allow_origin, origins::Origins};
use crate::http::error::{ApiError, ApiResult, shortened};

/// Request headers on which the response to a preflight depends.
pub(super) const VARY_OF_PREFLIGHT: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);
/// Seconds for which a browser may remember a preflight.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("3600");
/// Names of headers in one preflight.
const NAMES_MAX: usize = 32;

/// A preflight.
pub(super) struct Preflight<'a> {
    origin: &'a HeaderValue,
    method: &'a HeaderValue,
    headers: &'a HeaderMap,
    path: &'a str,
}

impl<'a> Preflight<'a> {
    /// Returns the preflight that a request is, if it is one.
    pub(super) fn from_request(
        request: &'a ServiceRequest,
        origin: Option<&'a HeaderValue>,
    ) -> Option<Self> {
        let headers = request.headers();
        let method = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        (request.method() == Method::OPTIONS).then_some(Self {
            origin: origin?,
            method,
            headers,
            path: request.path(),
        })
    }

    /// Returns the response that lets the page send its request.
    ///
    /// # Errors
    ///
    /// `ApiError::PreflightRejected`: it names the header that asks for too much.
    pub(super) fn response(&self, origins: &Origins) -> ApiResult<HttpResponse> {
        let methods = self.allowed_methods(origins)?;
        let names = self.requested_names()?;
        let mut response = HttpResponse::Ok().finish();
        let headers = response.headers_mut();
        allow_origin(headers, origins, Some(self.origin.clone()));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
        if let Some(names) = names {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        Ok(response)
    }

    fn allowed_methods(&self, origins: &Origins) -> ApiResult<HeaderValue> {
        let origin = text(self.origin);
        let shown = shortened(&origin);
        if !origins.may_read(&origin) {
            return Err(rejected(format!(
                "Origin: {shown} is not allowed. --cors-origin allows it to read, \
                 --publish-origin to read and publish"
            )));
        }
        if !self.is_of_a_route() {
            return Err(rejected(format!(
                "Access-Control-Request-Method: {} is not a method of this server; pages may send \
                 GET, HEAD, POST, PUT and DELETE",
                shortened(text(self.method))
            )));
        }
        if origins.may_publish(&origin) {
            return Ok(HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE"));
        }
        if self.publishes() {
            return Err(rejected(format!(
                "Origin: {shown} may only read. --publish-origin allows it to publish too"
            )));
        }
        Ok(HeaderValue::from_static("GET, HEAD"))
    }

    fn is_of_a_route(&self) -> bool {
        ["GET", "HEAD", "POST", "PUT", "DELETE"].contains(&text(self.method).as_str())
    }

    /// Whether the request that follows changes something.
    fn publishes(&self) -> bool {
        !["GET", "HEAD"].contains(&text(self.method).as_str()) || self.path.starts_with("/event/")
    }

    /// Returns the names of the headers that the page wants to send, as one header value.
    fn requested_names(&self) -> ApiResult<Option<HeaderValue>> {
        let values = self
            .headers
            .get_all(header::ACCESS_CONTROL_REQUEST_HEADERS)
            .map(text);
        let names: Vec<String> = values.collect();
        let names: Vec<&str> = names.iter().flat_map(|names| list_items(names)).collect();
        if names.len() > NAMES_MAX {
            return Err(bad_names(&format!("has more than {NAMES_MAX} names")));
        }
        if let Some(bad) = names.iter().find(|name| !is_name(name)) {
            return Err(bad_names(&format!(
                "{:?} is not the name of a header",
                shortened(bad)
            )));
        }
        let value = HeaderValue::from_str(&names.join(", ")).ok();
        Ok(value.filter(|value| !value.is_empty()))
    }
}

/// Returns the items of a comma-separated list (RFC 9110, section 5.6.1), without empty ones.
fn list_items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn is_name(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn bad_names(why: &str) -> ApiError {
    rejected(format!("Access-Control-Request-Headers: {why}"))
}

fn rejected(why: String) -> ApiError {
    ApiError::PreflightRejected(why)
}
