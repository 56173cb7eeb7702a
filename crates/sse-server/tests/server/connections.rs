//! Connections that are slow, idle or too many: the server closes them, and other clients notice
//! nothing.
//!
//! Attackers connect from 127.0.0.2 and 127.0.0.3, and all other clients from 127.0.0.1.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Response, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::interval,
};

use crate::common::{Backend, RawConnection, TestServer, until, within};

const HEALTH_CHECK: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
const STREAM: &str = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// With this limit there are 72 connections, of which 16 are reserved.
const FEW_FILES: &str = "ulimit -n 200";
const CONNECTIONS_MAX: usize = 72;
const GENERAL_MAX: usize = 56;
/// One client may have this many of those that are not reserved.
const CLIENT_MAX: usize = 51;
/// One client may use this many of the reserve.
const CLIENT_RESERVE: usize = 4;

/// Connects from the attacker's address and sends `request`.
async fn attack(server: &TestServer, request: &str) -> TcpStream {
    attack_from("127.0.0.2:0", server, request).await
}

async fn attack_from(source: &str, server: &TestServer, request: &str) -> TcpStream {
    let address: SocketAddr = server.url.trim_start_matches("http://").parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind(source.parse().unwrap()).unwrap();
    let mut socket = within("a connection", socket.connect(address))
        .await
        .unwrap();
    // The server may have closed the connection already.
    let _ = socket.write_all(request.as_bytes()).await;
    socket
}

/// Receives until `text`; returns false if the connection ends before that.
async fn receives(socket: &mut TcpStream, text: &str) -> bool {
    let mut received = Vec::new();
    let receiving = async {
        while !String::from_utf8_lossy(&received).contains(text) {
            if !matches!(socket.read_buf(&mut received).await, Ok(1..)) {
                return false;
            }
        }
        true
    };
    within(text, receiving).await
}

/// Receives until the server closes the connection.
async fn rest(socket: &mut TcpStream) -> String {
    let mut received = Vec::new();
    // A connection that is closed before its request is read ends with a reset.
    let _ = within("the end of a connection", socket.read_to_end(&mut received)).await;
    String::from_utf8_lossy(&received).into_owned()
}

fn closed(reason: &str) -> String {
    format!("sse_connections_closed_total{{reason=\"{reason}\"}}")
}

async fn until_closed(server: &TestServer, reason: &str, least: u32) {
    let name = closed(reason);
    until(&name, async || {
        (server.metric(&name).await >= f64::from(least)).then_some(())
    })
    .await;
}

fn ends_its_connection(response: &Response) -> bool {
    let connection = response.headers().get("connection");
    connection.is_some_and(|value| value == "close")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_head_of_a_connection_must_arrive_in_time() {
    let server = TestServer::start(Backend::Memory).await;
    let mut silent = attack(&server, HEALTH_CHECK).await;
    let mut dribbling = attack(&server, HEALTH_CHECK).await;
    for socket in [&mut silent, &mut dribbling] {
        assert!(receives(socket, "{\"status\":\"live\"}").await);
        socket.write_all(b"GET /health/live HT").await.unwrap();
    }
    let mut never_used = attack(&server, "").await;
    let mut idle = RawConnection::send(&server, HEALTH_CHECK).await;
    assert_eq!(idle.head().await.status, 200);

    let response = rest(&mut silent).await;
    assert!(response.starts_with("HTTP/1.1 408"), "{response:?}");
    // A client that sends its first request at this moment would take a 408 for the response.
    assert_eq!(rest(&mut never_used).await, "");
    let dribble = async {
        let mut tick = interval(Duration::from_millis(50));
        let mut response = [0; 16];
        loop {
            tokio::select! {
                read = dribbling.read(&mut response) => if read.unwrap_or(0) == 0 { return },
                _ = tick.tick() => if dribbling.write_all(b"T").await.is_err() { return },
            }
        }
    };
    within("the end of the dribbling connection", dribble).await;
    until_closed(&server, "head_timeout", 3).await;
    // The connection that was idle for as long is not.
    idle.send_more(HEALTH_CHECK).await;
    idle.receive_until_count("{\"status\":\"live\"}", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_begins_while_the_response_is_blocked_must_arrive_in_time() {
    let server = TestServer::start(Backend::Memory).await;
    server.publish("sse", "click", &"x".repeat(200 << 10)).await;
    let request = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut socket = attack(&server, request).await;
    assert!(receives(&mut socket, "events").await);
    socket.write_all(b"GET /heal").await.unwrap();
    rest(&mut socket).await;
    until_closed(&server, "head_timeout", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_requests_of_all_kinds() {
    let server = TestServer::start(Backend::Memory).await;
    let post = "POST /event/click HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n";
    let mut connection = RawConnection::send(&server, &HEALTH_CHECK.repeat(3)).await;
    connection
        .receive_until_count("{\"status\":\"live\"}", 3)
        .await;
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    connection.send_more(&chunked).await;
    connection.send_more("1\r\nb\r\n0\r\n\r\n").await;
    connection.receive_until_count("{\"id\":", 1).await;
    connection
        .send_more(&format!(
            "{post}Content-Length: 1\r\nExpect: 100-continue\r\n\r\n"
        ))
        .await;
    connection.receive_until_count("100 Continue", 1).await;
    connection.send_more("c").await;
    connection.receive_until_count("{\"id\":", 2).await;
    connection
        .send_more(&format!("{post}Content-Length: 1\r\n\r\nd{HEALTH_CHECK}"))
        .await;
    connection
        .receive_until_count("{\"status\":\"live\"}", 4)
        .await;
    let events = server.history("sse").await;
    let data: Vec<_> = events.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(data, ["ab", "c", "d"]);
    for reason in ["head_timeout", "idle_evicted", "too_many", "too_slow"] {
        assert!(server.metric(&closed(reason)).await < 0.5, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_for_new_ones() {
    let server = TestServer::under(FEW_FILES, &[]).await;
    let mut honest = RawConnection::send(&server, HEALTH_CHECK).await;
    assert_eq!(honest.head().await.status, 200);
    let mut idle = Vec::new();
    for _ in 0..3 * CONNECTIONS_MAX {
        let mut socket = attack(&server, HEALTH_CHECK).await;
        assert!(receives(&mut socket, "{\"status\":\"live\"}").await);
        idle.push(socket);
    }
    assert_eq!(
        rest(&mut idle[0]).await,
        "",
        "the longest idle one is closed"
    );
    let last = idle.last_mut().unwrap();
    last.write_all(HEALTH_CHECK.as_bytes()).await.unwrap();
    assert!(receives(last, "{\"status\":\"live\"}").await);
    // The honest client was idle for a longer time, but it has few connections.
    honest.send_more(HEALTH_CHECK).await;
    honest.receive_until_count("{\"status\":\"live\"}", 2).await;
    until_closed(
        &server,
        "idle_evicted",
        u32::try_from(2 * CONNECTIONS_MAX).unwrap(),
    )
    .await;
    drop(server.subscribe("/stream").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reserve_holds_while_an_attacker_has_everything_else() {
    let server = TestServer::under(FEW_FILES, &[]).await;
    let mut held = Vec::new();
    for number in 0..GENERAL_MAX {
        let source = if number < CLIENT_MAX {
            "127.0.0.2:0"
        } else {
            "127.0.0.3:0"
        };
        let mut socket = attack_from(source, &server, STREAM).await;
        assert!(receives(&mut socket, ": channel").await);
        held.push(socket);
    }
    for _ in 0..2 * CONNECTIONS_MAX {
        held.push(attack(&server, "GET /health/live HT").await);
    }
    until_closed(&server, "too_many", 1).await;
    for number in 0..20 {
        let response = server.get("/health/live").await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(ends_its_connection(&response), "{response:?}");
        server.publish("sse", "click", &number.to_string()).await;
    }
    let rejected = server.get("/stream").await.unwrap();
    assert!(ends_its_connection(&rejected));
    let text = rejected.text().await.unwrap();
    assert!(text.contains("too many open streams"), "{text}");
    // The attacker's part of the reserve is free again after a second.
    until_closed(
        &server,
        "head_timeout",
        u32::try_from(CLIENT_RESERVE).unwrap(),
    )
    .await;
    assert!(
        receives(&mut held[0], "data: 19\n").await,
        "no stream was closed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_heads_of_one_client_make_room_for_others() {
    let server = TestServer::under(FEW_FILES, &[]).await;
    let mut held = Vec::new();
    for _ in 0..2 * CONNECTIONS_MAX {
        held.push(attack(&server, "GET /health/live HT").await);
    }
    for _ in CLIENT_MAX..=GENERAL_MAX {
        let mut socket = attack_from("127.0.0.3:0", &server, STREAM).await;
        assert!(receives(&mut socket, ": channel").await);
        held.push(socket);
    }
    until_closed(&server, "head_evicted", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_can_keep_others_from_streams() {
    let server = TestServer::under(FEW_FILES, &[]).await;
    let mut held = Vec::new();
    for number in 0..CLIENT_MAX + CLIENT_RESERVE {
        let mut socket = attack(&server, STREAM).await;
        let opened = if number < CLIENT_MAX {
            ": channel"
        } else {
            "too many open streams"
        };
        assert!(receives(&mut socket, opened).await, "stream {number}");
        held.push(socket);
    }
    let mut subscriber = server.subscribe("/stream").await;
    server.publish("sse", "click", "x").await;
    assert_eq!(subscriber.next_event().await.data, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_beyond_its_limit_can_publish_and_not_open_streams() {
    let flags = ["--client-connections-max", "3"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut socket = attack(&server, STREAM).await;
        assert!(receives(&mut socket, ": channel").await);
        streams.push(socket);
    }
    let mut idle = attack(&server, HEALTH_CHECK).await;
    assert!(receives(&mut idle, "{\"status\":\"live\"}").await);
    // The connection is idle soon after its response has arrived.
    let _third = until("the place of the idle connection", async || {
        let mut socket = attack(&server, STREAM).await;
        let is_open = receives(&mut socket, ": channel").await;
        is_open.then_some(socket)
    })
    .await;
    assert_eq!(rest(&mut idle).await, "");
    let rejected = rest(&mut attack(&server, STREAM).await).await;
    assert!(rejected.contains("too many open streams"), "{rejected}");
    let publish = "GET /event/click HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let published = rest(&mut attack(&server, publish).await).await;
    assert!(published.starts_with("HTTP/1.1 200"), "{published}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_its_response_too_slowly_is_closed() {
    let flags = ["--write-timeout", "1h"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    server.publish("sse", "click", &"x".repeat(900 << 10)).await;
    let request = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut slow = attack(&server, request).await;
    until_closed(&server, "too_slow", 1).await;
    assert!(rest(&mut slow).await.len() < 900 << 10);
    until("its memory is free", async || {
        (server.metric("sse_history_memory_bytes").await < 0.5).then_some(())
    })
    .await;
}
