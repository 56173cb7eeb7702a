//! A request that asks for another protocol is answered as if it did not ask.

use crate::common::{
    Backend, RawConnection, RawHead, TestServer, all_at_once, only_response, until,
};

/// Whether the server closes the connection after the response, which is the default of HTTP/1.0.
fn is_close(head: &RawHead) -> bool {
    let connection = head.header("connection");
    connection.map_or(head.is_http_10, |value| value == "close")
}

/// Ways to ask for an upgrade that actix-http treats alike.
const UPGRADES: [&str; 4] = [
    "Upgrade: websocket\r\n",
    "Upgrade: WebSocket\r\nConnection: upgrade\r\n",
    "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
];

fn request(line: &str, headers: &str, body: &str) -> String {
    format!("{line}\r\nHost: localhost\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn a_stream_has_the_framing_that_its_head_declares() {
    let server = TestServer::start(Backend::Memory).await;
    for upgrade in UPGRADES {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let line = format!("GET /stream {version}");
            let mut stream = RawConnection::send(&server, &request(&line, upgrade, "")).await;
            let head = stream.head().await;
            assert_eq!(head.status, 200, "{upgrade} {version}");
            assert!(is_close(&head), "{upgrade} {version}");
            assert_eq!(head.header("content-length"), None, "{upgrade} {version}");
            let opening = stream.body_until(&head, "\n\n").await;
            assert!(
                opening.starts_with("retry: "),
                "{upgrade} {version}: {opening}"
            );
            let id = server.publish("sse", "click", "x").await;
            let event = format!("id: {id}\nevent: click\ndata: x\n\n");
            let body = stream.body_until(&head, &event).await;
            assert!(body.ends_with(&event), "{upgrade} {version}: {body}");
        }
    }
    until("the streams are closed", async || {
        (server.metric("sse_subscribers").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_publish_has_the_body_that_its_head_declares() {
    let server = TestServer::start(Backend::Memory).await;
    let bodies = [
        ("Content-Length: 5\r\n", "first"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nfirst\r\n0\r\n\r\n"),
    ];
    let publishes = UPGRADES.iter().flat_map(|upgrade| {
        bodies.map(|(length, body)| {
            let headers = format!("{upgrade}{length}Content-Type: text/plain\r\n");
            request("POST /event/first HTTP/1.1", &headers, body)
        })
    });
    let publishes: Vec<String> = publishes.collect();
    all_at_once(&publishes, async |publish| {
        let (head, body) = only_response(&server, publish).await;
        assert_eq!(head.status, 200, "{publish}: {body}");
        assert!(is_close(&head), "{publish}");
    })
    .await;
    let history = server.history("sse").await;
    assert_eq!(history.len(), publishes.len());
    for event in history {
        assert_eq!(
            (event.event.as_str(), event.data.as_str()),
            ("first", "first")
        );
    }
}

#[tokio::test]
async fn bytes_after_a_request_are_no_part_of_its_body_and_no_request() {
    let server = TestServer::start(Backend::Memory).await;
    let bodies = [
        ("", ""),
        ("Content-Length: 5\r\n", "first"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nfirst\r\n0\r\n\r\n"),
    ];
    let lines = [
        ("POST /event/first HTTP/1.1", 200),
        ("POST /nowhere HTTP/1.1", 404),
        ("POST /stream HTTP/1.1", 405),
        ("CONNECT example.org:443 HTTP/1.1", 405),
    ];
    let second = request("GET /event/second HTTP/1.1", "", "").repeat(3);
    let cases = UPGRADES.iter().flat_map(|upgrade| {
        let second = &second;
        lines.iter().flat_map(move |(line, status)| {
            bodies.map(|(length, body)| {
                let headers = format!("{upgrade}{length}Content-Type: text/plain\r\n");
                (
                    format!("{}{second}", request(line, &headers, body)),
                    *status,
                )
            })
        })
    });
    let tunnels = bodies.map(|(length, body)| {
        let first = request("CONNECT example.org:443 HTTP/1.1", length, body);
        (format!("{first}{second}"), 405)
    });
    let cases: Vec<(String, u16)> = cases.chain(tunnels).collect();
    all_at_once(&cases, async |(requests, status)| {
        // The connection ends after the first response.
        let (head, body) = only_response(&server, requests).await;
        assert_eq!(head.status, *status, "{requests}: {body}");
        assert!(is_close(&head), "{requests}");
    })
    .await;
    let history = server.history("sse").await;
    assert_eq!(history.len(), UPGRADES.len() * bodies.len());
    assert!(history.iter().all(|event| event.event == "first"));
}

#[tokio::test]
async fn nothing_is_handled_behind_a_request_that_ends_the_connection() {
    let server = TestServer::start(Backend::Memory).await;
    let second = request("GET /event/second HTTP/1.1", "", "");
    let close = "Connection: close\r\nContent-Type: text/plain\r\n";
    let firsts = [
        request("GET /health/live HTTP/1.1", close, ""),
        request("GET /health/live HTTP/1.0", "", ""),
        request(
            "POST /event/first HTTP/1.1",
            &format!("{close}Content-Length: 5\r\n"),
            "first",
        ),
    ];
    all_at_once(firsts, async |first| {
        let (head, body) = only_response(&server, &format!("{first}{second}")).await;
        assert_eq!(head.status, 200, "{first}: {body}");
        assert!(is_close(&head), "{first}");
    })
    .await;
    assert_eq!(server.history("sse").await.len(), 1);
}

#[tokio::test]
async fn every_other_route_answers_and_closes() {
    let server = TestServer::start(Backend::Memory).await;
    server.publish("sse", "click", "x").await;
    let lines = [
        ("GET /events?limit=10000 HTTP/1.1", 200),
        ("GET /events HTTP/1.0", 200),
        ("GET /metrics HTTP/1.1", 200),
        ("GET /nowhere HTTP/1.1", 404),
        ("DELETE /stream HTTP/1.1", 405),
        ("POST /events HTTP/1.1", 415),
    ];
    let requests = UPGRADES.iter().flat_map(|upgrade| {
        lines.map(|(line, status)| {
            let headers = format!("{upgrade}Accept: application/x-ndjson\r\n");
            (request(line, &headers, ""), status)
        })
    });
    all_at_once(requests, async |(request, status)| {
        let (head, body) = only_response(&server, &request).await;
        assert_eq!(head.status, status, "{request}");
        assert!(is_close(&head) && !body.is_empty(), "{request}");
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_is_not_offered() {
    let server = TestServer::start(Backend::Memory).await;
    let targets = ["example.org:443", "/stream", "/event/click", "/nowhere"];
    let requests = targets.iter().flat_map(|target| {
        ["", "Upgrade: websocket\r\n", "Content-Length: 4\r\n"]
            .map(|headers| request(&format!("CONNECT {target} HTTP/1.1"), headers, "data"))
    });
    all_at_once(requests, async |request| {
        let (head, body) = only_response(&server, &request).await;
        assert_eq!(head.status, 405, "{request}: {body}");
        assert_eq!(head.header("allow"), Some("GET, HEAD, POST"), "{request}");
        assert!(body.contains("method_not_allowed"), "{request}: {body}");
    })
    .await;
    assert!(server.history("sse").await.is_empty());
}
