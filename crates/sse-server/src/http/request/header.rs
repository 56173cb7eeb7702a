//! Request headers.

use std::borrow::Cow;

use actix_web::{HttpRequest, http::header::HeaderName};

/// Returns the value of a header, or `None` if the request does not have the header.
pub(crate) fn header_text(request: &HttpRequest, name: HeaderName) -> Option<Cow<'_, str>> {
    let value = request.headers().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()))
}
