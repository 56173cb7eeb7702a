//! The `Idempotency-Key` of a publish: what a key may be.

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
};

use super::query::{MoreThanOne, at_most_one};
use crate::{
    broker::idempotency::Fingerprint,
    http::error::{ApiError, ApiResult},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const KEY_BYTES_MAX: usize = 255;

/// Parses a key: visible ASCII only, so that every client and log can show it.
pub(crate) fn parse(text: &[u8]) -> Result<Fingerprint, &'static str> {
    if is_valid(text) {
        Ok(Fingerprint::of_key(text))
    } else {
        Err("a key is 1 to 255 visible ASCII characters, without spaces")
    }
}

fn is_valid(text: &[u8]) -> bool {
    (1..=KEY_BYTES_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

/// Returns the key in the header of the request, or `None` if it has none.
pub(crate) fn from_header(request: &HttpRequest) -> ApiResult<Option<Fingerprint>> {
    header_value(request)
        .and_then(|value| value.map(|value| parse(value.as_bytes())).transpose())
        .map_err(ApiError::InvalidIdempotencyKey)
}

fn header_value(request: &HttpRequest) -> Result<Option<&HeaderValue>, &'static str> {
    at_most_one(request.headers().get_all(IDEMPOTENCY_KEY))
        .map_err(|MoreThanOne| "the header is given more than once")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_1_to_255_visible_ascii_characters() {
        let longest = "~".repeat(255);
        for good in [
            "a",
            "!",
            "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"",
            "a=b;c,d/e",
            &longest,
        ] {
            assert!(parse(good.as_bytes()).is_ok(), "{good}");
        }
        let longer = "~".repeat(256);
        for bad in ["", " ", "a b", "a\tb", "a\0", "\u{7f}", "é", &longer] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_ne!(parse(b"a"), parse(b"A"));
    }
}
