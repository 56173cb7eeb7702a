//! Clients that send frames of HTTP/2 to exhaust the server. Its memory stays bounded, and it serves
//! others. The unit tests of `server/http2` have what each such client gets.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};

use crate::common::{
    http2::{Http2Client, settings_with_alpn},
    https::TlsServer,
    skip, within,
};

/// Connections per kind of flood.
const CONNECTIONS: usize = 6;
/// How much the memory may grow. Each kind of flood sends or asks for more than this.
const GROWTH_MAX_KIB: usize = 64 << 10;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// A header field that is not indexed (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127);
    let text = |text: &str| [&[length(text).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

fn get(path: &str) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
    ];
    fields
        .into_iter()
        .flat_map(|(name, value)| field(name, value))
        .collect()
}

/// Sends everything, or as much as the server reads, and returns the connection.
async fn flood(
    server: &TlsServer,
    frames: impl Iterator<Item = Vec<u8>>,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let settings = settings_with_alpn(&server.certificate(), &[b"h2"]);
    let (mut read, mut write) = split(server.connect_with(settings).await.unwrap());
    let mut received = vec![0; 64 << 10];
    let writing = async {
        for bytes in std::iter::once(PREFACE.to_vec()).chain(frames) {
            if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
                return;
            }
        }
    };
    let discarding = async { while read.read(&mut received).await.is_ok_and(|count| count > 0) {} };
    within("the flood", async {
        tokio::select! {
            () = writing => {}
            () = discarding => {}
        }
    })
    .await;
    read.unsplit(write)
}

/// Odd numbers, which the requests of a client have.
fn ids() -> impl Iterator<Item = u32> {
    (0..).map(|number| 2 * number + 1)
}

fn resets() -> impl Iterator<Item = Vec<u8>> {
    let head = get("/stream");
    let requests = ids().take(20_000).map(move |id| {
        let opened = frame(HEADERS, END_HEADERS | END_STREAM, id, &head);
        [opened, frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
    });
    std::iter::once(frame(SETTINGS, 0, 0, b"")).chain(requests)
}

fn continuations() -> impl Iterator<Item = Vec<u8>> {
    let part: Vec<u8> = (0..80)
        .flat_map(|_| field("x-part", &"x".repeat(100)))
        .collect();
    let begin = [
        frame(SETTINGS, 0, 0, b""),
        frame(HEADERS, END_STREAM, 1, &get("/")),
    ];
    let endless = (0..10_000).map(move |_| frame(CONTINUATION, 0, 1, &part));
    std::iter::once(begin.concat()).chain(endless)
}

/// Streams whose windows are zero.
fn windows_of_zero() -> impl Iterator<Item = Vec<u8>> {
    let initial_window_size = [0, 4, 0, 0, 0, 0];
    let head = get("/stream?channel=a");
    let requests = ids()
        .take(190)
        .map(move |id| frame(HEADERS, END_HEADERS | END_STREAM, id, &head));
    std::iter::once(frame(SETTINGS, 0, 0, &initial_window_size)).chain(requests)
}

/// A line of the status of the server's process, in KiB.
fn memory_kib(server: &TlsServer, name: &str) -> Option<usize> {
    let path = format!("/proc/{}/status", server.server.pid());
    let status = std::fs::read_to_string(path).ok()?;
    let mut lines = status.lines().filter_map(|line| line.strip_prefix(name));
    lines.next()?.trim().strip_suffix(" kB")?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_take_bounded_memory() {
    let server = TlsServer::start(&["--blocked-bytes", "8MiB"]).await;
    let Some(before) = memory_kib(&server, "VmRSS:") else {
        return skip("the memory of a process is read from /proc, which this system does not have");
    };
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(flood(&server, windows_of_zero()).await);
        flood(&server, resets()).await;
        flood(&server, continuations()).await;
    }
    let client = Http2Client::connect(server.address, &server.certificate()).await;
    for _ in 0..20 {
        client.publish("a", &"x".repeat(60_000)).await;
    }
    let peak = memory_kib(&server, "VmHWM:").unwrap();
    let growth = peak.saturating_sub(before);
    assert!(growth <= GROWTH_MAX_KIB, "{growth} KiB");
}
