//! Methods and paths that do not exist.

use reqwest::{Method, StatusCode};

use super::{ROUTES, refusal, sent};
use crate::common::{Backend, TestServer};

#[tokio::test]
async fn other_methods_are_405_with_the_allowed_methods_and_have_no_effect() {
    let server = TestServer::start(Backend::Memory).await;
    let mut subscriber = server.subscribe("/stream").await;
    for (path, allowed) in ROUTES {
        for method in [
            "GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "BREW",
        ] {
            if allowed.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let response = sent(server.http.request(method.clone(), server.at(path))).await;
            assert_eq!(
                response.headers()["allow"].to_str().unwrap(),
                allowed,
                "{method} {path}"
            );
            if method == Method::HEAD {
                assert_eq!(response.status(), 405);
                assert_eq!(response.text().await.unwrap(), "");
            } else {
                let message = refusal(response, 405, "method_not_allowed").await;
                assert!(
                    message.contains(method.as_str()) && message.contains(allowed),
                    "{message}"
                );
            }
        }
    }
    for path in ["/health/live", "/health/ready", "/metrics"] {
        let response = sent(server.http.head(server.at(path))).await;
        assert_eq!(
            (response.status(), response.text().await.unwrap().as_str()),
            (StatusCode::OK, ""),
            "{path}"
        );
    }
    for path in ["/health/live", "/health/ready"] {
        // Load balancers check a server by this method.
        let response = sent(server.http.request(Method::OPTIONS, server.at(path))).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT, "{path}");
        assert_eq!(response.headers()["allow"], "GET, HEAD, OPTIONS");
    }
    assert_eq!(server.history("sse").await, []);
    server.publish("sse", "click", "the first").await;
    assert_eq!(subscriber.next_event().await.data, "the first");
    assert!(
        server.metric("sse_subscribers").await < 2.0,
        "HEAD or OPTIONS subscribed"
    );
}

#[tokio::test]
async fn an_unknown_path_is_404_with_the_routes() {
    let server = TestServer::start(Backend::Memory).await;
    for path in [
        "/",
        "/event",
        "/Event/click",
        "/events/",
        "/stream/",
        "/health",
        "/favicon.ico",
        "//event/click",
        "/event%3F",
    ] {
        for method in [Method::GET, Method::POST, Method::PUT, Method::OPTIONS] {
            let response = sent(server.http.request(method, server.at(path))).await;
            let message = refusal(response, 404, "not_found").await;
            assert!(message.contains(path), "{message}");
            for route in [
                "/event/{action}",
                "POST /events",
                "GET /stream",
                "GET /events",
                "/health/live",
                "/metrics",
            ] {
                assert!(message.contains(route), "{route} is not in {message}");
            }
        }
    }
    assert_eq!(server.history("sse").await, []);
}
