//! The head of a response (RFC 9112): whether it is complete, what it means, and how the body is
//! framed.

use super::{
    body::BodyDecoder,
    response::{ResponseKind, classify, header_values},
};

/// Limit of bytes in a head.
pub(crate) const HEAD_BYTES_MAX: usize = 16 << 10;
/// Limit of header fields in a head.
const HEADERS_MAX: usize = 100;

/// A complete head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Length of the head in bytes, with the interim responses before it.
    pub(crate) end: usize,
    pub(crate) response: ResponseKind,
    pub(crate) body: BodyDecoder,
}

/// Why bytes are not the head of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadError {
    NotHttp,
    /// More than 16 KiB, or more than 100 header fields.
    TooLarge,
    /// The headers do not define where the body ends, or contradict each other.
    Framing,
}

impl HeadError {
    /// A name by which equal errors are counted together.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::NotHttp => "the response is not HTTP/1.1",
            Self::TooLarge => "the head of the response is too large",
            Self::Framing => "the end of the response is unclear",
        }
    }
}

/// Parses a head and skips the interim responses (1xx) before it.
///
/// Returns `Ok(None)` if the head is incomplete.
///
/// # Errors
/// The rest of the connection is unreadable.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<Head>, HeadError> {
    let mut start = 0;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&bytes[start..]) {
            Ok(httparse::Status::Complete(length)) => start += length,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(HeadError::TooLarge);
            }
            Err(_) => return Err(HeadError::NotHttp),
        }
        if start > HEAD_BYTES_MAX {
            return Err(HeadError::TooLarge);
        }
        match response.code {
            // No upgrade was requested.
            None | Some(101) => return Err(HeadError::NotHttp),
            Some(100..=199) => {}
            Some(status) => {
                return Ok(Some(Head {
                    end: start,
                    body: body_framing(response.headers)?,
                    response: classify(status, response.headers),
                }));
            }
        }
    }
}

/// How the body ends (RFC 9112 §6.3). `Transfer-Encoding` overrides `Content-Length`.
fn body_framing(headers: &[httparse::Header<'_>]) -> Result<BodyDecoder, HeadError> {
    if is_chunked(headers)? {
        return Ok(BodyDecoder::CHUNKED);
    }
    let mut lengths = header_values(headers, "content-length");
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(BodyDecoder::UntilClose),
        (Some(length), None) => parse_length(length)
            .map(BodyDecoder::Length)
            .ok_or(HeadError::Framing),
        _ => Err(HeadError::Framing),
    }
}

/// Returns whether the body is chunked. Any other transfer coding is an error, because the request
/// accepts none.
fn is_chunked(headers: &[httparse::Header<'_>]) -> Result<bool, HeadError> {
    let mut codings = header_values(headers, "transfer-encoding");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None) if coding.trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(HeadError::Framing),
    }
}

/// Parses digits only: `parse` alone would accept `+1`.
fn parse_length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_wherever_cut(head: &str) -> Result<Option<Head>, HeadError> {
        let bytes = head.as_bytes();
        let whole = parse_head(bytes);
        if let Ok(Some(head)) = &whole {
            for cut in 0..head.end {
                assert_eq!(parse_head(&bytes[..cut]), Ok(None), "cut at {cut}");
            }
        }
        whole
    }

    fn head(status_and_headers: &str) -> Head {
        parse_wherever_cut(&format!("HTTP/1.1 {status_and_headers}\r\n\r\nbody"))
            .unwrap()
            .expect("whole")
    }

    fn kind(status_and_headers: &str) -> String {
        match head(status_and_headers).response {
            ResponseKind::Rejected(rejection) => rejection.kind,
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
        for coding in [
            "none",
            "Identity",
            "",
            "identity, NONE",
            "none\r\nContent-Encoding: identity",
        ] {
            let text =
                format!("200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: {coding}");
            assert_eq!(head(&text).response, ResponseKind::Stream, "{coding:?}");
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
    fn a_rejection_states_whether_and_when_to_retry() {
        let rejection = |text: &str| match head(text).response {
            ResponseKind::Rejected(rejection) => (
                rejection.is_transient,
                rejection.retry_after.map(|after| after.as_secs()),
            ),
            other => panic!("{other:?}"),
        };
        assert_eq!(rejection("503 Busy\r\nRetry-After: 7"), (true, Some(7)));
        assert_eq!(rejection("429 Busy\r\nRetry-After: tomorrow"), (true, None));
        assert_eq!(rejection("403 No\r\nRetry-After: 7"), (false, None));
    }

    #[test]
    fn a_redirect_is_rejected_with_its_location() {
        let ResponseKind::Rejected(rejection) =
            head("307 Temporary Redirect\r\nLocation: /there").response
        else {
            panic!()
        };
        assert_eq!(
            (rejection.location.as_deref(), rejection.is_transient),
            (Some("/there"), false)
        );
        assert!(rejection.kind.starts_with("307, a redirect"));
    }

    #[test]
    fn the_body_is_framed_by_chunks_or_a_length_or_the_end() {
        assert_eq!(
            head("200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 1").body,
            BodyDecoder::CHUNKED
        );
        assert_eq!(
            head("200 OK\r\nContent-Length: 12").body,
            BodyDecoder::Length(12)
        );
        assert_eq!(head("200 OK").body, BodyDecoder::UntilClose);
        for bad in [
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: gzip, chunked",
            "Content-Length: +1",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 99999999999999999999",
        ] {
            assert_eq!(
                parse_wherever_cut(&format!("HTTP/1.1 200 OK\r\n{bad}\r\n\r\n")),
                Err(HeadError::Framing),
                "{bad}"
            );
        }
    }

    #[test]
    fn interim_responses_are_skipped() {
        let text =
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\nbody";
        assert_eq!(
            parse_wherever_cut(text).unwrap().expect("whole").end,
            text.len() - 4
        );
    }

    #[test]
    fn other_bytes_are_an_error_and_a_head_is_bounded() {
        assert_eq!(
            parse_head(b"SSH-2.0-OpenSSH_9.2\r\n"),
            Err(HeadError::NotHttp)
        );
        assert_eq!(
            parse_head(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            Err(HeadError::NotHttp)
        );
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(parse_head(endless.as_bytes()), Err(HeadError::TooLarge));
        assert_eq!(
            parse_head(format!("{endless}\r\n\r\n").as_bytes()),
            Err(HeadError::TooLarge)
        );
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "A: b\r\n".repeat(HEADERS_MAX + 1)
        );
        assert_eq!(parse_head(many.as_bytes()), Err(HeadError::TooLarge));
    }
}
