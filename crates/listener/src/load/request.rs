//! The bytes of the request, built once per URL. Only the last event id changes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Uri};
use percent_encoding::percent_decode_str;
use reqwest::Method;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap,
    HeaderName, HeaderValue, USER_AGENT,
};
use url::{Position, Url};

use crate::settings::{
    last_event_id::{LAST_EVENT_ID, to_header_value},
    stream_url::StreamUrl,
    target::Target,
};

/// A request without its last event id.
pub(crate) struct RequestBytes {
    /// The head without the last event id and without the blank line at its end.
    head: Vec<u8>,
    body: Option<Bytes>,
    http2: Http2Head,
}

/// The head of a request over HTTP/2.
struct Http2Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl RequestBytes {
    /// Builds the request of the settings to one of their URLs.
    pub(crate) fn new(target: &Target, url: &StreamUrl) -> Self {
        let url = url.with_query(target.query());
        let mut head = request_line(target, &url).into_bytes();
        let body = target.body.as_ref().map(|body| body.0.clone());
        let headers = build_headers(target, &url);
        for (name, value) in &headers {
            add_header(&mut head, name, value.as_bytes());
        }
        if let Some(body) = &body {
            head.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        let http2 = Http2Head::new(target.method(), &url, headers);
        Self { head, body, http2 }
    }

    /// The request over HTTP/2, its body, and whether it contains the last event id.
    pub(crate) fn to_http2(&self, last_event_id: &str) -> (Request<()>, Option<Bytes>, bool) {
        let mut request = Request::new(());
        *request.method_mut() = self.http2.method.clone();
        *request.uri_mut() = self.http2.uri.clone();
        *request.headers_mut() = self.http2.headers.clone();
        let id = to_header_value(last_event_id).filter(|id| !id.is_empty());
        let has_id = id.is_some();
        request
            .headers_mut()
            .extend(id.map(|id| (LAST_EVENT_ID, id)));
        (request, self.body.clone(), has_id)
    }

    /// The bytes of the request for the events after `last_event_id`; empty means the next events.
    ///
    /// Returns also whether the request contains the id. An id with control characters cannot be
    /// sent.
    pub(crate) fn to_bytes(&self, last_event_id: &str) -> (Vec<u8>, bool) {
        let mut bytes = self.head.clone();
        let id = to_header_value(last_event_id).filter(|id| !id.is_empty());
        if let Some(id) = &id {
            add_header(&mut bytes, &LAST_EVENT_ID, id.as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        (bytes, id.is_some())
    }
}

impl Http2Head {
    /// `:authority` replaces the header `Host` (RFC 9113 §8.3.1).
    fn new(method: Method, url: &Url, mut headers: HeaderMap) -> Self {
        let host = headers.remove(HOST);
        let authority = host.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
        let path_and_query = &url[Position::BeforePath..Position::AfterQuery];
        let uri = Uri::builder()
            .scheme(url.scheme())
            .authority(authority)
            .path_and_query(path_and_query);
        Self {
            method,
            // A URL has more restrictions than the request line. The server rejects `*`.
            uri: uri.build().unwrap_or_default(),
            headers,
        }
    }
}

/// Builds the request line with its line end (RFC 9112 §3).
fn request_line(target: &Target, url: &Url) -> String {
    let path_and_query = &url[Position::BeforePath..Position::AfterQuery];
    format!("{} {path_and_query} HTTP/1.1\r\n", target.method())
}

fn add_header(head: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

/// The headers that the listener sends too, without the last event id.
fn build_headers(target: &Target, url: &Url) -> HeaderMap {
    let mut headers = default_headers(url);
    replace_headers(&mut headers, target.secret_headers());
    insert_stream_headers(&mut headers);
    if let Some(content_type) = target.content_type() {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers
}

/// Replaces headers by all values that the user sets for their names.
fn replace_headers(headers: &mut HeaderMap, user_headers: HeaderMap) {
    for name in user_headers.keys() {
        headers.remove(name);
    }
    headers.extend(user_headers);
}

/// Headers that the user can override.
fn default_headers(url: &Url) -> HeaderMap {
    const AGENT: &str = concat!(
        env!("CARGO_PKG_NAME"),
        "/",
        env!("CARGO_PKG_VERSION"),
        " (bench)"
    );
    let mut headers = HeaderMap::new();
    if let Some(host) = host_header(url) {
        headers.insert(HOST, host);
    }
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    if let Some(authorization) = basic_authorization(url) {
        headers.insert(AUTHORIZATION, authorization);
    }
    headers
}

/// `Host` of a URL, with the port if the URL has one.
fn host_header(url: &Url) -> Option<HeaderValue> {
    HeaderValue::try_from(&url[Position::BeforeHost..Position::AfterPort]).ok()
}

/// Inserts the headers that a stream needs (WHATWG HTML §9.2.2).
fn insert_stream_headers(headers: &mut HeaderMap) {
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// `Authorization` for a user and a password in the URL (RFC 7617).
fn basic_authorization(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::command_line::follow_settings;

    fn sent(arguments: &[&str], last_event_id: &str) -> String {
        let target = follow_settings(arguments).target;
        String::from_utf8(
            RequestBytes::new(&target, target.first_url())
                .to_bytes(last_event_id)
                .0,
        )
        .expect("text")
    }

    #[test]
    fn the_request_equals_that_of_the_listener() {
        let text = sent(
            &[
                "--url",
                "http://h:8/s?x=1",
                "--channel",
                "a",
                "--event",
                "b c",
            ],
            "",
        );
        assert!(
            text.starts_with("GET /s?x=1&channel=a&event=b%20c HTTP/1.1\r\n"),
            "{text}"
        );
        for line in [
            "host: h:8",
            "accept: text/event-stream",
            "accept-encoding: identity",
            "cache-control: no-store",
        ] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{text}");
        }
        assert!(
            text.ends_with("\r\n\r\n") && !text.contains("last-event-id"),
            "{text}"
        );
    }

    #[test]
    fn the_last_event_id_is_sent_if_a_header_can_carry_it() {
        assert!(sent(&["--url", "http://h"], "1-é").ends_with("\r\nlast-event-id: 1-é\r\n\r\n"));
        assert!(!sent(&["--url", "http://h"], "a\u{1}b").contains("last-event-id"));
    }

    #[test]
    fn a_body_has_its_length_and_type() {
        let text = sent(&["--url", "http://h", "--body", "{}"], "7");
        assert!(text.starts_with("POST /stream "), "{text}");
        assert!(
            text.contains("\r\ncontent-type: application/json\r\n"),
            "{text}"
        );
        assert!(
            text.ends_with("content-length: 2\r\nlast-event-id: 7\r\n\r\n{}"),
            "{text}"
        );
    }

    #[test]
    fn headers_of_the_user_replace_the_default_ones() {
        let text = sent(
            &[
                "--url",
                "http://h",
                "--header",
                "User-Agent: me",
                "--bearer",
                "t",
            ],
            "",
        );
        assert!(
            text.contains("\r\nuser-agent: me\r\n")
                && text.contains("\r\nauthorization: Bearer t\r\n"),
            "{text}"
        );
        assert_eq!(text.matches("user-agent").count(), 1);
        let text = sent(&["--url", "http://a%40b:c@h"], "");
        assert!(
            text.contains("\r\nauthorization: Basic YUBiOmM=\r\n"),
            "{text}"
        );
    }
}
