//! A unix socket: what a client gets over it is what it gets over TCP, and the socket's file
//! replaces only the file of a server that has ended.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    os::unix::net::UnixListener,
    path::Path,
    time::Duration,
};

use sse_proto::blocks::{BlockSplitter, Item};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{Instant, interval},
};

use crate::common::{
    AnySocket, Backend, PATIENCE, ProgramOutput, RawConnection, STAYS_ATTACHED, TestServer,
    output_at_start, server_command, skip, until, within,
};

/// Events that do not all fit in a socket, each written by itself.
const EVENTS_TO_FILL: usize = 200;

crate::on_every_broker! {
    async fn events_are_published_streamed_resumed_and_kept_over_a_unix_socket(backend: Backend) {
        let mut server = TestServer::start_on_unix_socket(backend, &[]).await;
        let mut subscriber = server.subscribe("/stream").await;
        server.publish("sse", "click", "one").await;
        server.publish_numbers("sse", 0..3).await;
        assert_eq!(subscriber.take_data(4).await, ["one", "0", "1", "2"]);
        let last_id = subscriber.last_event_id.clone();
        server.publish("sse", "click", "two").await;
        drop(subscriber);
        until("the stream is gone", async || {
            (server.metric("sse_subscribers").await < 0.5).then_some(())
        })
        .await;

        // The file of the killed server is still there.
        server.kill();
        assert!(server.socket().exists());
        server.restart().await;
        if backend != Backend::Memory {
            let mut resumed = server.subscribe_after("/stream", Some(&last_id)).await;
            assert_eq!(resumed.take_data(1).await, ["two"]);
            let history = server.history("sse").await;
            let data: Vec<_> = history.iter().map(|event| &*event.data).collect();
            assert_eq!(data, ["one", "0", "1", "2", "two"]);
        }
    }
}

/// Requests whose responses do not depend on the transport.
const REQUESTS: [&str; 15] = [
    // Two requests on one connection.
    "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health/ready HTTP/1.1\r\nHost: localhost\r\n\
     Connection: close\r\n\r\n",
    "POST /event/click HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\
     Connection: close\r\n\r\nhi",
    "POST /event/click HTTP/1.0\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi",
    "POST /event/click HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\
     Expect: 100-continue\r\nConnection: close\r\n\r\nhi",
    "POST /event/click HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
     Content-Length: 99999999\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
    "POST /event/click HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\
     Upgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi",
    "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
     Content-Length: 29\r\nConnection: close\r\n\r\n{\"event\":\"click\",\"data\":\"hi\"}",
    "POST /event/click HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/weird\r\nContent-Length: 2\r\n\
     Connection: close\r\n\r\nhi",
    // Pages of this machine and of another site.
    "POST /event/click HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\
     Content-Length: 0\r\nConnection: close\r\n\r\n",
    "GET /event/click HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nConnection: close\r\n\r\n",
    "GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "DELETE /stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "OPTIONS /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "no HTTP\r\n\r\n",
];

/// Sends bytes and returns the response up to the end of the connection.
async fn exchange(mut socket: impl AnySocket, request: &str) -> String {
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let reading = socket.read_to_end(&mut response);
    // The server may close the connection with bytes unread, which resets it.
    let _ = within("the end of the connection", reading).await;
    String::from_utf8(response).unwrap()
}

/// A response with `0` for each number, and its lines in alphabetical order.
fn comparable(response: &str) -> Vec<String> {
    let lines = response.lines().filter(|line| !line.starts_with("date: "));
    let mut lines: Vec<String> = lines.map(without_numbers).collect();
    lines.sort();
    lines
}

fn without_numbers(line: &str) -> String {
    let mut result = String::new();
    for character in line.chars() {
        match character {
            '0'..='9' if result.ends_with('0') => {}
            '0'..='9' => result.push('0'),
            _ => result.push(character),
        }
    }
    result
}

/// The first line of a response, with its status.
fn status_line(response: &str) -> &str {
    response.lines().next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_is_the_one_over_tcp() {
    let server = TestServer::start_on_unix_socket(Backend::Memory, &[]).await;
    let reference = TestServer::start(Backend::Memory).await;
    for request in REQUESTS {
        let over_unix = exchange(server.connect_unix().await, request).await;
        let over_tcp = exchange(reference.connect().await, request).await;
        let status = status_line(&over_tcp);
        assert!(status.starts_with("HTTP/1."), "{request}: {over_tcp}");
        assert_eq!(status_line(&over_unix), status, "{request}");
        assert_eq!(comparable(&over_unix), comparable(&over_tcp), "{request}");
    }
    // A failed connection is logged after its response.
    for server in [&server, &reference] {
        until("the last request is logged", async || {
            server.log().contains("does not speak HTTP").then_some(())
        })
        .await;
    }
    let warnings = |log: &str| log.matches(" WARN ").count();
    let log = server.log();
    assert_eq!(warnings(&log), warnings(&reference.log()), "{log}");
    assert_eq!(log.matches("does not speak HTTP").count(), 1, "{log}");
}

/// No browser reaches the socket, but a proxy that listens on loopback can lead there.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_foreign_host_cannot_publish_through_a_proxy() {
    let server = TestServer::start_on_unix_socket(Backend::Memory, &[]).await;
    let publish = "POST /event/click HTTP/1.1\r\nHost: hub.example\r\nOrigin: http://hub.example\r\n\
                   Content-Length: 0\r\nConnection: close\r\n\r\n";
    let rejected = exchange(server.connect_unix().await, publish).await;
    assert!(rejected.contains("origin_not_allowed"), "{rejected}");
    let read = "GET /events HTTP/1.1\r\nHost: hub.example\r\nConnection: close\r\n\r\n";
    let history = exchange(server.connect_unix().await, read).await;
    assert!(status_line(&history).ends_with("200 OK"), "{history}");
    assert!(history.contains("\"events\":[]"), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_an_error_leads_to_the_socket_without_its_path() {
    let server = TestServer::start_on_unix_socket(Backend::Memory, &[]).await;
    for (host, target) in [
        (
            "localhost",
            "--unix-socket SOCKET 'http://localhost/".to_owned(),
        ),
        // The client came through a proxy.
        ("hub.example.org", "'http://hub.example.org/".to_owned()),
    ] {
        let request = format!(
            "POST /event/click HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/weird\r\n\
             Content-Length: 2\r\nConnection: close\r\n\r\nhi"
        );
        let mut connection = RawConnection::send_over(server.connect_unix().await, &request).await;
        let head = connection.head().await;
        let body = connection.body_to_the_close(&head).await;
        assert!(body.contains(&target), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_streams_holds_for_all_addresses_together() {
    let server = TestServer::start_on_unix_socket(Backend::Memory, &["--streams-max", "2"]).await;
    let _over_unix = server.subscribe("/stream").await;
    let request = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut over_tcp = RawConnection::send(&server, request).await;
    let head = over_tcp.head().await;
    over_tcp.body_until(&head, "\n\n").await;
    let rejected = exchange(server.connect_unix().await, request).await;
    assert!(rejected.contains("too many open streams"), "{rejected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_shutdown_streams_end_properly_and_the_file_is_removed() {
    let mut server = TestServer::start_on_unix_socket(Backend::Memory, &[]).await;
    let request = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = RawConnection::send_over(server.connect_unix().await, request).await;
    let head = stream.head().await;
    stream.body_until(&head, "\n\n").await;
    let status = server.stop("TERM").await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
    stream.body_to_the_close(&head).await;
    assert!(!server.socket().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_has_replaced_the_socket_stays_at_shutdown() {
    let mut server = TestServer::start_on_unix_socket(Backend::Memory, &[]).await;
    fs::remove_file(server.socket()).unwrap();
    let _other = UnixListener::bind(server.socket()).unwrap();
    assert_eq!(
        server.stop("TERM").await.code(),
        Some(0),
        "{}",
        server.log()
    );
    assert!(server.socket().exists());
}

/// Starts a server on the socket at `path`. Returns its output up to the moment when it listens or
/// ends.
async fn start_at(path: &Path) -> ProgramOutput {
    let bind = format!("unix:{}", path.display());
    let mut command = server_command();
    command.args(["--memory", "--bind", &bind]);
    output_at_start(&mut command, &TempDir::new().unwrap()).await
}

async fn assert_refused(path: &Path, message: &str) {
    let output = start_at(path).await;
    assert_eq!(
        (output.code, &*output.stdout),
        (Some(1), ""),
        "{}",
        output.stderr
    );
    let expected = format!("cannot listen on unix:{}: {message}", path.display());
    assert!(output.stderr.contains(&expected), "{}", output.stderr);
    assert!(output.stderr.contains("--bind"), "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_replaced_only_if_connecting_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sse.sock");
    let live = UnixListener::bind(&path).unwrap();
    let inode = fs::symlink_metadata(&path).unwrap().ino();
    assert_refused(&path, "another server is running there").await;
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), inode);

    drop(live);
    let output = start_at(&path).await;
    assert_eq!(output.code, None, "{}", output.stderr);
    assert!(
        output.stderr.contains("replacing the socket"),
        "{}",
        output.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_not_replaced_by_a_second_one() {
    let server = TestServer::start_on_unix_socket(Backend::Memory, &[]).await;
    assert_refused(server.socket(), "another server is running there").await;
    server.publish("sse", "click", "still there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_stream_socket_stays() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "text").unwrap();
    fs::create_dir(at("directory")).unwrap();
    drop(UnixListener::bind(at("stale")).unwrap());
    symlink(at("stale"), at("link")).unwrap();
    for name in ["file", "directory", "link"] {
        assert_refused(&at(name), "there is a file that is not a socket").await;
    }
    // It cannot be known whether the program that receives datagrams still runs.
    let _datagrams = std::os::unix::net::UnixDatagram::bind(at("datagrams")).unwrap();
    assert_refused(
        &at("datagrams"),
        "a socket is there, and whether a server uses it",
    )
    .await;
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "text");
    assert!(at("link").is_symlink() && at("stale").exists() && at("datagrams").exists());

    assert_refused(&at("missing/sse.sock"), "the directory does not exist").await;
    assert_refused(&at("file/sse.sock"), "the directory does not exist").await;
}

/// The permissions of what is at `path`, if there is something.
fn mode(path: &Path) -> Option<u32> {
    Some(fs::symlink_metadata(path).ok()?.permissions().mode() & 0o777)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_has_exactly_the_permissions_of_the_flag_whatever_the_umask() {
    for (flags, expected) in [
        (&[][..], 0o600),
        (&["--socket-mode", "0660"], 0o660),
        (&["--socket-mode", "777"], 0o777),
    ] {
        for umask in ["000", "077"] {
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("sse.sock");
            let bind = format!("unix:{}", path.display());
            let flags = [&["--bind", &bind], flags].concat();
            let limit = format!("umask {umask}");
            let start = TestServer::under(&limit, &flags);
            // While the server starts, the file never has more permissions.
            let seen = std::thread::spawn({
                let (path, begun) = (path.clone(), Instant::now());
                move || {
                    let is_final = |mode| mode == expected || mode & !expected != 0;
                    while begun.elapsed() < PATIENCE {
                        if let Some(mode) = mode(&path).filter(|mode| is_final(*mode)) {
                            return Some(mode);
                        }
                        std::thread::yield_now();
                    }
                    None
                }
            });
            let _server = start.await;
            assert_eq!(mode(&path), Some(expected), "{flags:?} {umask}");
            let seen = tokio::task::spawn_blocking(|| seen.join().unwrap())
                .await
                .unwrap();
            assert_eq!(seen, Some(expected), "{flags:?} {umask}");
        }
    }
}

/// A stream whose bytes the test reads itself. HTTP/1.0 has no chunks, so all bytes are the body.
async fn open_stream(server: &TestServer) -> UnixStream {
    let mut socket = server.connect_unix().await;
    socket
        .write_all(b"GET /stream HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut opening = Vec::new();
    while !opening.ends_with(b"\n\n") {
        let byte = within("the opening", socket.read_u8()).await.unwrap();
        opening.push(byte);
    }
    socket
}

/// Publishes numbers in batches, each event with 200 bytes.
async fn publish_padded(server: &TestServer, count: usize) {
    for first in (0..count).step_by(1000) {
        let line = |number| format!(r#"{{"event":"n","data":"{:x<200}"}}"#, format!("{number} "));
        let lines: Vec<_> = (first..count.min(first + 1000)).map(line).collect();
        let response = server
            .try_publish_batch("sse", lines.join("\n"))
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
    }
}

/// Reads a stream up to the event with the number `last`, and checks that all come in order.
async fn assert_reads_all(socket: &mut UnixStream, mut splitter: BlockSplitter, last: usize) {
    let mut numbers = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        while let Some(item) = splitter.next_item() {
            let Item::Block(block) = item else { continue };
            let data = block
                .text
                .lines()
                .find_map(|line| line.strip_prefix("data: "));
            let number = data.and_then(|data| data.split(' ').next()?.parse::<usize>().ok());
            numbers.extend(number);
        }
        if numbers.last() == Some(&last) {
            break;
        }
        let count = within("bytes on the stream", socket.read(&mut buffer))
            .await
            .unwrap();
        assert!(count > 0, "the stream ended after {:?}", numbers.last());
        splitter.push(&buffer[..count]).unwrap();
    }
    assert!(
        numbers.iter().copied().eq(0..=last),
        "{} events",
        numbers.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_a_kilobyte_per_second_stays_and_gets_every_event() {
    const EVENTS: usize = 10_000;
    let write_timeout = Duration::from_secs(3);
    let server =
        TestServer::start_on_unix_socket(Backend::Memory, &["--write-timeout", "3s"]).await;
    let mut socket = open_stream(&server).await;
    let mut splitter = BlockSplitter::new(1 << 20);
    publish_padded(&server, EVENTS).await;
    let end = Instant::now() + 4 * write_timeout;
    let mut tick = interval(Duration::from_millis(250));
    while Instant::now() < end {
        tick.tick().await;
        let mut sip = [0; 250];
        let count = within("bytes on the stream", socket.read(&mut sip))
            .await
            .unwrap();
        assert!(count > 0, "the stream ended");
        splitter.push(&sip[..count]).unwrap();
    }
    assert_reads_all(&mut socket, splitter, EVENTS - 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_is_closed_and_resumes_by_its_last_id() {
    if STAYS_ATTACHED {
        return skip("a unit test covers the connections that stay with their HTTP workers");
    }
    let flags = ["--write-timeout", "300ms", "--coalesce", "0"];
    let server = TestServer::start_on_unix_socket(Backend::Memory, &flags).await;
    let mut stopped = open_stream(&server).await;
    let mut steady = server.subscribe("/stream").await;
    // Each event is a write of its own. The overhead of small writes fills the socket with few
    // bytes, which a slow reader would have read soon.
    let data = "x".repeat(160);
    for _ in 0..EVENTS_TO_FILL {
        server.publish("sse", "n", &data).await;
        steady.next_event().await;
    }
    until("the stalled stream is closed", async || {
        (server.metric("sse_subscribers").await < 1.5).then_some(())
    })
    .await;
    let stalled = server.metric(r#"sse_streams_closed_total{reason="stalled"}"#);
    assert!((stalled.await - 1.0).abs() < 0.5);
    server.publish("sse", "n", &data).await;
    steady.next_event().await;

    let mut received = String::new();
    within("the end", stopped.read_to_string(&mut received))
        .await
        .unwrap();
    let (last_block, _) = received.rsplit_once("\n\n").unwrap();
    let (_, id) = last_block.rsplit_once("id: ").unwrap();
    let count = received.matches("data: ").count();
    assert!(count < EVENTS_TO_FILL, "the socket was not full");
    let mut resumed = server.subscribe_after("/stream", id.lines().next()).await;
    assert_eq!(
        resumed.take_data(EVENTS_TO_FILL + 1 - count).await.len(),
        EVENTS_TO_FILL + 1 - count
    );
    assert_eq!(resumed.last_event_id, steady.last_event_id);
}
