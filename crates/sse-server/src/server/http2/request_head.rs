//! The head of a request as actix has it.
//!
//! HTTP/2 has the target of a request in fields of its own, and HTTP/1 has a request line and the
//! field `Host`. Handlers and middlewares read the latter, so a head becomes what the same request
//! over HTTP/1.1 would be:
//!
//! | HTTP/2 | HTTP/1 |
//! |---|---|
//! | `:authority` | `Host`, and the host of the target |
//! | several `cookie` fields | one, joined with `; ` |
//!
//! A head that could mean two things is rejected: proxies in front might take it for the other one.

use actix_http::{
    Payload, Request,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use actix_web::http::{Method, Uri, Version, header, uri};
use http::request::Parts;

/// HTTP/2 is offered over TLS only.
const SCHEME: &str = "https";

/// A request that is not valid. The response is a 400 without a body, as for HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidHead(pub(super) &'static str);

/// Returns the request for actix.
///
/// # Errors
///
/// The head is not valid, or ambiguous.
pub(super) fn convert_request(head: &Parts, payload: Payload) -> Result<Request, InvalidHead> {
    let method = Method::from_bytes(head.method.as_str().as_bytes())
        .map_err(|_| InvalidHead("the method is not valid"))?;
    let mut headers = convert_headers(&head.headers)?;
    let host = host(head, &headers)?;
    let mut request = Request::with_payload(payload);
    let target = request.head_mut();
    target.uri = if method == Method::CONNECT {
        Uri::try_from(host).map_err(|_| InvalidHead("the authority is not valid"))?
    } else {
        convert_uri(&head.uri, host)?
    };
    let host = HeaderValue::from_str(host).map_err(|_| InvalidHead("the host is not valid"))?;
    headers.insert(header::HOST, host);
    let target = request.head_mut();
    target.method = method;
    target.version = Version::HTTP_2;
    target.headers = headers;
    Ok(request)
}

/// Returns the host and port that the client requested.
fn host<'a>(head: &'a Parts, headers: &'a HeaderMap) -> Result<&'a str, InvalidHead> {
    let mut hosts = headers.get_all(header::HOST);
    let field = hosts.next().map(|host| host.to_str());
    let field = field.transpose();
    let field = field.map_err(|_| InvalidHead("the host is not valid"))?;
    if hosts.next().is_some() {
        return Err(InvalidHead("there are two hosts"));
    }
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let host = match (authority, field) {
        (Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => {
            return Err(InvalidHead("the authority and the host differ"));
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => return Err(InvalidHead("there is no host")),
    };
    // A password before the host would be logged, and browsers send none.
    if host.is_empty() || host.contains('@') {
        return Err(InvalidHead("the host is not valid"));
    }
    Ok(host)
}

fn convert_uri(target: &http::Uri, host: &str) -> Result<Uri, InvalidHead> {
    let path = target.path_and_query().map(uri_text);
    let path = path.filter(|path| path.starts_with('/'));
    let path = path.ok_or(InvalidHead("the path does not begin with /"))?;
    let target = uri::Builder::new().scheme(SCHEME).authority(host);
    let target = target.path_and_query(path).build();
    target.map_err(|_| InvalidHead("the target is not valid"))
}

fn uri_text(path: &http::uri::PathAndQuery) -> &str {
    path.as_str()
}

fn convert_headers(fields: &http::HeaderMap) -> Result<HeaderMap, InvalidHead> {
    if fields.get_all(http::header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(InvalidHead("there are two content-lengths"));
    }
    let mut headers = HeaderMap::with_capacity(fields.len() + 1);
    for (name, value) in fields {
        if name == http::header::COOKIE {
            continue;
        }
        headers.append(convert_name(name)?, convert_value(value.as_bytes())?);
    }
    if let Some(cookie) = join_cookies(fields) {
        headers.insert(header::COOKIE, convert_value(&cookie)?);
    }
    Ok(headers)
}

/// Returns the cookies as one field (RFC 9113, section 8.2.3).
fn join_cookies(fields: &http::HeaderMap) -> Option<Vec<u8>> {
    let cookies = fields.get_all(http::header::COOKIE);
    let cookies: Vec<&[u8]> = cookies.iter().map(http::HeaderValue::as_bytes).collect();
    (!cookies.is_empty()).then(|| cookies.join(&b"; "[..]))
}

fn convert_name(name: &http::HeaderName) -> Result<HeaderName, InvalidHead> {
    HeaderName::from_bytes(name.as_str().as_bytes())
        .map_err(|_| InvalidHead("a field name is not valid"))
}

fn convert_value(value: &[u8]) -> Result<HeaderValue, InvalidHead> {
    HeaderValue::from_bytes(value).map_err(|_| InvalidHead("a field is not valid"))
}

#[cfg(test)]
mod tests {
    use actix_http::HttpMessage as _;

    use super::*;

    fn converted(request: http::request::Builder) -> Request {
        let (head, ()) = request.body(()).unwrap().into_parts();
        convert_request(&head, Payload::None).unwrap()
    }

    #[test]
    fn cookies_are_one_field_and_other_fields_stay_apart() {
        let request = http::Request::get("https://localhost/stream?channel=a")
            .header("cookie", "a=b")
            .header("x-forwarded-for", "192.0.2.1")
            .header("cookie", "c=d; e=f")
            .header("x-forwarded-for", "192.0.2.2");
        let request = converted(request);
        let all = |name: &str| {
            let values = request.headers().get_all(name);
            values
                .map(|value| value.to_str().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(all("cookie"), ["a=b; c=d; e=f"]);
        assert_eq!(all("x-forwarded-for"), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(all("host"), ["localhost"]);
    }

    #[test]
    fn the_target_has_the_scheme_the_host_and_the_query() {
        let request = http::Request::get("/events?last=1").header("host", "hub.example:8443");
        let request = converted(request);
        assert_eq!(request.uri(), "https://hub.example:8443/events?last=1");
        assert_eq!(request.version(), Version::HTTP_2);
        let connect = http::Request::builder()
            .method("CONNECT")
            .uri("hub.example:443");
        assert_eq!(converted(connect).uri(), "hub.example:443");
    }
}
