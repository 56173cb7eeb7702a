//! Streams whose connections are full share a bound of memory. Beyond it streams of the client that
//! holds most are closed. They resume without a loss, and no other stream notices.

use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use sse_proto::blocks::{BlockSplitter, Item};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::common::{Backend, STAYS_ATTACHED, TestServer, all_at_once, skip, until, within};

const MIB: usize = 1 << 20;
const EVENTS: usize = 6;
const EVENT_BYTES: usize = MIB / 2;
const BLOCKED_BYTES: &str = "4MiB";
const BLOCKED_BYTES_MAX: u32 = 4 << 20;
const SLOW: [u8; 4] = [127, 0, 0, 1];
const READER: [u8; 4] = [127, 0, 0, 3];
const ATTACKER: [u8; 4] = [127, 0, 0, 2];

/// A client with a small receive buffer, which reads only when the test calls it.
struct Client<'a> {
    server: &'a TestServer,
    address: [u8; 4],
    path: String,
    socket: TcpStream,
    blocks: BlockSplitter,
    last_event_id: String,
    numbers: Vec<usize>,
    reconnects: usize,
}

impl<'a> Client<'a> {
    async fn open(server: &'a TestServer, address: [u8; 4], path: &str) -> Self {
        let mut client = Self {
            socket: connect(server, address, path, "").await,
            server,
            address,
            path: path.to_owned(),
            blocks: BlockSplitter::new(MIB),
            last_event_id: String::new(),
            numbers: Vec::new(),
            reconnects: 0,
        };
        while client.last_event_id.is_empty() {
            assert!(client.read(256).await, "the opening");
        }
        client
    }

    /// Reads at most `most` bytes; returns false at the end of the stream.
    async fn read(&mut self, most: usize) -> bool {
        let mut bytes = vec![0; most];
        let count = within("bytes on the stream", self.socket.read(&mut bytes)).await;
        let count = count.unwrap_or(0);
        self.blocks.push(&bytes[..count]).unwrap();
        while let Some(item) = self.blocks.next_item() {
            let Item::Block(block) = item else { continue };
            self.last_event_id = block.id.unwrap_or_else(|| self.last_event_id.clone());
            let data = block
                .text
                .lines()
                .find_map(|line| line.strip_prefix("data: "));
            let number: Option<usize> = data.and_then(|data| data.split(' ').next()?.parse().ok());
            self.numbers.extend(number);
        }
        count > 0
    }

    /// Reads all events, and reconnects whenever the stream ends.
    async fn read_all(mut self) -> Self {
        SockRef::from(&self.socket)
            .set_recv_buffer_size(MIB)
            .unwrap();
        while self.numbers.last() != Some(&(EVENTS - 1)) {
            if !self.read(64 << 10).await {
                self.reconnects += 1;
                let (path, id) = (&self.path, &self.last_event_id);
                self.socket = connect(self.server, self.address, path, id).await;
                SockRef::from(&self.socket)
                    .set_recv_buffer_size(MIB)
                    .unwrap();
                self.blocks = BlockSplitter::new(MIB);
            }
        }
        assert!(
            self.numbers.iter().copied().eq(0..EVENTS),
            "{:?}",
            self.numbers
        );
        self
    }
}

/// Opens a stream, and reads the head of the response. A proxy reports an address that is not of
/// this machine.
async fn connect(
    server: &TestServer,
    address: [u8; 4],
    path: &str,
    last_event_id: &str,
) -> TcpStream {
    let target = server.url.trim_start_matches("http://").parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let client = IpAddr::from(address);
    let (local, forwarded) = if client.is_loopback() {
        (client, String::new())
    } else {
        let header = format!("X-Forwarded-For: {client}\r\n");
        (IpAddr::from(SLOW), header)
    };
    socket.bind(SocketAddr::new(local, 0)).unwrap();
    let mut socket = within("a connection", socket.connect(target))
        .await
        .unwrap();
    // An HTTP/1.0 response has no chunks, so all bytes are the body.
    let resume = match last_event_id {
        "" => String::new(),
        id => format!("Last-Event-ID: {id}\r\n"),
    };
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n{forwarded}{resume}\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("the head", socket.read_u8()).await.unwrap());
    }
    socket
}

async fn publish_large(server: &TestServer, channel: &str) {
    let rest = "x".repeat(EVENT_BYTES);
    for number in 0..EVENTS {
        server
            .publish(channel, "n", &format!("{number} {rest}"))
            .await;
    }
}

/// Checks that only the attacker loses streams.
async fn check_bound(server: &TestServer, [slow, reader, attacker]: [[u8; 4]; 3]) {
    // Streams of several channels have ids of their own, so each one has its own chunks.
    let crowd = all_at_once(0..16, |number| {
        let path = format!("/stream?channel=large&channel=other{number}");

        async move { Client::open(server, attacker, &path).await }
    });
    let crowd = crowd.await;
    let slow = Client::open(server, slow, "/stream?channel=large&channel=own").await;
    let reader = Client::open(server, reader, "/stream?channel=large").await;
    let (reader, ()) = tokio::join!(reader.read_all(), publish_large(server, "large"));
    until(
        "streams are closed until the rest is within the bound",
        async || {
            assert!(server.metric("sse_blocked_bytes").await <= f64::from(BLOCKED_BYTES_MAX));
            (server.closed_streams("blocked_bytes").await >= 4).then_some(())
        },
    )
    .await;
    assert!(server.metric("sse_blocked_bytes").await > 0.0);
    let slow = slow.read_all().await;
    assert_eq!(
        (reader.reconnects, slow.reconnects),
        (0, 0),
        "streams of another client ended"
    );
    let crowd = all_at_once(crowd, Client::read_all).await;
    let reconnects: usize = crowd.iter().map(|client| client.reconnects).sum();
    assert!(reconnects >= 4, "{reconnects} streams were closed");
    drop((crowd, slow, reader));
    until("no stream holds memory", async || {
        (server.metric("sse_blocked_bytes").await == 0.0).then_some(())
    })
    .await;
}

crate::on_every_broker! {
    async fn streams_beyond_the_bound_are_closed_and_resume_without_loss(backend: Backend) {
        let server = TestServer::start_with(backend, &["--blocked-bytes", BLOCKED_BYTES]).await;
        check_bound(&server, [SLOW, READER, ATTACKER]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_only_the_client_that_holds_most_loses_streams() {
    let flags = [
        "--blocked-bytes",
        BLOCKED_BYTES,
        "--trusted-proxy",
        "127.0.0.1",
    ];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let clients = [1, 2, 3].map(|last| [203, 0, 113, last]);
    check_bound(&server, clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_with_the_same_bytes_hold_them_once() {
    if STAYS_ATTACHED {
        return skip("without fan-out threads, each stream has a buffer of its own");
    }
    let server = TestServer::start_with(Backend::Memory, &["--blocked-bytes", BLOCKED_BYTES]).await;
    let before = server.publish("large", "n", "before").await;
    publish_large(&server, "large").await;
    // Each stream has a filter of its own, so the streams share no view.
    let clients = all_at_once(0..20, |number| {
        let path = format!("/stream?channel=large&event=n&event=x{number}&last_event_id={before}");
        let server = &server;
        async move { Client::open(server, ATTACKER, &path).await }
    });
    let clients = clients.await;
    // The first event was handed to each of them.
    until("all streams are blocked", async || {
        (server.metric("sse_deliveries_total").await >= 20.0).then_some(())
    })
    .await;
    let blocked = server.metric("sse_blocked_bytes").await;
    assert!(
        blocked > 0.0 && blocked < f64::from(BLOCKED_BYTES_MAX / 2),
        "{blocked} bytes"
    );
    assert_eq!(server.closed_streams("blocked_bytes").await, 0);
    all_at_once(clients, Client::read_all).await;
}
