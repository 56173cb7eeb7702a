//! Subscribers that read slower than events come, or not at all for a while, at the rates that were promised: each gets
//! every event that is kept, once and in order, or is told exactly what it missed; and they cost no memory to speak of.

use std::{ops::Range, time::Duration};

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

use crate::common::{Backend, TestServer, all_at_once, until, within};

/// 5 000 events/s of 200 bytes, for two seconds.
const EVENTS: usize = 10_000;
const BATCH: usize = 100;
const BATCH_EVERY: Duration = Duration::from_millis(20);
const EVENT_BYTES: usize = 200;
/// Of each kind.
const READERS: usize = 50;
/// What a slow one reads in one go, four times a second: 1 KB/s.
const SIP_BYTES: usize = 250;
const SIP_EVERY: Duration = Duration::from_millis(250);
const MEMORY_MAX: usize = 64 << 20;
/// In which the kernel counts.
const PAGE_BYTES: usize = 4096;

/// How much room a subscriber has on its side.
#[derive(Debug, Clone, Copy)]
enum Room {
    Small,
    /// As the system gives it.
    Usual,
}

/// What comes on a stream.
#[derive(Debug)]
enum Told {
    Number(usize),
    Gap(Gap),
}

/// A stream that is read as slowly as it is told to.
struct Reader {
    socket: TcpStream,
    blocks: BlockSplitter,
    opening: String,
    /// With the last event id after each.
    told: Vec<(String, Told)>,
    last_event_id: String,
}

impl Reader {
    async fn open(server: &TestServer, room: Room) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if matches!(room, Room::Small) {
            socket.set_recv_buffer_size(4096).unwrap();
        }
        let address = server.url.trim_start_matches("http://").parse().unwrap();
        let mut socket = within("a connection", socket.connect(address)).await.unwrap();
        // Without chunks the body is what comes.
        socket.write_all(b"GET /stream HTTP/1.0\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the head", socket.read_u8()).await.unwrap());
        }
        let (opening, last_event_id) = (String::new(), String::new());
        let mut reader = Self { socket, blocks: BlockSplitter::new(1 << 20), opening, told: Vec::new(), last_event_id };
        while reader.last_event_id.is_empty() {
            reader.read(256).await;
        }
        reader.opening.clone_from(&reader.last_event_id);
        reader
    }

    /// Reads so many bytes at the most; false at the end.
    async fn read(&mut self, most: usize) -> bool {
        let mut bytes = vec![0; most];
        let count = within("something on the stream", self.socket.read(&mut bytes)).await.unwrap_or(0);
        self.blocks.push(&bytes[..count]).unwrap();
        while let Some(item) = self.blocks.next_item() {
            let Item::Block(block) = item else { continue };
            if let Some(id) = block.id {
                self.last_event_id = id;
            }
            let field = |name: &str| block.text.lines().find_map(|line| line.strip_prefix(name));
            let told = match (field("event: "), field("data: ")) {
                (Some("gap"), Some(data)) => Told::Gap(serde_json::from_str(data).unwrap()),
                (Some(_), Some(data)) => Told::Number(number_in(data)),
                _ => continue,
            };
            self.told.push((self.last_event_id.clone(), told));
        }
        count > 0
    }

    /// Sips until told to go on.
    async fn sip(&mut self, mut goes_on: watch::Receiver<bool>) {
        let mut tick = interval(SIP_EVERY);
        while !*goes_on.borrow_and_update() {
            tick.tick().await;
            self.read(SIP_BYTES).await;
        }
    }

    /// Reads at full speed until the event with this number.
    async fn read_until(&mut self, last: usize) {
        SockRef::from(&self.socket).set_recv_buffer_size(1 << 20).unwrap();
        while !matches!(self.told.last(), Some((_, Told::Number(number))) if *number == last) {
            assert!(self.read(64 << 10).await, "the stream ended after {:?}", self.told.last());
        }
    }

    /// Every event came once and in order, but for those of one gap at the most; returns where that ends.
    fn judge(&self) -> Option<usize> {
        let (mut expected, mut before, mut gap_end) = (0, &self.opening, None);
        let mut told = self.told.iter().peekable();
        while let Some((id, what)) = told.next() {
            match what {
                Told::Number(number) => {
                    assert_eq!(*number, expected, "after {before}");
                    expected += 1;
                }
                Told::Gap(gap) => {
                    assert!(gap_end.is_none(), "a second gap: {gap:?}");
                    assert_eq!(gap.reason, GapReason::Trimmed);
                    assert!(gap.after == *before, "{gap:?} after {before}");
                    let Some((next, Told::Number(number))) = told.peek() else { panic!("{gap:?} and nothing more") };
                    assert_eq!(gap.oldest.map(|oldest| oldest.to_string()).as_ref(), Some(next));
                    assert!(*number > expected, "a gap in which nothing is missing: {gap:?}");
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
    data.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Publishes numbers with something behind them, as one batch.
async fn publish(server: &TestServer, numbers: Range<usize>) {
    let line = |number| format!(r#"{{"event":"n","data":"{:x<EVENT_BYTES$}"}}"#, format!("{number} "));
    let lines: Vec<String> = numbers.map(line).collect();
    let response = server.try_publish_batch("sse", lines.join("\n")).await.expect("an answer");
    assert!(response.status().is_success(), "{}", response.status());
}

async fn publish_all(server: &TestServer) {
    let mut tick = interval(BATCH_EVERY);
    for start in (0..EVENTS).step_by(BATCH) {
        tick.tick().await;
        publish(server, start..start + BATCH).await;
    }
}

/// What the server takes: its own memory, and the kernel's for all connections, which were `before`.
fn memory(server: &TestServer, before: usize) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Some((kib?.parse::<usize>().ok()? << 10) + kernel_memory()?.saturating_sub(before))
}

/// What the kernel holds for the TCP connections of this machine.
fn kernel_memory() -> Option<usize> {
    let sockstat = std::fs::read_to_string("/proc/net/sockstat").ok()?;
    let tcp = sockstat.lines().find_map(|line| line.strip_prefix("TCP: "))?;
    let pages = tcp.split_once("mem ")?.1.split(' ').next()?.parse::<usize>().ok()?;
    Some(pages * PAGE_BYTES)
}

/// The number of the oldest event that is kept.
async fn oldest(server: &TestServer) -> usize {
    let page: Value = server.get("/events?limit=1").await.unwrap().json().await.unwrap();
    number_in(page["events"][0]["data"].as_str().unwrap())
}

/// Fifty that read 1 KB/s, fifty that read nothing, and three that read everything, while events come; then all read on.
/// Returns where the gaps end that the slow ones were told.
async fn slow_stopped_and_healthy(server: &TestServer) -> Vec<Option<usize>> {
    let kernel_before = kernel_memory().unwrap_or(0);
    let mut healthy = Vec::new();
    let (mut slow, mut stopped) = (Vec::new(), Vec::new());
    for number in 0..READERS {
        slow.push(Reader::open(server, Room::Small).await);
        stopped.push(Reader::open(server, Room::Small).await);
        if number < 3 {
            healthy.push(Reader::open(server, Room::Usual).await);
        }
    }
    let (go_on, goes_on) = watch::channel(false);
    let slow_ones = all_at_once(slow, |mut reader| {
        let goes_on = goes_on.clone();
        async move {
            reader.sip(goes_on).await;
            reader.read_until(EVENTS - 1).await;
            reader
        }
    });
    let healthy_ones = all_at_once(healthy, |mut reader| async move {
        reader.read_until(EVENTS - 1).await;
        reader
    });
    let stopped_ones = async {
        let ((), healthy) = tokio::join!(publish_all(server), healthy_ones);
        for reader in healthy {
            assert_eq!(reader.judge(), None, "one that reads was held up");
        }
        // What a neighbour of this test takes for a moment does not count against the server.
        until("memory stays small", async || match memory(server, kernel_before) {
            Some(bytes) if bytes > MEMORY_MAX => None,
            bytes => Some(bytes.map(|bytes| println!("with all of them behind: {} KiB", bytes >> 10))),
        })
        .await;
        go_on.send_replace(true);
        all_at_once(stopped, |mut reader| async move {
            reader.read_until(EVENTS - 1).await;
            reader
        })
        .await
    };
    let (slow, stopped) = tokio::join!(slow_ones, stopped_ones);
    assert!(server.metric("sse_behind_tail_total").await >= 100.0, "not all fell behind");
    slow.iter().chain(&stopped).map(Reader::judge).collect()
}

crate::on_every_broker! {
    async fn slow_and_stopped_readers_get_every_event_that_is_kept(backend: Backend) {
        let server = TestServer::start_with(backend, &[]).await;
        let gaps = slow_stopped_and_healthy(&server).await;
        assert!(gaps.iter().all(Option::is_none), "{gaps:?}");
    }

    async fn slow_and_stopped_readers_are_told_exactly_what_is_not_kept(backend: Backend) {
        let server = TestServer::start_with(backend, &["--history-events", "3000"]).await;
        let gaps = slow_stopped_and_healthy(&server).await;
        let oldest = oldest(&server).await;
        assert!(oldest > EVENTS / 2 && gaps.iter().all(|end| *end == Some(oldest)), "{oldest}: {gaps:?}");
    }
}

/// Whoever reads has a window that is closed nearly all the time: its kernel tells of room only when there is much.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_a_kilobyte_a_second_is_not_stalled_however_much_its_kernel_took() {
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
        let (stop, goes_on) = watch::channel(false);
        tokio::join!(reader.sip(goes_on), async {
            tokio::time::sleep_until(begun + 4 * write_timeout).await;
            stop.send_replace(true);
        });
        reader.read_until(EVENTS - 1).await;
        assert_eq!(reader.judge(), None);
    })
    .await;
}
