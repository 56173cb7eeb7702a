//! The head of a response.

use std::time::SystemTime;

use actix_http::{
    ResponseHead,
    header::{HeaderName, HttpDate, TryIntoHeaderValue as _},
};
use actix_web::{
    body::BodySize,
    http::{StatusCode, header},
};

/// Fields about the connection, which HTTP/2 forbids (RFC 9113, section 8.2.2).
const CONNECTION_FIELDS: [HeaderName; 3] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// The same, without constants.
const OLD_CONNECTION_FIELDS: [&str; 2] = ["keep-alive", "proxy-connection"];

/// Returns the head for `h2`. `size` is that of the body.
pub(super) fn convert_head(head: &ResponseHead, size: BodySize) -> http::Response<()> {
    let mut response = http::Response::new(());
    if let Ok(status) = http::StatusCode::from_u16(head.status.as_u16()) {
        *response.status_mut() = status;
    }
    let fields = response.headers_mut();
    for (name, value) in &head.headers {
        if !is_about_connection(name) {
            append_field(fields, name.as_str(), value.as_bytes());
        }
    }
    if let BodySize::Sized(length) = size
        && head.status != StatusCode::NO_CONTENT
    {
        fields.insert(http::header::CONTENT_LENGTH, length.into());
    }
    if !fields.contains_key(http::header::DATE)
        && let Ok(date) = HttpDate::from(SystemTime::now()).try_into_value()
    {
        append_field(fields, "date", date.as_bytes());
    }
    response
}

fn is_about_connection(name: &HeaderName) -> bool {
    CONNECTION_FIELDS.contains(name) || OLD_CONNECTION_FIELDS.contains(&name.as_str())
}

/// Adds a field. actix has checked its name and value by the same rules.
fn append_field(fields: &mut http::HeaderMap, name: &str, value: &[u8]) {
    if let (Ok(name), Ok(value)) = (
        http::HeaderName::from_bytes(name.as_bytes()),
        http::HeaderValue::from_bytes(value),
    ) {
        fields.append(name, value);
    }
}
