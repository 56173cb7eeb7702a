//! Classification of a response by its status and headers (WHATWG HTML §9.2.3, and the practice of
//! command-line clients). Pure.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use sse_cli::retry_after::parse_retry_after;

use crate::decode::content_coding::effective_codings;

/// What to do after a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseAction {
    /// Read the stream.
    Stream,
    /// Stop: the stream has ended for good, and the server wants no further request (204).
    NoContent,
    /// Try again, after the time that the server asks for.
    RetryLater(Option<Duration>),
    /// Stop: every further attempt would get the same response.
    GiveUp(NotAStream),
}

/// Why a response is not a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAStream {
    /// The status.
    #[error("{0}")]
    Status(StatusCode),
    /// The content type.
    #[error("200 OK with the content type {0:?}, which is not text/event-stream")]
    ContentType(String),
    /// A compression that was not requested.
    #[error("200 OK compressed by {0:?}, which was not requested")]
    Compressed(String),
}

impl ResponseAction {
    /// Classifies a response by its status and headers. `retried` are further statuses that are
    /// transient for this server (`--retry-status`).
    #[must_use]
    pub fn classify(status: StatusCode, headers: &HeaderMap, retried: &[StatusCode]) -> Self {
        match status {
            _ if retried.contains(&status) => Self::RetryLater(parse_retry_after(headers)),
            StatusCode::OK => match check_content(headers) {
                Some(wrong) => Self::GiveUp(wrong),
                None => Self::Stream,
            },
            StatusCode::NO_CONTENT => Self::NoContent,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Self::RetryLater(parse_retry_after(headers))
            }
            _ if status.is_server_error() => Self::RetryLater(parse_retry_after(headers)),
            _ => Self::GiveUp(NotAStream::Status(status)),
        }
    }
}

fn check_content(headers: &HeaderMap) -> Option<NotAStream> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("text/event-stream") {
        return Some(NotAStream::ContentType(content_type));
    }
    let codings = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .map(HeaderValue::as_bytes);
    effective_codings(codings).map(NotAStream::Compressed)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{DATE, HeaderName, RETRY_AFTER};

    use super::*;

    fn classify(status: u16, headers: &[(HeaderName, &'static str)]) -> ResponseAction {
        classify_with(&[], status, headers)
    }

    fn classify_with(
        retried: &[StatusCode],
        status: u16,
        headers: &[(HeaderName, &'static str)],
    ) -> ResponseAction {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect();
        ResponseAction::classify(StatusCode::from_u16(status).unwrap(), &headers, retried)
    }

    #[test]
    fn an_event_stream_is_recognised_by_the_essence_of_its_type() {
        for good in [
            "text/event-stream",
            "text/event-stream;charset=utf-8",
            "Text/Event-Stream ; a=b",
        ] {
            assert_eq!(
                classify(200, &[(CONTENT_TYPE, good)]),
                ResponseAction::Stream,
                "{good}"
            );
        }
        for bad in [
            "text/html",
            "text/event-stream2",
            "application/json; a=text/event-stream",
            "",
        ] {
            let wrong = NotAStream::ContentType(bad.to_owned());
            assert_eq!(
                classify(200, &[(CONTENT_TYPE, bad)]),
                ResponseAction::GiveUp(wrong),
                "{bad}"
            );
        }
        assert_eq!(
            classify(200, &[]),
            ResponseAction::GiveUp(NotAStream::ContentType(String::new()))
        );
    }

    #[test]
    fn a_compressed_stream_is_rejected() {
        let coded = |coding| {
            classify(
                200,
                &[
                    (CONTENT_TYPE, "text/event-stream"),
                    (CONTENT_ENCODING, coding),
                ],
            )
        };
        for plain in ["identity", "none", "NONE", "", "Identity, none"] {
            assert_eq!(coded(plain), ResponseAction::Stream, "{plain:?}");
        }
        for compressed in ["gzip", "none, gzip"] {
            assert_eq!(
                coded(compressed),
                ResponseAction::GiveUp(NotAStream::Compressed("gzip".to_owned()))
            );
        }
    }

    #[test]
    fn server_errors_are_transient_and_other_statuses_are_permanent() {
        assert_eq!(classify(204, &[]), ResponseAction::NoContent);
        for passing in [408, 429, 500, 502, 503, 504, 599] {
            assert_eq!(
                classify(passing, &[]),
                ResponseAction::RetryLater(None),
                "{passing}"
            );
        }
        for lasting in [201, 205, 206, 300, 304, 400, 401, 403, 404, 405, 410, 422] {
            assert!(
                matches!(
                    classify(lasting, &[]),
                    ResponseAction::GiveUp(NotAStream::Status(_))
                ),
                "{lasting}"
            );
        }
    }

    #[test]
    fn statuses_of_the_user_are_transient_too() {
        let retried = [StatusCode::NOT_FOUND, StatusCode::NO_CONTENT];
        for status in [404, 204, 503] {
            assert_eq!(
                classify_with(&retried, status, &[(RETRY_AFTER, "7")]),
                ResponseAction::RetryLater(Some(Duration::from_secs(7))),
                "{status}"
            );
        }
        assert!(matches!(
            classify_with(&retried, 403, &[]),
            ResponseAction::GiveUp(_)
        ));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (value, wait) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("-1", None),
            ("soon", None),
            ("Wed, 21 Oct 2026 07:28:07 GMT", Some(7)),
            ("Wed, 21 Oct 2026 07:27:00 GMT", Some(0)),
        ] {
            let headers = [
                (RETRY_AFTER, value),
                (DATE, "Wed, 21 Oct 2026 07:28:00 GMT"),
            ];
            assert_eq!(
                classify(429, &headers),
                ResponseAction::RetryLater(wait.map(Duration::from_secs)),
                "{value}"
            );
        }
        // Without a `Date`, the date is relative to this machine's clock.
        assert_eq!(
            classify(503, &[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT")]),
            ResponseAction::RetryLater(Some(Duration::ZERO))
        );
    }
}
