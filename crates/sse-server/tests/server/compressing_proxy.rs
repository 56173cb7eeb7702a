//! A real `HAProxy` that compresses `text/event-stream` does not delay events.
//!
//! A compressor holds back the end of its input until it has enough for a block. The last event of
//! a stream would arrive only together with the next one.

use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::common::{
    Backend, KilledWhenDropped, RawConnection, RawHead, TestServer, free_port, skip, until,
};

/// An `HAProxy` in front of a server. Killed when dropped.
struct CompressingProxy {
    address: String,
    _process: KilledWhenDropped,
    _directory: TempDir,
}

impl CompressingProxy {
    /// Starts `HAProxy`; returns `None`, and reports the test as skipped, if it is not installed.
    async fn start(server: &TestServer) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("haproxy.cfg");
        let address = format!("127.0.0.1:{}", free_port());
        std::fs::write(&file, configuration(&address, server)).unwrap();
        let started = Command::new("haproxy")
            .args(["-db", "-q", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn();
        let Ok(process) = started else {
            skip("haproxy is not installed, so no proxy compresses the stream");
            return None;
        };
        let proxy = Self {
            address,
            _process: KilledWhenDropped(process),
            _directory: directory,
        };
        until("HAProxy listens", async || {
            TcpStream::connect(&proxy.address).await.ok()
        })
        .await;
        Some(proxy)
    }

    /// Requests `path` as a client that accepts compressed responses.
    async fn get(&self, path: &str) -> (RawConnection, RawHead) {
        let socket = TcpStream::connect(&self.address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: hub.example\r\nAccept-Encoding: gzip\r\n\r\n");
        let mut connection = RawConnection::send_over(socket, &request).await;
        let head = connection.head().await;
        (connection, head)
    }
}

fn configuration(address: &str, server: &TestServer) -> String {
    let backend = server.url.trim_start_matches("http://");
    format!(
        "defaults\n\
         \tmode http\n\
         \ttimeout connect 10s\n\
         \ttimeout client 60s\n\
         \ttimeout server 60s\n\
         \tcompression algo gzip\n\
         \tcompression type text/event-stream application/json\n\
         listen hub\n\
         \tbind {address}\n\
         \tserver hub {backend}\n"
    )
}

#[tokio::test]
async fn an_event_arrives_completely_without_waiting_for_the_next_one() {
    let flags = ["--public-url", "http://hub.example"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let Some(proxy) = CompressingProxy::start(&server).await else {
        return;
    };
    let (mut stream, head) = proxy.get("/stream").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-encoding"), None, "{head:?}");
    stream.body_until(&head, ": channel sse\n\n").await;
    for data in ["the first", "the second"] {
        server.publish("sse", "click", data).await;
        stream.body_until(&head, &format!("data: {data}\n\n")).await;
    }
    // The proxy does compress what it may.
    let (_, history) = proxy.get("/events").await;
    assert_eq!(history.header("content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn lines_of_history_may_not_be_compressed() {
    let server = TestServer::start(Backend::Memory).await;
    server.publish("sse", "click", "x").await;
    let request = server.http.get(server.at("/events"));
    let response = request
        .header("accept", "application/x-ndjson")
        .send()
        .await
        .unwrap();
    assert_eq!(
        response.headers()["cache-control"],
        "no-store, no-transform"
    );
}
