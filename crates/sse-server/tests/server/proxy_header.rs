//! PROXY headers: a load balancer names its client, and no one else can.

use std::net::{Ipv4Addr, SocketAddr};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use crate::common::{
    AnySocket, Backend, RawConnection, TestServer, TlsServer, client_settings, free_port,
    https::handshake, until, within,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const HEALTH: &str = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
/// The client that the headers name.
const CLIENT: &str = "192.0.2.77";

fn header() -> Vec<u8> {
    let addresses = [192, 0, 2, 77, 127, 0, 0, 1, 0x12, 0x34, 0, 80];
    [SIGNATURE, &[0x21, 0x11, 0, 12], &addresses].concat()
}

/// A health check of the load balancer itself.
fn local_header() -> Vec<u8> {
    [SIGNATURE, &[0x20, 0, 0, 0]].concat()
}

struct ProxiedServer {
    server: TestServer,
    address: SocketAddr,
    directory: TempDir,
}

impl ProxiedServer {
    async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let bind = format!("http://{address}?proxy=v2");
        let socket = format!("unix:{}?proxy=v2", directory.path().join("s").display());
        let log = directory.path().join("access").display().to_string();
        let flags = ["--bind", &bind, "--bind", &socket, "--access-log", &log];
        let server = TestServer::start_with(Backend::Memory, &flags).await;
        Self {
            server,
            address,
            directory,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits until the access log has this many lines of `client`.
    async fn wait_for_lines(&self, client: &str, count: usize) {
        until("the access log has the line", async || {
            let log = std::fs::read_to_string(self.directory.path().join("access"));
            let log = log.unwrap_or_default();
            (log.matches(client).count() == count).then_some(())
        })
        .await;
    }
}

/// Sends a header and a request; returns the status of the response.
async fn status_over(mut socket: impl AnySocket + 'static, header: &[u8]) -> u16 {
    // The header may arrive in parts.
    for part in header.chunks(7) {
        socket.write_all(part).await.unwrap();
        socket.flush().await.unwrap();
    }
    let mut connection = RawConnection::send_over(socket, HEALTH).await;
    connection.head().await.status
}

#[tokio::test]
async fn the_source_of_a_header_is_the_client() {
    let proxied = ProxiedServer::start().await;
    assert_eq!(status_over(proxied.connect().await, &header()).await, 200);
    proxied.wait_for_lines(CLIENT, 1).await;
    let socket = proxied.directory.path().join("s");
    let unix = UnixStream::connect(&socket).await.unwrap();
    assert_eq!(status_over(unix, &header()).await, 200);
    proxied.wait_for_lines(CLIENT, 2).await;
    assert_eq!(
        status_over(proxied.connect().await, &local_header()).await,
        200
    );
    let unix = UnixStream::connect(&socket).await.unwrap();
    assert_eq!(status_over(unix, &local_header()).await, 200);
    proxied.wait_for_lines(CLIENT, 2).await;
}

#[tokio::test]
async fn streams_of_a_client_behind_a_proxy_are_served() {
    let proxied = ProxiedServer::start().await;
    let mut socket = proxied.connect().await;
    socket.write_all(&header()).await.unwrap();
    let request = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut connection = RawConnection::send_over(socket, request).await;
    let head = connection.head().await;
    proxied.server.publish("sse", "click", "here").await;
    connection.body_until(&head, "here").await;
}

#[tokio::test]
async fn a_connection_without_a_header_is_closed_where_one_is_required() {
    let proxied = ProxiedServer::start().await;
    let v1 = b"PROXY TCP4 192.0.2.77 127.0.0.1 4660 80\r\n";
    let wrong_version = [SIGNATURE, &[0x11, 0x11, 0, 12], &[0; 12]].concat();
    for bytes in [HEALTH.as_bytes(), v1, &wrong_version] {
        let mut socket = proxied.connect().await;
        socket.write_all(bytes).await.unwrap();
        let mut response = Vec::new();
        // Unread bytes make the close a reset.
        let _ = within("the close", socket.read_to_end(&mut response)).await;
        assert!(response.is_empty());
    }
    let log = proxied.server.log();
    assert_eq!(log.matches(" WARN ").count(), 1, "{log}");
    assert!(log.contains("?proxy=v2"), "{log}");
}

#[tokio::test]
async fn a_header_is_an_error_on_other_addresses() {
    let server = TestServer::start(Backend::Memory).await;
    let v1 = b"PROXY TCP4 192.0.2.77 127.0.0.1 4660 80\r\n".to_vec();
    for header in [header(), v1] {
        let mut socket = server.connect().await;
        socket.write_all(&header).await.unwrap();
        let mut connection = RawConnection::send_over(socket, "").await;
        assert_eq!(connection.head().await.status, 400);
    }
}

#[tokio::test]
async fn a_header_precedes_the_handshake() {
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("access").display().to_string();
    let tls = TlsServer::start_on(Backend::Memory, "?proxy=v2", &["--access-log", &log]).await;
    let mut tcp = tls.connect_plain().await;
    tcp.write_all(&header()).await.unwrap();
    let settings = client_settings(&tls.certificate(), rustls::ALL_VERSIONS);
    let stream = handshake(tcp, settings.clone(), "localhost").await.unwrap();
    let mut connection = RawConnection::send_over(stream, HEALTH).await;
    assert_eq!(connection.head().await.status, 200);
    until("the access log has the line", async || {
        let lines = std::fs::read_to_string(&log).unwrap_or_default();
        lines.contains(CLIENT).then_some(())
    })
    .await;
    let without = tls.connect_plain().await;
    assert!(handshake(without, settings, "localhost").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_wait_for_a_header_make_room_for_all_others() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let bind = format!("http://{address}?proxy=v2");
    // With this limit there are 72 connections.
    let server = TestServer::under("ulimit -n 200", &["--bind", &bind]).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut socket = server.connect().await;
    let request = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut connection = RawConnection::send_over(socket, "").await;
    let head = connection.head().await;
    server.publish("sse", "click", "here").await;
    connection.body_until(&head, "here").await;
    let evicted = "sse_connections_closed_total{reason=\"head_evicted\"}";
    assert!(server.metric(evicted).await >= 1.0);
    drop(silent);
}
