//! The meaning of a response (WHATWG HTML §9.2.3): a stream, the end, or a rejection.

use std::time::Duration;

use crate::decode::content_coding::effective_codings;

/// Limit of characters of a content type or a location in the report.
const SHOWN_CHARACTERS_MAX: usize = 100;

/// What a response means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResponseKind {
    /// Events follow.
    Stream,
    /// 204: the stream has ended for good, and the server wants no further request.
    NoContent,
    /// Any other response.
    Rejected(Rejection),
}

/// A response that is not a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// Describes the response; rejections of the same kind are counted together.
    pub(crate) kind: String,
    /// The target of a redirect.
    pub(crate) location: Option<String>,
    /// A later attempt can succeed (5xx, 408, 429).
    pub(crate) is_transient: bool,
    /// The time that the server asks the client to wait.
    pub(crate) retry_after: Option<Duration>,
}

/// Classifies a response by its status and headers.
pub(super) fn classify(status: u16, headers: &[httparse::Header<'_>]) -> ResponseKind {
    let kind = match status {
        200 => match check_content(headers) {
            Ok(()) => return ResponseKind::Stream,
            Err(problem) => format!("200 {problem}"),
        },
        204 => return ResponseKind::NoContent,
        300..=399 => format!("{status}, a redirect, which bench does not follow"),
        _ => status.to_string(),
    };
    let is_transient = matches!(status, 408 | 429 | 500..=599);
    ResponseKind::Rejected(Rejection {
        kind,
        location: header_values(headers, "location")
            .next()
            .filter(|_| matches!(status, 300..=399))
            .map(printable),
        is_transient,
        retry_after: parse_retry_after(headers).filter(|_| is_transient),
    })
}

/// The values of a header, in order.
pub(super) fn header_values<'a>(
    headers: &'a [httparse::Header<'a>],
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

fn check_content(headers: &[httparse::Header<'_>]) -> Result<(), String> {
    let content_type = header_values(headers, "content-type")
        .next()
        .unwrap_or_default();
    let essence = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if !essence.eq_ignore_ascii_case(b"text/event-stream") {
        return Err(format!(
            "with the content type {:?}, which is not text/event-stream",
            printable(content_type)
        ));
    }
    match effective_codings(header_values(headers, "content-encoding")) {
        Some(codings) => Err(format!(
            "compressed by {:?}, which was not requested",
            printable(codings.as_bytes())
        )),
        None => Ok(()),
    }
}

/// `Retry-After` in seconds. A date is ignored.
fn parse_retry_after(headers: &[httparse::Header<'_>]) -> Option<Duration> {
    let value = header_values(headers, "retry-after").next()?;
    let seconds = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn printable(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .chars()
        .filter(|c| !c.is_control())
        .take(SHOWN_CHARACTERS_MAX)
        .collect()
}
