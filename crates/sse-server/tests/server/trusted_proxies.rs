//! The client that a trusted proxy reports counts for limits and logs, and nothing that another
//! client writes does.

use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Backend, RawConnection, RawHead, TestServer, until};

/// Sends a publish with these headers, and returns the head of the response.
async fn publish(server: &TestServer, headers: &str) -> RawHead {
    let request = format!(
        "GET /event/click HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
    );
    RawConnection::send(server, &request).await.head().await
}

#[tokio::test]
async fn limits_count_the_client_that_a_trusted_proxy_reports() {
    let flags = [
        "--limit-events",
        "1/h",
        "--trusted-proxy",
        "127.0.0.0/8,::1",
    ];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    for (headers, status) in [
        ("X-Forwarded-For: 203.0.113.7\r\n", 200),
        ("X-Forwarded-For: 203.0.113.7\r\n", 429),
        // The client can write what it likes before the address that the proxy appended.
        ("X-Forwarded-For: 1.1.1.1, 203.0.113.7\r\n", 429),
        ("X-Forwarded-For: 203.0.113.7, 127.0.0.9\r\n", 429),
        ("Forwarded: for=\"203.0.113.7:4711\"\r\n", 429),
        ("X-Forwarded-For: 203.0.113.8\r\n", 200),
        // Forwarded counts if both are given.
        (
            "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.8\r\n",
            429,
        ),
        ("Forwarded: for=\"[2001:db8::1]\"\r\n", 200),
        ("Forwarded: for=\"[2001:db8::2]:80\"\r\n", 429),
        // All hops without an address are the proxy itself.
        ("Forwarded: for=unknown\r\n", 200),
        ("Forwarded: for=_hidden\r\n", 429),
        ("X-Forwarded-For: nonsense\r\n", 429),
        ("", 429),
    ] {
        assert_eq!(publish(&server, headers).await.status, status, "{headers}");
    }
}

#[tokio::test]
async fn a_client_that_is_no_trusted_proxy_cannot_choose_its_address() {
    for proxies in ["10.0.0.0/8", "unix"] {
        let flags = ["--limit-events", "1/h", "--trusted-proxy", proxies];
        let server = TestServer::start_with(Backend::Memory, &flags).await;
        assert_eq!(publish(&server, "").await.status, 200);
        for header in ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7"] {
            assert_eq!(publish(&server, &format!("{header}\r\n")).await.status, 429);
        }
    }
}

#[tokio::test]
async fn a_proxy_over_a_unix_socket_can_be_trusted() {
    let flags = ["--limit-events", "1/h", "--trusted-proxy", "unix"];
    let server = TestServer::start_on_unix_socket(Backend::Memory, &flags).await;
    let publish = async |client: &str| {
        let request = server.http.get("http://localhost/event/click");
        let response = request.header("x-forwarded-for", client).send().await;
        response.unwrap().status()
    };
    assert_eq!(publish("203.0.113.7").await, StatusCode::OK);
    assert_eq!(publish("203.0.113.7").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(publish("203.0.113.8").await, StatusCode::OK);
}

#[tokio::test]
async fn the_access_log_has_the_address_of_the_client() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("access.log");
    let flags = [
        "--trusted-proxy",
        "127.0.0.1",
        "--log-format",
        "json",
        "--access-log",
        path.to_str().unwrap(),
    ];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let forwarded = "X-Forwarded-For: 203.0.113.7\r\n";
    publish(&server, forwarded).await;
    let request = format!("GET /stream HTTP/1.1\r\nHost: localhost\r\n{forwarded}\r\n");
    let mut stream = RawConnection::send(&server, &request).await;
    let head = stream.head().await;
    stream.body_until(&head, "id: ").await;
    drop(stream);
    // A request that is rejected before the app sees it.
    let expecting = format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
         Content-Length: 99999999\r\n{forwarded}\r\n"
    );
    let head = RawConnection::send(&server, &expecting).await.head().await;
    assert_eq!(head.status, 413);
    let lines = until("all lines", async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines: Vec<Value> = lines
            .filter(|line| {
                line["path"]
                    .as_str()
                    .is_some_and(|path| !path.starts_with("/health"))
            })
            .collect();
        (lines.len() >= 4).then_some(lines)
    })
    .await;
    for line in lines {
        assert_eq!(line["address"], "203.0.113.7", "{line}");
    }
}

/// Opens streams until one is rejected or there are `count`; returns how many are open.
async fn open_streams(server: &TestServer, count: usize) -> usize {
    let mut streams = Vec::new();
    while streams.len() < count {
        let request = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut stream = RawConnection::send(server, request).await;
        let head = stream.head().await;
        let opening = stream.body_until(&head, "\n\n").await;
        if opening.contains("reconnect later") {
            break;
        }
        streams.push(stream);
    }
    streams.len()
}

#[tokio::test]
async fn the_limit_of_connections_does_not_apply_to_a_trusted_proxy() {
    let limit = ["--client-connections-max", "3"];
    let server = TestServer::start_with(Backend::Memory, &limit).await;
    assert!(open_streams(&server, 8).await <= 3);
    let flags = [&limit[..], &["--trusted-proxy", "127.0.0.1"]].concat();
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    assert_eq!(open_streams(&server, 8).await, 8);
}
