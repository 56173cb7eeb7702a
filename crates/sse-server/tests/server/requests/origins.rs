//! Requests of web pages: the origins that may read and publish.

use reqwest::{Method, Response, StatusCode, header::HeaderMap};

use super::{JSON, LINES, ONE_LINE, ROUTES, TEXT, post, refusal, sent};
use crate::common::{Backend, TestServer};

#[tokio::test]
async fn pages_of_other_sites_may_not_publish() {
    let server = TestServer::start(Backend::Memory).await;
    let own = server.url.clone();
    let host = own.trim_start_matches("http://").to_owned();
    let ways = || {
        [
            server.http.get(server.at("/event/click")),
            post(&server, "/event/click", TEXT, "x"),
            post(&server, "/events", LINES, ONE_LINE),
        ]
    };
    let mut published = 0;
    for (headers, allowed) in [
        (&[][..], true),
        (&[("sec-fetch-site", "same-origin")], true),
        (&[("sec-fetch-site", "none")], true),
        (&[("sec-fetch-site", "cross-site")], false),
        (&[("origin", own.as_str())], true),
        (
            &[("origin", own.as_str()), ("sec-fetch-site", "same-origin")],
            true,
        ),
        (&[("origin", "null")], false),
        (&[("origin", "")], false),
        (&[("origin", "https://evil.example")], false),
        (
            &[
                ("origin", "https://evil.example"),
                ("sec-fetch-site", "same-origin"),
            ],
            false,
        ),
        (&[("origin", "http://127.0.0.1:1")], false),
        (&[("origin", "http://127.0.0.1")], false),
        (&[("origin", &format!("{own}.evil.example"))], false),
        (&[("origin", &format!("http://evil.example@{host}"))], false),
        (
            &[("origin", &format!("https://evil.example, {own}"))],
            false,
        ),
    ] {
        for mut request in ways() {
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let response = sent(request).await;
            assert!(!cors_headers(response.headers()), "{headers:?}");
            if allowed {
                assert_eq!(response.status(), StatusCode::OK, "{headers:?}");
                published += 1;
            } else {
                let message = refusal(response, 403, "origin_not_allowed").await;
                assert!(message.contains("--publish-origin"), "{message}");
            }
        }
    }
    assert_eq!(server.history("sse").await.len(), published);
}

#[tokio::test]
async fn a_foreign_host_name_that_resolves_to_this_machine_is_not_the_same_origin() {
    let server = TestServer::start(Backend::Memory).await;
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    let mut published = 0;
    for (name, ours) in [
        ("evil.example", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("192.168.1.1", false),
        ("localhost", true),
        ("127.0.0.1", true),
        ("[::1]", true),
    ] {
        let host = format!("{name}:{port}");
        for request in [
            server.http.get(server.at("/event/click")),
            post(&server, "/event/click", TEXT, "x"),
            post(&server, "/events", LINES, ONE_LINE),
        ] {
            let request = request
                .header("host", &host)
                .header("origin", format!("http://{host}"));
            let response = sent(request.header("sec-fetch-site", "same-origin")).await;
            if ours {
                assert_eq!(response.status(), StatusCode::OK, "{host}");
                published += 1;
            } else {
                refusal(response, 421, "foreign_host").await;
            }
        }
    }
    assert_eq!(server.history("sse").await.len(), published);
}

#[tokio::test]
async fn pages_of_a_public_url_are_pages_of_this_server() {
    let urls = "https://hub.example.org/live,http://hub.example.net:8080";
    let server = TestServer::start_with(Backend::Memory, &["--public-url", urls]).await;
    let mut published = 0;
    for (origin, ours) in [
        ("https://hub.example.org", true),
        ("http://hub.example.net:8080", true),
        (&*server.url.clone(), true),
        ("http://hub.example.org", false),
        ("https://hub.example.org:8443", false),
        ("https://evil.hub.example.org", false),
        ("http://hub.example.net", false),
        ("null", false),
    ] {
        for host in ["hub.example.org", "127.0.0.1:5000"] {
            let (_, own_host) = server.url.split_once("://").unwrap();
            let host = if origin == server.url { own_host } else { host };
            let request = post(&server, "/event/click", TEXT, "x").header("host", host);
            let request = request.header("origin", origin);
            let response = sent(request.header("sec-fetch-site", "same-origin")).await;
            assert!(!cors_headers(response.headers()), "{origin}");
            if ours {
                assert_eq!(response.status(), StatusCode::OK, "{origin}");
                published += 1;
            } else {
                let message = refusal(response, 403, "origin_not_allowed").await;
                assert!(message.contains("--public-url"), "{message}");
            }
        }
    }
    assert_eq!(server.history("sse").await.len(), published);
}

pub(super) fn cors_headers(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name.as_str().starts_with("access-control-"))
}

/// The preflight request that a browser sends before a publish.
pub(super) async fn preflight(
    server: &TestServer,
    path: &str,
    origin: &str,
    method: &str,
    headers: &str,
) -> Response {
    let mut request = server
        .http
        .request(Method::OPTIONS, server.at(path))
        .header("origin", origin);
    request = request.header("access-control-request-method", method);
    if !headers.is_empty() {
        request = request.header("access-control-request-headers", headers);
    }
    sent(request).await
}

#[tokio::test]
async fn without_the_flag_there_are_no_cors_headers() {
    let server = TestServer::start(Backend::Memory).await;
    for (path, allowed) in ROUTES {
        let response =
            preflight(&server, path, "https://app.example", "POST", "content-type").await;
        assert!(!cors_headers(response.headers()), "{path}");
        if allowed.contains("OPTIONS") {
            assert_eq!(response.status(), StatusCode::NO_CONTENT, "{path}");
        } else {
            refusal(response, 405, "method_not_allowed").await;
        }
        let read = sent(
            server
                .http
                .get(server.at(path))
                .header("origin", "https://app.example"),
        )
        .await;
        assert!(!cors_headers(read.headers()), "{path}");
    }
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn allowed_origins_may_read_and_publish() {
    let (one, two) = ("https://app.example", "http://localhost:3000");
    let server = TestServer::start_with(
        Backend::Memory,
        &["--publish-origin", one, "--publish-origin", two],
    )
    .await;
    for origin in [one, two] {
        for (path, method, headers) in [
            ("/event/click", "POST", "content-type"),
            ("/events", "POST", "content-type"),
            ("/stream", "GET", "last-event-id,cache-control"),
            ("/events", "GET", "accept"),
        ] {
            let response = preflight(&server, path, origin, method, headers).await;
            assert!(response.status().is_success(), "{path}");
            let value = |name: &str| response.headers()[name].to_str().unwrap().to_lowercase();
            assert_eq!(value("access-control-allow-origin"), origin);
            assert!(value("access-control-allow-methods").contains(&method.to_lowercase()));
            for header in headers.split(',') {
                assert!(
                    value("access-control-allow-headers").contains(header),
                    "{path}"
                );
            }
            assert!(value("vary").contains("origin"));
        }
        for request in [
            server.http.get(server.at("/event/click")),
            post(&server, "/event/click", JSON, "1").header("sec-fetch-site", "cross-site"),
            post(&server, "/events", LINES, ONE_LINE),
            server.http.get(server.at("/events")),
            server.http.get(server.at("/stream")),
        ] {
            let response = sent(request.header("origin", origin)).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["access-control-allow-origin"], origin);
        }
        // A page can read the error of its publish.
        let wrong = sent(post(&server, "/event/gap", JSON, "1").header("origin", origin)).await;
        assert_eq!(
            (
                wrong.status().as_u16(),
                &wrong.headers()["access-control-allow-origin"]
            ),
            (400, &origin.parse().unwrap())
        );
    }
    assert_eq!(server.history("sse").await.len(), 6);
    for origin in [
        "https://evil.example",
        "null",
        "https://app.example.evil.example",
        "http://app.example",
    ] {
        let response =
            sent(post(&server, "/event/click", JSON, "1").header("origin", origin)).await;
        assert!(
            !response
                .headers()
                .contains_key("access-control-allow-origin"),
            "{origin}"
        );
        refusal(response, 403, "origin_not_allowed").await;
        let response = preflight(&server, "/event/click", origin, "POST", "content-type").await;
        assert!(
            !response
                .headers()
                .contains_key("access-control-allow-origin"),
            "{origin}"
        );
        assert!(!response.status().is_success(), "{origin}");
    }
    let own = sent(
        server
            .http
            .get(server.at("/event/click"))
            .header("origin", &server.url),
    )
    .await;
    assert_eq!(own.status(), StatusCode::OK);
    assert_eq!(server.history("sse").await.len(), 7);
}

#[tokio::test]
async fn a_star_lets_every_origin_read_and_publish() {
    let server = TestServer::start_with(Backend::Memory, &["--publish-origin", "*"]).await;
    for origin in ["https://app.example", "null", &server.url.clone()] {
        let asked = preflight(&server, "/events", origin, "POST", "content-type").await;
        assert_eq!(
            (
                asked.status().is_success(),
                &asked.headers()["access-control-allow-origin"]
            ),
            (true, &"*".parse().unwrap())
        );
        assert!(
            !asked
                .headers()
                .contains_key("access-control-allow-credentials")
        );
        let response =
            sent(post(&server, "/event/click", JSON, "1").header("origin", origin)).await;
        assert_eq!(
            (
                response.status(),
                &response.headers()["access-control-allow-origin"]
            ),
            (StatusCode::OK, &"*".parse().unwrap())
        );
    }
    let hidden = sent(
        server
            .http
            .get(server.at("/event/click"))
            .header("sec-fetch-site", "cross-site"),
    )
    .await;
    assert_eq!(hidden.status(), StatusCode::OK);
    assert_eq!(server.history("sse").await.len(), 4);
}
