//! The header `Access-Control-Allow-Origin` (Fetch standard, CORS protocol).

use actix_web::http::header::{self, HeaderMap, HeaderValue};

use super::origins::Origins;

/// Adds the headers that let pages of `origin` read the response; returns whether they may.
pub(super) fn allow_origin(
    headers: &mut HeaderMap,
    origins: &Origins,
    origin: Option<HeaderValue>,
) -> bool {
    let Some(allowed) = allowed_origin(origins, origin) else {
        return false;
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if origins.allows_credentials() {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    true
}

/// Returns the value of `Access-Control-Allow-Origin`. A response that every page may read has the
/// same value for all of them, so it also fits the next page.
fn allowed_origin(origins: &Origins, origin: Option<HeaderValue>) -> Option<HeaderValue> {
    if origins.every_page_may_read() {
        return Some(HeaderValue::from_static("*"));
    }
    origin.filter(|origin| origin.to_str().is_ok_and(|origin| origins.may_read(origin)))
}
