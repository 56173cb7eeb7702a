//! The head of a response: whole or not yet, and what it says about the stream (RFC 9112, WHATWG HTML §9.2.3).

use std::time::Duration;

use super::body::Body;

/// Bytes that a head may have.
pub(crate) const HEAD_BYTES_MAX: usize = 16 << 10;
/// Header fields that a head may have.
const HEADERS_MAX: usize = 100;
/// Characters of a content type or a location that are repeated to people.
const SHOWN_CHARACTERS_MAX: usize = 100;

/// What a whole head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Where it is over in the bytes that came.
    pub(crate) end: usize,
    /// Whether there is a stream.
    pub(crate) response: ResponseKind,
    /// How the body comes.
    pub(crate) body: Body,
}

/// What is there instead of a stream, or a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResponseKind {
    /// Events follow.
    Stream,
    /// 204: there is nothing more, and the server does not want to be asked again.
    NoContent,
    /// Something else.
    Refused(Refusal),
}

/// An answer that is not a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What kind of answer, for people; the same for all alike.
    pub(crate) kind: String,
    /// Where a redirect leads.
    pub(crate) location: Option<String>,
    /// It may be another one later (5xx, 408, 429).
    pub(crate) passes: bool,
    /// When the server wants to be asked again.
    pub(crate) retry_after: Option<Duration>,
}

/// Why bytes are not the head of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    /// Not HTTP/1.
    #[error("the answer is not HTTP/1.1")]
    NotHttp,
    /// More than 16 KiB, or more than 100 header fields.
    #[error("the head of the answer is too large")]
    TooLarge,
    /// Where the body ends cannot be told.
    #[error("the answer's framing is contradictory or unknown")]
    Framing,
}

/// Reads a head; none while it is not whole. Interim answers (1xx) before it are skipped.
///
/// # Errors
/// The connection cannot be made sense of.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Head>, BadHead> {
    let mut start = 0;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&bytes[start..]) {
            Ok(httparse::Status::Complete(length)) => start += length,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(BadHead::TooLarge);
            }
            Err(_) => return Err(BadHead::NotHttp),
        }
        if start > HEAD_BYTES_MAX {
            return Err(BadHead::TooLarge);
        }
        let status = response.code.ok_or(BadHead::NotHttp)?;
        if !matches!(status, 100..=199) {
            let body = framing(response.headers)?;
            return Ok(Some(Head {
                end: start,
                response: classify(status, response.headers),
                body,
            }));
        } else if status == 101 {
            return Err(BadHead::NotHttp);
        }
    }
}

fn values<'a>(
    headers: &'a [httparse::Header<'a>],
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

fn framing(headers: &[httparse::Header<'_>]) -> Result<Body, BadHead> {
    if let Some(coding) = values(headers, "transfer-encoding").last() {
        // Another coding than chunks we have not asked for, and cannot undo.
        let chunked = coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
        let alone = values(headers, "transfer-encoding").count() == 1;
        return if chunked && alone {
            Ok(Body::CHUNKED)
        } else {
            Err(BadHead::Framing)
        };
    }
    let mut lengths =
        values(headers, "content-length").map(|value| std::str::from_utf8(value).map(str::trim));
    let Some(length) = lengths.next() else {
        return Ok(Body::UntilClose);
    };
    let digits = length
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits
        .and_then(|text| text.parse().ok())
        .ok_or(BadHead::Framing)?;
    if lengths.next().is_some() {
        Err(BadHead::Framing)
    } else {
        Ok(Body::Length(length))
    }
}

fn classify(status: u16, headers: &[httparse::Header<'_>]) -> ResponseKind {
    let refused = |kind: String| {
        let location = values(headers, "location")
            .next()
            .filter(|_| matches!(status, 300..=399))
            .map(shown);
        let passes = matches!(status, 408 | 429 | 500..=599);
        ResponseKind::Refused(Refusal {
            kind,
            location,
            passes,
            retry_after: retry_after(headers).filter(|_| passes),
        })
    };
    match status {
        200 => match wrong_content(headers) {
            None => ResponseKind::Stream,
            Some(wrong) => refused(format!("200 {wrong}")),
        },
        204 => ResponseKind::NoContent,
        300..=399 => refused(format!("{status}, a redirect, which bench does not follow")),
        _ => refused(status.to_string()),
    }
}

fn wrong_content(headers: &[httparse::Header<'_>]) -> Option<String> {
    let content_type = values(headers, "content-type").next().unwrap_or_default();
    let essence = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if !essence.eq_ignore_ascii_case(b"text/event-stream") {
        return Some(format!(
            "with the content type {:?}, which is not text/event-stream",
            shown(content_type)
        ));
    }
    let coding = values(headers, "content-encoding").next()?.trim_ascii();
    if coding.eq_ignore_ascii_case(b"identity") {
        return None;
    }
    Some(format!(
        "compressed by {:?}, which was not asked for",
        shown(coding)
    ))
}

/// In its form of seconds, as the listener reads it.
fn retry_after(headers: &[httparse::Header<'_>]) -> Option<Duration> {
    let seconds = std::str::from_utf8(values(headers, "retry-after").next()?)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .chars()
        .filter(|c| !c.is_control())
        .take(SHOWN_CHARACTERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &str) -> Result<Option<Head>, BadHead> {
        let bytes = head.as_bytes();
        let whole = read(bytes);
        if let Ok(Some(head)) = &whole {
            for cut in 0..head.end {
                assert_eq!(read(&bytes[..cut]), Ok(None), "cut at {cut}");
            }
        }
        whole
    }

    fn head(status_and_headers: &str) -> Head {
        of(&format!("HTTP/1.1 {status_and_headers}\r\n\r\nbody"))
            .unwrap()
            .expect("whole")
    }

    fn kind(status_and_headers: &str) -> String {
        match head(status_and_headers).response {
            ResponseKind::Refused(refusal) => refusal.kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_200_with_events_is_a_stream() {
        for content_type in ["text/event-stream", "Text/Event-Stream ; charset=utf-8"] {
            assert_eq!(
                head(&format!("200 OK\r\ncontent-TYPE: {content_type}")).response,
                ResponseKind::Stream
            );
        }
        assert_eq!(head("204 No Content").response, ResponseKind::NoContent);
        assert_eq!(kind("404 Not Found"), "404");
        assert!(kind("200 OK\r\nContent-Type: text/html").contains("\"text/html\""));
        assert!(kind("200 OK").contains("\"\""));
        assert!(
            kind("200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip")
                .contains("gzip")
        );
    }

    #[test]
    fn a_refusal_says_whether_and_when_to_come_back() {
        let refusal = |text: &str| match head(text).response {
            ResponseKind::Refused(refusal) => (
                refusal.passes,
                refusal.retry_after.map(|after| after.as_secs()),
            ),
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal("503 Busy\r\nRetry-After: 7"), (true, Some(7)));
        assert_eq!(refusal("429 Busy\r\nRetry-After: tomorrow"), (true, None));
        assert_eq!(refusal("403 No\r\nRetry-After: 7"), (false, None));
    }

    #[test]
    fn a_redirect_is_refused_with_its_location() {
        let ResponseKind::Refused(refusal) =
            head("307 Temporary Redirect\r\nLocation: /there").response
        else {
            panic!()
        };
        assert_eq!(
            (refusal.location.as_deref(), refusal.passes),
            (Some("/there"), false)
        );
        assert!(refusal.kind.starts_with("307, a redirect"));
    }

    #[test]
    fn the_body_is_framed_by_chunks_or_a_length_or_the_end() {
        assert_eq!(
            head("200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 1").body,
            Body::CHUNKED
        );
        assert_eq!(head("200 OK\r\nContent-Length: 12").body, Body::Length(12));
        assert_eq!(head("200 OK").body, Body::UntilClose);
        for bad in [
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: gzip, chunked",
            "Content-Length: +1",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 99999999999999999999",
        ] {
            assert_eq!(
                of(&format!("HTTP/1.1 200 OK\r\n{bad}\r\n\r\n")),
                Err(BadHead::Framing),
                "{bad}"
            );
        }
    }

    #[test]
    fn interim_answers_are_skipped() {
        let text =
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\nbody";
        assert_eq!(of(text).unwrap().expect("whole").end, text.len() - 4);
    }

    #[test]
    fn what_is_no_head_is_an_error_and_a_head_is_bounded() {
        assert_eq!(read(b"SSH-2.0-OpenSSH_9.2\r\n"), Err(BadHead::NotHttp));
        assert_eq!(
            read(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            Err(BadHead::NotHttp)
        );
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(read(endless.as_bytes()), Err(BadHead::TooLarge));
        assert_eq!(
            read(format!("{endless}\r\n\r\n").as_bytes()),
            Err(BadHead::TooLarge)
        );
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "A: b\r\n".repeat(HEADERS_MAX + 1)
        );
        assert_eq!(read(many.as_bytes()), Err(BadHead::TooLarge));
    }
}
