//! Which hosts the server answers on a loopback address, and which GETs count as a publish of a
//! foreign page.

use reqwest::StatusCode;

use super::{refusal, sent};
use crate::common::{Backend, TestServer};

/// The path of every route, and one that does not exist.
const PATHS: [&str; 8] = [
    "/stream",
    "/events",
    "/event/click",
    "/metrics",
    "/health/live",
    "/health/ready",
    "/",
    "/nothing",
];

#[tokio::test]
async fn a_foreign_host_gets_a_421_on_every_route() {
    let server = TestServer::start(Backend::Memory).await;
    for path in PATHS {
        for host in [
            "evil.example",
            "evil.example:5000",
            "10.0.0.1",
            "localhost.evil.example",
        ] {
            let request = server.http.get(server.at(path)).header("host", host);
            let response = sent(request).await;
            let message = refusal(response, 421, "foreign_host").await;
            assert!(
                message.contains(host) && message.contains("--public-url"),
                "{path}: {message}"
            );
        }
    }
    let preflight = server
        .http
        .request(reqwest::Method::OPTIONS, server.at("/events"))
        .header("host", "evil.example")
        .header("origin", "http://evil.example")
        .header("access-control-request-method", "POST");
    refusal(sent(preflight).await, 421, "foreign_host").await;
    assert_eq!(server.history("sse").await.len(), 0);
    let metrics = sent(server.http.get(server.at("/metrics"))).await;
    let metrics = metrics.text().await.unwrap();
    let rejected = format!(
        r#"sse_requests_rejected_total{{code="foreign_host"}} {}"#,
        PATHS.len() * 4 + 1
    );
    assert!(metrics.contains(&rejected), "{metrics}");
}

#[tokio::test]
async fn names_of_this_machine_and_public_hosts_are_answered() {
    let flags = ["--public-url", "https://hub.example.org/live"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    for host in [
        "localhost",
        "app.localhost:1",
        "127.0.0.1",
        "[::1]:5000",
        "hub.example.org",
        "HUB.example.org:8443",
    ] {
        let request = server.http.get(server.at("/health/live"));
        let response = sent(request.header("host", host)).await;
        assert_eq!(response.status(), StatusCode::OK, "{host}");
    }
}

#[tokio::test]
async fn a_get_with_signs_of_a_foreign_page_publishes_nothing() {
    let flags = ["--publish-origin", "https://app.example"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let own_page = server.at("/page");
    let mut published = 0;
    for (name, value, is_published) in [
        ("accept", "*/*", true),
        ("sec-fetch-site", "none", true),
        ("sec-fetch-site", "same-origin", true),
        ("sec-fetch-site", "same-site", false),
        ("sec-fetch-site", "cross-site", false),
        ("referer", own_page.as_str(), true),
        ("referer", "https://app.example/page", true),
        ("referer", "https://evil.example/page", false),
        ("referer", "http://127.0.0.1:1/page", false),
        ("referer", "no url", false),
        ("origin", "https://evil.example", false),
    ] {
        let request = server.http.get(server.at("/event/click"));
        let response = sent(request.header(name, value)).await;
        if is_published {
            assert_eq!(response.status(), StatusCode::OK, "{name}: {value}");
            published += 1;
        } else {
            refusal(response, 403, "origin_not_allowed").await;
        }
    }
    // A page of another origin may lead a reader here with a link, but not a publisher.
    let request = server.http.get(server.at("/events"));
    let read = sent(request.header("referer", "https://evil.example/")).await;
    assert_eq!(read.status(), StatusCode::OK);
    assert_eq!(server.history("sse").await.len(), published);
}
