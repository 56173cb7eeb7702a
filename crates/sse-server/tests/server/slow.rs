//! Subscribers that read more slowly than events arrive, or not at all for a while, at the
//! documented rates.
//!
//! Each subscriber gets every event that is kept, once and in order, and a gap for exactly the
//! events that it missed. The server needs almost no memory for slow subscribers.

use std::{ops::Range, pin::pin, sync::Arc, time::Duration};

use serde_json::Value;
use socket2::SockRef;
use sse_proto::{
    api::{Gap, GapReason},
    blocks::{BlockSplitter, Item},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::watch,
    time::{Instant, interval},
};

use crate::common::{Backend, TestServer, all_at_once, peak_memory, within};

/// Events to publish: 5 000 events/s of 200 bytes, for two seconds.
const EVENTS: usize = 10_000;
const BATCH: usize = 100;
const BATCH_EVERY: Duration = Duration::from_millis(20);
const EVENT_BYTES: usize = 200;
/// Time between two measurements of the bytes that wait in sockets.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Readers per kind.
const READERS: usize = 50;
/// Bytes that a slow reader reads at once, four times a second: 1 KB/s.
const SIP_BYTES: usize = 250;
const SIP_EVERY: Duration = Duration::from_millis(250);
const MEMORY_MAX: usize = 64 << 20;
/// Upper bound of the kernel memory per byte that waits in a socket.
const KERNEL_FACTOR: usize = 2;
/// Default of `--tail-events`.
const TAIL_EVENTS: usize = 1024;
/// Upper bound of the bytes that the server holds per stream before they are written to the socket.
const CHUNK_BYTES: usize = 64 << 10;

/// Size of the subscriber's receive buffer.
#[derive(Debug, Clone, Copy)]
enum Room {
    Small,
    /// The system's default size.
    Usual,
}

/// A block on a stream.
#[derive(Debug)]
enum Received {
    Number(usize),
    Gap(Gap),
}

/// A stream whose reading speed the test controls.
struct Reader {
    socket: TcpStream,
    blocks: BlockSplitter,
    opening: String,
    /// Blocks received, each with the last event id after the block.
    received: Vec<(String, Received)>,
    last_event_id: String,
    bytes_read: usize,
}

impl Reader {
    async fn open(server: &TestServer, room: Room) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if matches!(room, Room::Small) {
            socket.set_recv_buffer_size(4096).unwrap();
        }
        let address = server.url.trim_start_matches("http://").parse().unwrap();
        let mut socket = within("a connection", socket.connect(address))
            .await
            .unwrap();
        // An HTTP/1.0 response has no chunks, so all bytes are the body.
        socket
            .write_all(b"GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the head", socket.read_u8()).await.unwrap());
        }
        let (opening, last_event_id) = (String::new(), String::new());
        let (blocks, received) = (BlockSplitter::new(1 << 20), Vec::new());
        let mut reader = Self {
            socket,
            blocks,
            opening,
            received,
            last_event_id,
            bytes_read: 0,
        };
        while reader.last_event_id.is_empty() {
            reader.read(256).await;
        }
        reader.opening.clone_from(&reader.last_event_id);
        reader
    }

    /// Reads at most `most` bytes; returns false at the end of the stream.
    async fn read(&mut self, most: usize) -> bool {
        let mut bytes = vec![0; most];
        let count = within("bytes on the stream", self.socket.read(&mut bytes)).await;
        let count = count
            .inspect_err(|error| eprintln!("the stream broke: {error}"))
            .unwrap_or(0);
        self.bytes_read += count;
        self.blocks.push(&bytes[..count]).unwrap();
        while let Some(item) = self.blocks.next_item() {
            let Item::Block(block) = item else { continue };
            if let Some(id) = block.id {
                self.last_event_id = id;
            }
            let field = |name: &str| block.text.lines().find_map(|line| line.strip_prefix(name));
            let received = match (field("event: "), field("data: ")) {
                (Some("gap"), Some(data)) => Received::Gap(serde_json::from_str(data).unwrap()),
                (Some(_), Some(data)) => Received::Number(number_in(data)),
                _ => continue,
            };
            self.received.push((self.last_event_id.clone(), received));
        }
        count > 0
    }

    /// Reads slowly until `goes_on` has a value.
    async fn sip(&mut self, mut goes_on: watch::Receiver<Option<Sockets>>) {
        let mut tick = interval(SIP_EVERY);
        while goes_on.borrow_and_update().is_none() {
            tick.tick().await;
            self.read(SIP_BYTES).await;
        }
    }

    /// Checks that this reader is behind the tail after all events were published. Even with the
    /// bytes that wait in sockets, or may be on their way there, the reader has been sent fewer
    /// events than were published before the tail begins.
    fn assert_behind_the_tail(&self, sockets: &[Socket]) {
        let here = self.socket.local_addr().unwrap().port();
        let ours = sockets.iter().filter(|socket| socket.client == here);
        let given = self.bytes_read
            + ours
                .map(|socket| socket.unsent + socket.unread)
                .sum::<usize>()
            + CHUNK_BYTES;
        assert!(
            given < (EVENTS - TAIL_EVENTS) * EVENT_BYTES,
            "{given} bytes were sent: not behind the tail"
        );
    }

    /// Reads at full speed up to the event with this number.
    async fn read_until(&mut self, last: usize) {
        SockRef::from(&self.socket)
            .set_recv_buffer_size(1 << 20)
            .unwrap();
        while !matches!(self.received.last(), Some((_, Received::Number(number))) if *number == last)
        {
            assert!(
                self.read(64 << 10).await,
                "the stream ended after {:?}",
                self.received.last()
            );
        }
    }

    /// Checks that every event came once and in order, except those that gaps reported; returns the
    /// end of the last gap.
    fn judge(&self) -> Option<usize> {
        let (mut expected, mut before, mut gap_end) = (0, &self.opening, None);
        let mut received = self.received.iter().peekable();
        while let Some((id, what)) = received.next() {
            match what {
                Received::Number(number) => {
                    assert_eq!(*number, expected, "after {before}");
                    expected += 1;
                }
                Received::Gap(gap) => {
                    assert_eq!(gap.reason, GapReason::Trimmed);
                    assert!(gap.after == *before, "{gap:?} after {before}");
                    let Some((next, Received::Number(number))) = received.peek() else {
                        panic!("{gap:?} and nothing more")
                    };
                    assert_eq!(
                        gap.oldest.map(|oldest| oldest.to_string()).as_ref(),
                        Some(next)
                    );
                    assert!(
                        *number > expected,
                        "a gap in which nothing is missing: {gap:?}"
                    );
                    expected = *number;
                    gap_end = Some(*number);
                }
            }
            before = id;
        }
        assert_eq!(expected, EVENTS);
        gap_end
    }
}

fn number_in(data: &str) -> usize {
    data.split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// Publishes numbers followed by padding, as one batch.
async fn publish(server: &TestServer, numbers: Range<usize>) {
    let line = |number| {
        format!(
            r#"{{"event":"n","data":"{:x<EVENT_BYTES$}"}}"#,
            format!("{number} ")
        )
    };
    let lines: Vec<String> = numbers.map(line).collect();
    let response = server
        .try_publish_batch("sse", lines.join("\n"))
        .await
        .expect("an answer");
    assert!(response.status().is_success(), "{}", response.status());
}

async fn publish_all(server: &TestServer) {
    let mut tick = interval(BATCH_EVERY);
    for start in (0..EVENTS).step_by(BATCH) {
        tick.tick().await;
        publish(server, start..start + BATCH).await;
    }
}

/// One end of a connection to the server.
struct Socket {
    /// The port of the client.
    client: u16,
    /// In the server's end: bytes that the client has not acknowledged.
    unsent: usize,
    /// In the client's end: bytes that the client has not read.
    unread: usize,
}

type Sockets = Arc<Vec<Socket>>;

/// Both ends of all connections to the server (`proc_pid_net(5)`). The kernel needs long for this
/// table, so call it rarely.
fn sockets(server: &TestServer) -> Sockets {
    let server_port: u16 = server
        .url
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let text = format!(":{server_port:04X} ");
    let socket = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let mut port = || u16::from_str_radix(fields.next()?.split_once(':')?.1, 16).ok();
        let (local, remote) = (port()?, port()?);
        let (sending, receiving) = fields.nth(1)?.split_once(':')?;
        let bytes = |hex| usize::from_str_radix(hex, 16).ok();
        Some(if local == server_port {
            Socket {
                client: remote,
                unsent: bytes(sending)?,
                unread: 0,
            }
        } else {
            Socket {
                client: local,
                unsent: 0,
                unread: bytes(receiving)?,
            }
        })
    };
    let of_server = table.lines().filter(|line| line.contains(&text));
    Arc::new(
        of_server
            .map(|line| socket(line).expect("a socket"))
            .collect(),
    )
}

/// Bytes that wait in the sockets of the server.
fn unsent(server: &TestServer) -> usize {
    sockets(server).iter().map(|socket| socket.unsent).sum()
}

/// Measures the bytes that wait in the server's sockets until `work` is done; returns the maximum.
async fn most_unsent<T>(server: &TestServer, work: impl Future<Output = T>) -> (usize, T) {
    let mut tick = interval(LOOK_EVERY);
    let mut most = 0;
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (most.max(unsent(server)), done),
            _ = tick.tick() => most = most.max(unsent(server)),
        }
    }
}

/// The number of the oldest event that is kept.
async fn oldest(server: &TestServer) -> usize {
    let page: Value = server
        .get("/events?limit=1")
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    number_in(page["events"][0]["data"].as_str().unwrap())
}

/// Fifty readers at 1 KB/s, fifty that read nothing and three that read everything, while events
/// arrive; then all read at full speed. Returns the gap ends of the slow readers.
async fn slow_stopped_and_healthy(server: &TestServer) -> Vec<Option<usize>> {
    let mut healthy = Vec::new();
    let (mut slow, mut stopped) = (Vec::new(), Vec::new());
    for number in 0..READERS {
        slow.push(Reader::open(server, Room::Small).await);
        stopped.push(Reader::open(server, Room::Small).await);
        if number < 3 {
            healthy.push(Reader::open(server, Room::Usual).await);
        }
    }
    let (go_on, goes_on) = watch::channel(None);
    let slow_ones = all_at_once(slow, |mut reader| {
        let goes_on = goes_on.clone();
        async move {
            reader.sip(goes_on.clone()).await;
            reader.assert_behind_the_tail(goes_on.borrow().as_ref().expect("the socket table"));
            reader.read_until(EVENTS - 1).await;
            reader
        }
    });
    let healthy_ones = all_at_once(healthy, |mut reader| async move {
        reader.read_until(EVENTS - 1).await;
        reader
    });
    let stopped_ones = async {
        let (unsent, ((), healthy)) = most_unsent(server, async {
            tokio::join!(publish_all(server), healthy_ones)
        })
        .await;
        for reader in healthy {
            assert_eq!(reader.judge(), None, "a fast reader was delayed");
        }
        let (own, in_sockets) = (peak_memory(server), unsent * KERNEL_FACTOR);
        println!(
            "at the most: {} KiB, and {} KiB in the kernel",
            own >> 10,
            in_sockets >> 10
        );
        assert!(
            unsent > 0 && own + in_sockets <= MEMORY_MAX,
            "{own} and {in_sockets} bytes"
        );
        let sockets = sockets(server);
        for reader in &stopped {
            reader.assert_behind_the_tail(&sockets);
        }
        go_on.send_replace(Some(sockets));
        all_at_once(stopped, |mut reader| async move {
            reader.read_until(EVENTS - 1).await;
            reader
        })
        .await
    };
    let (slow, stopped) = tokio::join!(slow_ones, stopped_ones);
    assert!(
        server.metric("sse_subscribers_fell_behind_total").await >= 100.0,
        "not all slow readers fell behind"
    );
    slow.iter().chain(&stopped).map(Reader::judge).collect()
}

crate::on_every_broker! {
    async fn slow_and_stopped_readers_get_every_event_that_is_kept(backend: Backend) {
        let server = TestServer::start_with(backend, &[]).await;
        let gaps = slow_stopped_and_healthy(&server).await;
        assert!(gaps.iter().all(Option::is_none), "{gaps:?}");
    }

    async fn slow_and_stopped_readers_get_a_gap_for_exactly_the_trimmed_events(backend: Backend) {
        let server = TestServer::start_with(backend, &["--history-events", "3000"]).await;
        let gaps = slow_stopped_and_healthy(&server).await;
        let oldest = oldest(&server).await;
        assert!(oldest > EVENTS / 2 && gaps.iter().all(|end| *end == Some(oldest)), "{oldest}: {gaps:?}");
    }
}

/// The receive window of a slow reader is closed nearly all the time: its kernel reports free space
/// only once there is much of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_a_kilobyte_per_second_does_not_count_as_stalled() {
    let write_timeout = Duration::from_secs(3);
    let server = TestServer::start_with(Backend::Memory, &["--write-timeout", "3s"]).await;
    let mut readers = Vec::new();
    for room in [Room::Small, Room::Usual, Room::Usual] {
        readers.push(Reader::open(&server, room).await);
    }
    for start in (0..EVENTS).step_by(2500) {
        publish(&server, start..start + 2500).await;
    }
    let begun = Instant::now();
    all_at_once(readers, |mut reader| async move {
        let (stop, goes_on) = watch::channel(None);
        tokio::join!(reader.sip(goes_on), async {
            tokio::time::sleep_until(begun + 4 * write_timeout).await;
            stop.send_replace(Some(Sockets::default()));
        });
        reader.read_until(EVENTS - 1).await;
        assert_eq!(reader.judge(), None);
    })
    .await;
}
