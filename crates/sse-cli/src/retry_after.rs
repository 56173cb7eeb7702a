//! The header `Retry-After` (RFC 9110 §10.2.3): how long a server asks its clients to wait.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{
    HeaderMap,
    header::{DATE, RETRY_AFTER},
};

/// Parses the header: seconds, or a date. Returns `None` if there is no valid one.
///
/// A date is relative to the `Date` of the server, because clocks differ.
#[must_use]
pub fn parse_retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text| DateTime::parse_from_rfc2822(text).ok();
    let now = headers
        .get(DATE)
        .and_then(|now| date(now.to_str().ok()?))
        .map_or_else(Utc::now, Into::into);
    Some((date(value)?.to_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_wait_is_in_seconds_or_ends_at_a_date() {
        for (value, seconds) in [
            ("7", Some(7)),
            ("Wed, 21 Oct 2026 07:28:07 GMT", Some(7)),
            ("Wed, 21 Oct 2026 07:27:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            let now = HeaderValue::from_static("Wed, 21 Oct 2026 07:28:00 GMT");
            headers.insert(DATE, now);
            assert_eq!(
                parse_retry_after(&headers),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
        assert_eq!(parse_retry_after(&HeaderMap::new()), None);
    }
}
