//! Clients that do not speak HTTP are logged with their address, and do not fill the log.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{Backend, TestServer, within};

/// The beginning of a TLS handshake (RFC 8446, section 5.1).
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03\x9d\x1c\x0a\x0d\r\n\r\n";

#[tokio::test]
async fn garbage_is_one_warning_with_the_address_of_the_client() {
    let server = TestServer::start(Backend::Memory).await;
    let mut clients = Vec::new();
    for bytes in [
        CLIENT_HELLO,
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        CLIENT_HELLO,
    ] {
        let mut socket = server.connect().await;
        clients.push(socket.local_addr().unwrap());
        socket.write_all(bytes).await.unwrap();
        let mut response = Vec::new();
        let read = within(
            "the end of the connection",
            socket.read_to_end(&mut response),
        );
        // The server may close the connection with bytes unread, which resets it.
        let _ = read.await;
        let response = String::from_utf8_lossy(&response);
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    }
    let log = server.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    // A response is sent before its connection is logged, so any of them may be the first.
    let names_client = |client: &SocketAddr| warnings[0].contains(&client.to_string());
    assert!(clients.iter().any(names_client), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}
