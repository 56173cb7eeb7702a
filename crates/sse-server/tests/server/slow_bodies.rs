//! Bodies that arrive slowly or not at all: they delay no publish of another client.

use std::net::SocketAddr;

use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::common::{Backend, TestServer, until, within};

/// Connects from another address than the tests' HTTP client.
async fn connect_from_another_address(server: &TestServer) -> TcpStream {
    let address: SocketAddr = server.url.trim_start_matches("http://").parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    within("a connection", socket.connect(address))
        .await
        .unwrap()
}

/// Sends the head of a batch of `length` bytes, and the first bytes of its body.
async fn begin_batch(server: &TestServer, framing: &str, first: &[u8]) -> TcpStream {
    let mut socket = connect_from_another_address(server).await;
    let head = format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         {framing}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(first).await.unwrap();
    socket
}

async fn memory_in_use(server: &TestServer) -> usize {
    let metrics = server.get("/metrics").await.unwrap().text().await.unwrap();
    let value = |line: &str| line.strip_prefix("sse_publish_memory_bytes ")?.parse().ok();
    metrics.lines().find_map(value).expect("the gauge")
}

async fn response(socket: &mut TcpStream) -> String {
    let mut response = vec![0; 4096];
    let count = within("a response", socket.read(&mut response))
        .await
        .unwrap();
    String::from_utf8_lossy(&response[..count]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_of_which_one_byte_arrives_block_no_publish() {
    let server = TestServer::start(Backend::Memory).await;
    let mut begun = Vec::new();
    for number in 0..64 {
        begun.push(if number % 2 == 0 {
            begin_batch(&server, "Content-Length: 16777216", b"{").await
        } else {
            begin_batch(&server, "Transfer-Encoding: chunked", b"1\r\n{\r\n").await
        });
    }
    until("the first bytes are read", async || {
        (memory_in_use(&server).await >= 64 << 10).then_some(())
    })
    .await;
    assert!(memory_in_use(&server).await <= 128 << 10);
    server.publish("sse", "click", "x").await;
    drop(begun);
    until("the memory is released", async || {
        (memory_in_use(&server).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_uses_its_share_of_the_memory_delays_no_other() {
    let flags = [
        "--event-bytes-max",
        "64KiB",
        "--batch-bytes-max",
        "64KiB",
        "--publish-memory",
        "256KiB",
    ];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let body = vec![b'x'; (64 << 10) - 1];
    let mut first = begin_batch(&server, "Content-Length: 65536", &body).await;
    until("the share is in use", async || {
        (memory_in_use(&server).await == 64 << 10).then_some(())
    })
    .await;
    let mut second = begin_batch(&server, "Content-Length: 65536", &body).await;
    // A client with another address gets memory at once, for a body of the largest size.
    server.publish("sse", "click", &"x".repeat(64 << 10)).await;
    let rejected = response(&mut second).await;
    assert!(
        rejected.starts_with("HTTP/1.1 503") && rejected.contains("busy"),
        "{rejected}"
    );
    // The first body is complete, and no event in it.
    first.write_all(b"x").await.unwrap();
    let invalid = response(&mut first).await;
    assert!(invalid.starts_with("HTTP/1.1 400"), "{invalid}");
    assert_eq!(
        server
            .try_publish("sse", "click", "y")
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_is_a_408_and_its_connection_is_closed() {
    let server = TestServer::start(Backend::Memory).await;
    let mut silent = begin_batch(&server, "Content-Length: 100", b"{").await;
    let rejected = response(&mut silent).await;
    assert!(
        rejected.starts_with("HTTP/1.1 408") && rejected.contains("body_timeout"),
        "{rejected}"
    );
    let closed = within("the end of the connection", silent.read(&mut [0; 16])).await;
    assert_eq!(closed.unwrap_or(0), 0);
}
