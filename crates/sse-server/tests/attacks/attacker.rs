//! A client with an address of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use reqwest::{Client, RequestBuilder};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Receive buffer of a client that reads nothing, so that the server soon cannot write.
const SMALL_BUFFER: u32 = 4096;

/// A client that is not one of the victims.
pub(crate) struct Attacker {
    server: SocketAddr,
    url: String,
    http: Client,
}

impl Attacker {
    /// An attacker of the server at this address.
    pub(crate) fn new(server: SocketAddr) -> Self {
        let http = Client::builder().no_proxy().local_address(ADDRESS);
        Self {
            server,
            url: format!("http://{server}"),
            http: http.build().expect("a client"),
        }
    }

    /// A POST without a body.
    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.url))
    }

    /// A GET.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url))
    }

    /// Publishes lines of a batch.
    pub(crate) fn batch(&self, channel: &str, lines: String) -> RequestBuilder {
        let request = self.post(&format!("/events?channel={channel}"));
        request
            .header("content-type", "application/x-ndjson")
            .body(lines)
    }

    /// Opens a connection and sends `bytes`. A connection that the server has closed is no error.
    pub(crate) async fn send(&self, bytes: &[u8]) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        self.send_over(socket, bytes).await
    }

    /// Does the same with a client that will read nothing.
    pub(crate) async fn send_without_reading(&self, bytes: &[u8]) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        let _ = socket.set_recv_buffer_size(SMALL_BUFFER);
        self.send_over(socket, bytes).await
    }

    async fn send_over(&self, socket: TcpSocket, bytes: &[u8]) -> TcpStream {
        let from = SocketAddr::new(ADDRESS, 0);
        socket.bind(from).expect("an address of this machine");
        let connected = socket.connect(self.server).await;
        let mut socket = connected.expect("a connection");
        let _ = socket.write_all(bytes).await;
        socket
    }
}

/// A GET as bytes.
pub(crate) fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}
