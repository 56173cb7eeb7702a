//! Headers for caches and browsers: no cache stores a response, and no browser guesses its type.

use reqwest::Method;

use super::{LINES, ONE_LINE, TEXT, post, sent};
use crate::common::{Backend, RequestBuilder, TestServer, only_response};

const APP: &str = "https://app.example";

/// One request per kind of response, and the status of that response.
fn every_kind_of_response(server: &TestServer) -> Vec<(RequestBuilder, u16)> {
    let request = |method, path| server.http.request(method, server.at(path));
    let get = |path| request(Method::GET, path);
    vec![
        (get("/event/click"), 200),
        (post(server, "/event/click", TEXT, "x"), 200),
        (post(server, "/events", LINES, ONE_LINE), 200),
        (get("/events"), 200),
        (get("/events").header("accept", LINES), 200),
        (get("/stream"), 200),
        (get("/stream?until=1-0"), 204),
        (get("/metrics"), 200),
        (request(Method::HEAD, "/metrics"), 200),
        (get("/health/live"), 200),
        (get("/health/ready"), 200),
        (get("/event/gap"), 400),
        (get("/stream?chanel=x"), 400),
        (get("/event/click").header("origin", "null"), 403),
        (get("/nowhere"), 404),
        (request(Method::PUT, "/stream"), 405),
        (request(Method::OPTIONS, "/events"), 405),
        (post(server, "/event/click", TEXT, "x".repeat(2000)), 413),
        (post(server, "/event/click", "text/html", "x"), 415),
    ]
}

#[tokio::test]
async fn no_response_may_be_stored_and_no_type_is_guessed() {
    let flags = ["--cors-origin", APP, "--event-bytes-max", "1000"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    for (request, status) in every_kind_of_response(&server) {
        let response = sent(request).await;
        let url = response.url().clone();
        assert_eq!(response.status(), status, "{url}");
        let header = |name| response.headers().get(name)?.to_str().ok();
        let caching = header("cache-control").unwrap_or_default();
        assert!(caching.contains("no-store"), "{status} {url}: {caching:?}");
        assert_eq!(
            header("x-content-type-options"),
            Some("nosniff"),
            "{status} {url}"
        );
        assert_eq!(header("referrer-policy"), Some("no-referrer"), "{url}");
        let policy = header("cross-origin-resource-policy");
        assert_eq!(policy, Some("cross-origin"), "{url}");
        assert_eq!(header("strict-transport-security"), None, "{url}");
    }
}

#[tokio::test]
async fn without_named_origins_no_other_page_may_embed_a_response() {
    let server = TestServer::start_with(Backend::Memory, &["--hsts", "2h"]).await;
    let request = "POST /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                   Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n";
    let (rejected, _) = only_response(&server, request).await;
    assert_eq!(rejected.status, 413);
    let found = |name| rejected.header(name).map(str::to_owned);
    let get = sent(server.http.get(server.at("/stream"))).await;
    for (name, value) in [
        ("cross-origin-resource-policy", "same-origin"),
        ("strict-transport-security", "max-age=7200"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(get.headers()[name], value);
        assert_eq!(found(name).as_deref(), Some(value));
    }
}

#[tokio::test]
async fn a_browser_may_remember_a_preflight() {
    let server = TestServer::start_with(Backend::Memory, &["--cors-origin", APP]).await;
    let preflight = server
        .http
        .request(Method::OPTIONS, server.at("/events"))
        .header("origin", APP)
        .header("access-control-request-method", "GET");
    let response = sent(preflight).await;
    assert_eq!(response.headers()["access-control-max-age"], "3600");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
}
