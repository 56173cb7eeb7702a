//! The header `Last-Event-ID`, by which a stream is resumed (WHATWG HTML §9.2.4).

use reqwest::header::{HeaderName, HeaderValue};

/// The name of the header.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The id as the value of the header, as UTF-8.
///
/// Returns `None` if the id has control characters, which no header can carry.
#[must_use]
pub fn to_header_value(id: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(id.as_bytes()).ok()
}
