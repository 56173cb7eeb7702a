//! The limits of one caller: 429 for publishes and history, a stream that ends at once, and other
//! clients that notice nothing.

use reqwest::{Response, StatusCode};

use crate::{
    client_shares::client_at,
    common::{Backend, Client, RawConnection, TestServer, refusal, until},
};

const ONE: [u8; 4] = [127, 0, 0, 2];
const OTHER: [u8; 4] = [127, 0, 0, 3];

async fn publish(client: &Client, server: &TestServer, path: &str, body: String) -> Response {
    let request = client.post(server.at(path)).body(body);
    let kind = if path.starts_with("/events") {
        "application/x-ndjson"
    } else {
        "text/plain"
    };
    request.header("content-type", kind).send().await.unwrap()
}

async fn publish_one(client: &Client, server: &TestServer) -> Response {
    publish(client, server, "/event/click", "x".to_owned()).await
}

fn batch(events: usize) -> String {
    vec![r#"{"event":"a","data":"x"}"#; events].join("\n")
}

/// Checks that a request was rejected for now; returns the message.
async fn assert_limited(response: Response, flag: &str) {
    let retry_after = response.headers().get("retry-after").cloned();
    let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    assert!(
        seconds.is_some_and(|seconds| (1..=3600).contains(&seconds)),
        "{seconds:?}"
    );
    let message = refusal(response, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    assert!(message.contains(flag), "{message}");
}

/// Opens a stream; returns what it contains if it ends at once, and otherwise the open stream.
async fn open_stream(client: &Client, server: &TestServer, path: &str) -> Result<Response, String> {
    let mut response = client.get(server.at(path)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let first = response.chunk().await.unwrap().unwrap();
    let text = String::from_utf8(first.to_vec()).unwrap();
    if text.contains("reconnect later") {
        assert!(text.starts_with("retry: "), "{text}");
        assert_eq!(
            response.chunk().await.unwrap(),
            None,
            "the stream continues"
        );
        return Err(text);
    }
    Ok(response)
}

async fn limited(server: &TestServer, limit: &str) -> f64 {
    server
        .metric(&format!(r#"sse_rate_limited_total{{limit="{limit}"}}"#))
        .await
}

#[tokio::test]
async fn each_client_publishes_as_many_events_as_its_quota_allows() {
    for backend in [Backend::Memory, Backend::Embedded, Backend::Redis] {
        let server = TestServer::start_with(backend, &["--limit-events", "5/h"]).await;
        let (one, other) = (client_at(ONE), client_at(OTHER));
        for _ in 0..2 {
            assert_eq!(publish_one(&one, &server).await.status(), StatusCode::OK);
        }
        let too_large = publish(&one, &server, "/events", batch(6)).await;
        let message = refusal(too_large, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
        assert!(
            message.contains("5 events") && message.contains("--limit-events"),
            "{message}"
        );
        let response = publish(&one, &server, "/events", batch(3)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_limited(publish_one(&one, &server).await, "--limit-events").await;
        assert_limited(
            one.get(server.at("/event/x")).send().await.unwrap(),
            "--limit-events",
        )
        .await;
        assert_limited(
            publish(&one, &server, "/events", batch(1)).await,
            "--limit-events",
        )
        .await;
        assert_eq!(publish_one(&other, &server).await.status(), StatusCode::OK);
        assert!((limited(&server, "events").await - 4.0).abs() < 0.5);
        assert_eq!(server.history("sse").await.len(), 6);
    }
}

#[tokio::test]
async fn bytes_are_limited_before_the_body_is_read_if_its_length_is_declared() {
    let server = TestServer::start_with(Backend::Memory, &["--limit-bytes", "100/h"]).await;
    let client = client_at(ONE);
    let response = publish(&client, &server, "/event/x", "x".repeat(60)).await;
    assert_eq!(response.status(), StatusCode::OK);
    // The client sends no body, and gets the response nevertheless.
    let head = "POST /event/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n";
    for (length, status, text) in [(200, 413, "100 bytes"), (101, 413, "--limit-bytes")] {
        let request = format!("{head}Content-Length: {length}\r\n\r\n");
        let mut connection = RawConnection::send(&server, &request).await;
        let head = connection.head().await;
        assert_eq!(head.status, status);
        connection.body_until(&head, text).await;
    }
    assert_limited(
        publish(&client, &server, "/event/x", "x".repeat(60)).await,
        "--limit-bytes",
    )
    .await;
    // A body of unknown length counts when it is read.
    let body = |bytes: usize| {
        let parts = vec![Ok::<_, std::io::Error>("x".repeat(bytes))];
        reqwest::Body::wrap_stream(futures::stream::iter(parts))
    };
    let chunked = async |bytes| {
        let request = client.post(server.at("/event/x")).body(body(bytes));
        request
            .header("content-type", "text/plain")
            .send()
            .await
            .unwrap()
    };
    assert_limited(chunked(60).await, "--limit-bytes").await;
    assert_eq!(chunked(30).await.status(), StatusCode::OK);
    assert_eq!(server.history("sse").await.len(), 2);
}

#[tokio::test]
async fn new_channels_are_limited_and_publishes_to_others_are_not() {
    for backend in [Backend::Memory, Backend::Embedded, Backend::Redis] {
        let server = TestServer::start_with(backend, &["--limit-channels", "2/h"]).await;
        let (one, other) = (client_at(ONE), client_at(OTHER));
        let to = async |client: &Client, channel: &str| {
            let path = format!("/event/x?channel={channel}");
            publish(client, &server, &path, "x".to_owned()).await
        };
        for channel in ["a", "a", "b", "a", "b"] {
            assert_eq!(to(&one, channel).await.status(), StatusCode::OK);
        }
        assert_limited(to(&one, "c").await, "--limit-channels").await;
        assert_eq!(to(&other, "c").await.status(), StatusCode::OK);
        assert_eq!(to(&one, "c").await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn channels_that_other_requests_create_count_as_new() {
    for backend in [Backend::Memory, Backend::Embedded, Backend::Redis] {
        let server = TestServer::start_with(backend, &["--limit-channels", "2/h"]).await;
        let one = client_at(ONE);
        let configure = async |channel: &str| {
            let request = one.put(server.at(&format!("/channels/{channel}")));
            request.json(&serde_json::json!({})).send().await.unwrap()
        };
        let close = async |channel: &str| {
            let request = one.post(server.at(&format!("/channels/{channel}/close")));
            let request = request.json(&serde_json::json!({"reason": "done"}));
            request.send().await.unwrap()
        };
        for status in [StatusCode::CREATED, StatusCode::OK] {
            assert_eq!(configure("a").await.status(), status);
        }
        for _ in 0..2 {
            assert_eq!(close("b").await.status(), StatusCode::OK);
        }
        assert_limited(configure("c").await, "--limit-channels").await;
        assert_limited(close("c").await, "--limit-channels").await;
        assert_eq!(
            server.get("/channels/c").await.unwrap().status(),
            StatusCode::NOT_FOUND
        );
    }
}

#[tokio::test]
async fn a_batch_with_more_new_channels_than_the_quota_can_never_succeed() {
    let server = TestServer::start_with(Backend::Memory, &["--limit-channels", "2/h"]).await;
    let one = client_at(ONE);
    let lines = |channels: &[&str]| {
        let line = |channel| format!(r#"{{"event":"a","data":1,"channel":"{channel}"}}"#);
        channels.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    let response = publish(&one, &server, "/events", lines(&["a", "b", "c"])).await;
    let message = refusal(response, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
    assert!(
        message.contains("2 channels") && message.contains("--limit-channels"),
        "{message}"
    );
    // It took nothing, and stored nothing.
    let response = publish(&one, &server, "/events", lines(&["a", "b"])).await;
    assert_eq!(response.status(), StatusCode::OK);
    let response = publish(&one, &server, "/events", lines(&["a", "c"])).await;
    assert_limited(response, "--limit-channels").await;
    let response = publish(&one, &server, "/events", lines(&["a", "b"])).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn searches_are_limited() {
    let server = TestServer::start_with(Backend::Memory, &["--limit-searches", "3/h"]).await;
    let (one, other) = (client_at(ONE), client_at(OTHER));
    let history = async |client: &Client| client.get(server.at("/events")).send().await.unwrap();
    assert_eq!(history(&one).await.status(), StatusCode::OK);
    assert!(open_stream(&one, &server, "/stream?last=1").await.is_ok());
    let filtered = "/stream?from=oldest&event=x";
    assert!(open_stream(&one, &server, filtered).await.is_ok());
    assert_limited(history(&one).await, "--limit-searches").await;
    let list = one.get(server.at("/channels")).send().await.unwrap();
    assert_limited(list, "--limit-searches").await;
    let rejected = open_stream(&one, &server, filtered).await.unwrap_err();
    assert!(rejected.contains("--limit-searches"), "{rejected}");
    for path in ["/stream", "/stream?event=x", "/stream?from=oldest"] {
        assert!(open_stream(&one, &server, path).await.is_ok());
    }
    assert_eq!(history(&other).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_stream_beyond_a_limit_ends_at_once_and_names_a_time_to_reconnect() {
    let flags = ["--limit-streams", "2", "--limit-opens", "5/h"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let (one, other) = (client_at(ONE), client_at(OTHER));
    let open = async |client: &Client| open_stream(client, &server, "/stream").await;
    let (first, second) = (open(&one).await, open(&one).await);
    assert!(first.is_ok() && second.is_ok());
    let rejected = open(&one).await.unwrap_err();
    assert!(rejected.contains("--limit-streams"), "{rejected}");
    assert!(open(&other).await.is_ok());
    drop(first);
    // Both streams that end belong to a client.
    until("the streams are closed", async || {
        (server.closed_streams("client").await >= 2).then_some(())
    })
    .await;
    let again = open(&one).await;
    assert!(again.is_ok());
    drop((second, again));
    until("the streams are closed", async || {
        (server.closed_streams("client").await >= 4).then_some(())
    })
    .await;
    assert!(open(&one).await.is_ok());
    let rejected = open(&one).await.unwrap_err();
    assert!(rejected.contains("--limit-opens"), "{rejected}");
    assert!((limited(&server, "streams").await - 1.0).abs() < 0.5);
    assert!((limited(&server, "opens").await - 1.0).abs() < 0.5);
}
