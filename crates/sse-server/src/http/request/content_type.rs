//! The type of a body by its `Content-Type`: JSON, text, or lines of JSON.

use std::borrow::Cow;

use actix_web::{
    HttpMessage as _, HttpRequest,
    http::header::{self, HeaderName, HeaderValue},
};
use bytes::Bytes;
use bytestring::ByteString;
use mime::Mime;

use crate::http::error::{ApiError, ApiResult, shortened};

/// The types of body that a route may accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    Json,
    NdJson,
    Text,
    /// No type, or the type that `curl` and HTML forms send by default.
    Unspecified,
}

/// Returns the type of the body.
///
/// # Errors
///
/// What was sent instead, as a clause for an error message: another type, or a charset or encoding
/// that the server does not read.
pub(crate) fn parse(request: &HttpRequest) -> Result<ContentType, String> {
    check_encoding(request)?;
    let mime = request.mime_type().map_err(|_| describe_type(request))?;
    let Some(mime) = mime else {
        return Ok(ContentType::Unspecified);
    };
    check_charset(&mime)?;
    ContentType::of(&mime).ok_or_else(|| describe_type(request))
}

impl ContentType {
    /// A browser asks in a preflight before a page of another origin sends JSON or lines. It does
    /// not ask for `text/plain` and the types of HTML forms, so these must never count as JSON.
    fn of(mime: &Mime) -> Option<Self> {
        match mime.essence_str() {
            "application/json" | "text/json" => Some(Self::Json),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/stream+json" => Some(Self::NdJson),
            "text/plain" => Some(Self::Text),
            "application/x-www-form-urlencoded" => Some(Self::Unspecified),
            other => has_json_suffix(other).then_some(Self::Json),
        }
    }
}

/// Whether the syntax of a type is JSON, like `application/cloudevents+json` (RFC 6839, section
/// 3.1).
fn has_json_suffix(essence: &str) -> bool {
    essence.starts_with("application/") && essence.ends_with("+json")
}

fn describe_type(request: &HttpRequest) -> String {
    let sent = header_text(request, header::CONTENT_TYPE);
    format!("the body has the type {}", shortened(sent))
}

fn check_charset(mime: &Mime) -> Result<(), String> {
    match mime.get_param(mime::CHARSET) {
        Some(charset) if charset != mime::UTF_8 => Err(format!(
            "the body has the charset {}, but the server reads only UTF-8",
            shortened(charset)
        )),
        _ => Ok(()),
    }
}

fn check_encoding(request: &HttpRequest) -> Result<(), String> {
    let encoding = header_text(request, header::CONTENT_ENCODING);
    if is_identity(&encoding) {
        return Ok(());
    }
    Err(format!(
        "the body has the encoding {}, which the server does not read",
        shortened(encoding)
    ))
}

fn is_identity(encoding: &str) -> bool {
    encoding.is_empty() || encoding.eq_ignore_ascii_case("identity")
}

/// Returns the value of a header, or an empty text if there is none.
fn header_text(request: &HttpRequest, name: HeaderName) -> Cow<'_, str> {
    let value = request
        .headers()
        .get(name)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    String::from_utf8_lossy(value.trim_ascii())
}

/// Returns the body as text, without a copy.
pub(crate) fn text(bytes: Bytes) -> ApiResult<ByteString> {
    ByteString::try_from(bytes).map_err(|_| ApiError::InvalidUtf8)
}

/// Returns the body as text that should be JSON; a byte order mark is an error (RFC 8259 §8.1).
pub(crate) fn json_text(bytes: Bytes) -> ApiResult<ByteString> {
    let text = text(bytes)?;
    if text.starts_with('\u{feff}') {
        return Err(ApiError::InvalidJson(
            "a byte order mark at line 1 column 1, which JSON must not have".to_owned(),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<ContentType> {
        text.parse().ok().as_ref().and_then(ContentType::of)
    }

    #[test]
    fn json_has_several_types() {
        for json in [
            "application/json",
            "text/json",
            "application/cloudevents+json; charset=utf-8",
            "Application/Vnd.Example.V1+JSON",
        ] {
            assert_eq!(of(json), Some(ContentType::Json), "{json}");
        }
        for lines in [
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
            "application/stream+json",
        ] {
            assert_eq!(of(lines), Some(ContentType::NdJson), "{lines}");
        }
        for other in [
            "text/plain+json",
            "application/json5",
            "image/svg+json",
            "json",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_type_that_a_page_sends_without_a_preflight_is_not_json() {
        // The CORS-safelisted types (Fetch standard), as a page may disguise them.
        for essence in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        ] {
            for disguise in [
                "",
                "; charset=utf-8",
                "; application/json",
                ";x=application/json",
                ";x=\"+json\"",
                ";+json",
            ] {
                let found = of(&format!("{essence}{disguise}"));
                assert!(
                    !matches!(found, Some(ContentType::Json | ContentType::NdJson)),
                    "{essence}{disguise}: {found:?}"
                );
            }
        }
    }
}
