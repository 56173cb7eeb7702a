//! What a body is, by its `Content-Type`: JSON, text, or lines of JSON.

use std::borrow::Cow;

use actix_web::{
    HttpMessage, HttpRequest,
    http::header::{self, HeaderName, HeaderValue},
};
use bytes::Bytes;
use bytestring::ByteString;

use crate::http::{
    error::{ApiError, shortened},
    state::local_address,
};

/// The types of body that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    Json,
    NdJson,
    Text,
    /// No type was given, or one that `curl` and HTML forms give without being asked.
    Unspecified,
}

/// The type of the body.
///
/// # Errors
/// What was sent instead, in words: another type, or a charset or an encoding that is not read here.
pub(crate) fn of(request: &HttpRequest) -> Result<ContentType, String> {
    let coding = text_of(request, header::CONTENT_ENCODING);
    if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
        return Err(format!(
            "the body has the encoding {}, which is not read here",
            shortened(coding)
        ));
    }
    let written = text_of(request, header::CONTENT_TYPE);
    let unknown = || format!("the body has the type {}", shortened(&written));
    let Some(media) = request.mime_type().map_err(|_| unknown())? else {
        return Ok(ContentType::Unspecified);
    };
    if let Some(charset) = media.get_param(mime::CHARSET)
        && charset != mime::UTF_8
    {
        return Err(format!(
            "the body has the charset {}, and only UTF-8 is read here",
            shortened(charset)
        ));
    }
    match media.essence_str() {
        "application/json" => Ok(ContentType::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            Ok(ContentType::NdJson)
        }
        "text/plain" => Ok(ContentType::Text),
        "application/x-www-form-urlencoded" => Ok(ContentType::Unspecified),
        _ => Err(unknown()),
    }
}

fn text_of(request: &HttpRequest, name: HeaderName) -> Cow<'_, str> {
    let value = request
        .headers()
        .get(name)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    String::from_utf8_lossy(value.trim_ascii())
}

/// The body as text, shared, not copied.
pub(crate) fn text(bytes: Bytes) -> Result<ByteString, ApiError> {
    ByteString::try_from(bytes).map_err(|_| ApiError::InvalidUtf8)
}

/// The body as text that should be JSON.
pub(crate) fn json_text(bytes: Bytes) -> Result<ByteString, ApiError> {
    let text = text(bytes)?;
    if text.starts_with('\u{feff}') {
        return Err(ApiError::InvalidJson(
            "a byte order mark at line 1 column 1, which JSON must not have".to_owned(),
        ));
    }
    Ok(text)
}

/// A command line that would have worked, for the same host, path and query.
pub(crate) fn curl_line(request: &HttpRequest, content_type: &str, body: &str) -> String {
    let named = text_of(request, header::HOST);
    let is_plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".:-_[]".contains(&byte))
    };
    let host = if !named.is_empty() && is_plain(&named) {
        named
    } else {
        local_address(request).to_string().into()
    };
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .replace('\'', "%27");
    format!("curl -H 'content-type: {content_type}' -d '{body}' 'http://{host}{path}'")
}
