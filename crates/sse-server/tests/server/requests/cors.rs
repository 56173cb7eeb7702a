//! The CORS headers: what a page of another origin may send and read.

use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::{
    JSON, LINES, ONE_LINE, ROUTES,
    origins::{cors_headers, preflight},
    post, raw, refusal, sent,
};
use crate::common::{Backend, TestServer};

const APP: &str = "https://app.example";

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// All values of a list header, in lower case and in order.
fn items(response: &Response, name: &str) -> Vec<String> {
    let values = response.headers().get_all(name).iter();
    let mut items: Vec<String> = values
        .flat_map(|value| value.to_str().unwrap().split(','))
        .map(|item| item.trim().to_lowercase())
        .collect();
    items.sort();
    items
}

#[tokio::test]
async fn a_preflight_is_granted_exactly_the_headers_that_it_requests() {
    let server = TestServer::start_with(Backend::Memory, &["--publish-origin", APP]).await;
    let most: Vec<String> = (10..42).map(|number| format!("x-{number}")).collect();
    for requested in [
        "authorization,traceparent,x-requested-with",
        "content-type, last-event-id",
        "idempotency-key",
        &most.join(","),
    ] {
        let response = preflight(&server, "/event/click", APP, "POST", requested).await;
        assert_eq!(response.status(), StatusCode::OK, "{requested}");
        let expected: Vec<_> = requested.split(',').map(str::trim).collect();
        assert_eq!(items(&response, "access-control-allow-headers"), expected);
        assert_eq!(
            items(&response, "vary"),
            [
                "access-control-request-headers",
                "access-control-request-method",
                "origin"
            ]
        );
    }
    let response = preflight(&server, "/events", APP, "GET", "").await;
    assert_eq!(header(&response, "access-control-allow-headers"), None);
}

#[tokio::test]
async fn a_rejected_preflight_names_the_header_and_the_flag() {
    let reader = "https://reader.example";
    let flags = ["--publish-origin", APP, "--cors-origin", reader];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let too_many = vec!["x-a"; 33].join(",");
    for (origin, method, headers, hints) in [
        (
            "https://evil.example",
            "POST",
            "",
            &[
                "Origin: https://evil.example",
                "--cors-origin",
                "--publish-origin",
            ][..],
        ),
        (
            reader,
            "POST",
            "",
            &["Origin: https://reader.example", "--publish-origin"],
        ),
        (APP, "PATCH", "", &["Access-Control-Request-Method: PATCH"]),
        (
            APP,
            "POST",
            "a b",
            &["Access-Control-Request-Headers", "\"a b\""],
        ),
        (
            APP,
            "POST",
            "x-a,x(b)",
            &["Access-Control-Request-Headers", "\"x(b)\""],
        ),
        (
            APP,
            "POST",
            &too_many,
            &["Access-Control-Request-Headers", "32"],
        ),
    ] {
        let response = preflight(&server, "/event/click", origin, method, headers).await;
        assert!(!cors_headers(response.headers()), "{origin} {method}");
        assert!(items(&response, "vary").contains(&"origin".to_owned()));
        let message = refusal(response, 403, "preflight_rejected").await;
        for hint in hints {
            assert!(message.contains(hint), "no {hint:?} in {message}");
        }
    }
}

#[tokio::test]
async fn a_page_that_may_read_may_not_publish() {
    let server = TestServer::start_with(Backend::Memory, &["--cors-origin", APP]).await;
    for path in ["/events", "/stream", "/metrics", "/health/live"] {
        let response = sent(server.http.get(server.at(path)).header("origin", APP)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&response, "access-control-allow-origin"), Some(APP));
        assert_eq!(
            header(&response, "access-control-expose-headers"),
            Some("ETag, Link, Retry-After, WWW-Authenticate")
        );
        assert_eq!(header(&response, "access-control-allow-credentials"), None);
        assert_eq!(items(&response, "vary").last().unwrap(), "origin");
        let asked = preflight(&server, path, APP, "GET", "last-event-id").await;
        assert_eq!(asked.status(), StatusCode::OK, "{path}");
        assert!(!items(&asked, "access-control-allow-methods").contains(&"post".to_owned()));
    }
    for request in [
        server.http.get(server.at("/event/click")),
        post(&server, "/event/click", JSON, "1"),
        post(&server, "/events", LINES, ONE_LINE),
    ] {
        let response = sent(request.header("origin", APP)).await;
        // The page can read why it was rejected.
        assert_eq!(header(&response, "access-control-allow-origin"), Some(APP));
        let message = refusal(response, 403, "origin_not_allowed").await;
        assert!(message.contains("--publish-origin"), "{message}");
    }
    for (path, method) in [("/events", "POST"), ("/event/click", "GET")] {
        let response = preflight(&server, path, APP, method, "content-type").await;
        refusal(response, 403, "preflight_rejected").await;
    }
    let hidden = server.http.get(server.at("/event/click"));
    let response = sent(hidden.header("sec-fetch-site", "cross-site")).await;
    refusal(response, 403, "origin_not_allowed").await;
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn origins_of_apps_sandboxes_and_subdomains_can_be_named() {
    let named = "capacitor://localhost,tauri://localhost,chrome-extension://abcdefgh,null,\
                 https://*.example.org,http://*.localhost:3000";
    let server = TestServer::start_with(Backend::Memory, &["--publish-origin", named]).await;
    let mut published = 0;
    for (origin, allowed) in [
        ("capacitor://localhost", true),
        ("tauri://localhost", true),
        ("chrome-extension://abcdefgh", true),
        ("null", true),
        ("https://a.example.org", true),
        ("https://a.b.example.org", true),
        ("http://app.localhost:3000", true),
        ("ionic://localhost", false),
        ("chrome-extension://abcdefghi", false),
        ("https://example.org", false),
        ("https://evilexample.org", false),
        ("https://a.example.org:8443", false),
        ("http://a.example.org", false),
        ("https://a.example.org.evil.example", false),
        ("http://app.localhost", false),
    ] {
        let asked = preflight(&server, "/event/click", origin, "POST", "content-type").await;
        let request = post(&server, "/event/click", JSON, "1").header("origin", origin);
        let response = sent(request).await;
        let named = allowed.then_some(origin);
        for answer in [&asked, &response] {
            assert_eq!(
                header(answer, "access-control-allow-origin"),
                named,
                "{origin}"
            );
            assert_eq!(answer.status().is_success(), allowed, "{origin}");
        }
        published += usize::from(allowed);
    }
    assert_eq!(server.history("sse").await.len(), published);
}

#[tokio::test]
async fn with_credentials_a_response_names_the_origin() {
    let flags = [
        "--cors-credentials",
        "--cors-origin",
        "https://*.example.org",
    ];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let origin = "https://app.example.org";
    let asked = preflight(&server, "/stream", origin, "GET", "authorization").await;
    let read = sent(
        server
            .http
            .get(server.at("/events"))
            .header("origin", origin),
    )
    .await;
    for response in [asked, read] {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            header(&response, "access-control-allow-origin"),
            Some(origin)
        );
        assert_eq!(
            header(&response, "access-control-allow-credentials"),
            Some("true")
        );
    }
    let foreign = server.http.get(server.at("/events")).header("origin", APP);
    assert!(!cors_headers(sent(foreign).await.headers()));
}

#[tokio::test]
async fn every_page_may_read_the_same_response() {
    let server = TestServer::start_with(Backend::Memory, &["--cors-origin", "*"]).await;
    for origin in [None, Some(APP), Some("null")] {
        let mut request = server.http.get(server.at("/events"));
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let response = sent(request).await;
        assert_eq!(header(&response, "access-control-allow-origin"), Some("*"));
        assert_eq!(header(&response, "vary"), None);
    }
}

#[tokio::test]
async fn two_origin_headers_are_rejected() {
    for flags in [&[][..], &["--publish-origin", "*"]] {
        let server = TestServer::start_with(Backend::Memory, flags).await;
        for (path, _) in ROUTES {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {APP}\r\nOrigin: http://x\r\n\r\n"
            );
            let message = raw(&server, request.as_bytes())
                .await
                .refusal(400, "invalid_header");
            assert!(message.contains("Origin"), "{message}");
        }
        assert_eq!(server.history("sse").await, []);
    }
}

#[tokio::test]
async fn a_rejected_preflight_has_an_error_like_every_other_response() {
    let server = TestServer::start_with(Backend::Memory, &["--publish-origin", APP]).await;
    for (origin, method, headers) in [
        ("https://evil.example", "POST", ""),
        (APP, "PATCH", ""),
        (APP, "POST", "x unknown"),
    ] {
        let response = preflight(&server, "/event/click", origin, method, headers).await;
        assert!(response.status().is_client_error(), "{}", response.status());
        let text = response.text().await.unwrap();
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text:?}"));
        assert!(
            answer["error"]["code"].is_string() && answer["error"]["message"].is_string(),
            "{answer}"
        );
    }
}
