//! What the head of an answer means (WHATWG HTML §9.2.3, and what command-line clients do beyond it).

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{
    StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER},
};

/// What to do after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseAction {
    /// A stream follows.
    Stream,
    /// There is nothing more to come, and the server does not want to be asked again.
    NoContent,
    /// The server cannot now; it may say when to come back.
    RetryLater(Option<Duration>),
    /// Asking again would get the same answer.
    GiveUp(NotAStream),
}

/// What is wrong with an answer that is final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAStream {
    /// Its status.
    #[error("{0}")]
    Status(StatusCode),
    /// Its content type is another one.
    #[error("200 OK with the content type {0:?}, which is not text/event-stream")]
    ContentType(String),
    /// It is compressed, although that was not asked for.
    #[error("200 OK compressed by {0:?}, which was not asked for")]
    Compressed(String),
}

impl ResponseAction {
    /// Judges an answer by its head.
    #[must_use]
    pub fn classify(status: StatusCode, headers: &HeaderMap) -> Self {
        match status {
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
    let header = |name| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let content_type = header(CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("text/event-stream") {
        return Some(NotAStream::ContentType(content_type));
    }
    header(CONTENT_ENCODING)
        .filter(|coding| !coding.trim().eq_ignore_ascii_case("identity"))
        .map(NotAStream::Compressed)
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date, which is taken from the server's own `Date` because clocks differ.
fn parse_retry_after(headers: &HeaderMap) -> Option<Duration> {
    let said = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = said.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text| DateTime::parse_from_rfc2822(text).ok();
    let now = headers
        .get(DATE)
        .and_then(|now| date(now.to_str().ok()?))
        .map_or_else(Utc::now, Into::into);
    Some((date(said)?.to_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn classify(status: u16, headers: &[(HeaderName, &'static str)]) -> ResponseAction {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect();
        ResponseAction::classify(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn an_event_stream_is_told_by_the_essence_of_its_type() {
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
    fn a_compressed_stream_would_be_read_as_garbage() {
        let coded = |coding| {
            classify(
                200,
                &[
                    (CONTENT_TYPE, "text/event-stream"),
                    (CONTENT_ENCODING, coding),
                ],
            )
        };
        assert_eq!(coded("identity"), ResponseAction::Stream);
        assert_eq!(
            coded("gzip"),
            ResponseAction::GiveUp(NotAStream::Compressed("gzip".to_owned()))
        );
    }

    #[test]
    fn trouble_passes_and_refusals_stay() {
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
    fn the_server_says_when_to_come_back() {
        for (said, wait) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("-1", None),
            ("soon", None),
            ("Wed, 21 Oct 2026 07:28:07 GMT", Some(7)),
            ("Wed, 21 Oct 2026 07:27:00 GMT", Some(0)),
        ] {
            let headers = [(RETRY_AFTER, said), (DATE, "Wed, 21 Oct 2026 07:28:00 GMT")];
            assert_eq!(
                classify(429, &headers),
                ResponseAction::RetryLater(wait.map(Duration::from_secs)),
                "{said}"
            );
        }
        // Without its clock, by ours.
        assert_eq!(
            classify(503, &[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT")]),
            ResponseAction::RetryLater(Some(Duration::ZERO))
        );
    }
}
