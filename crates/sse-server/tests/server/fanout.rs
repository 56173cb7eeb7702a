//! Streams on their own threads: a client that reads slowly, reads nothing or sends too much does
//! not affect other streams, and loses no event.

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::common::{Backend, STAYS_ATTACHED, TestServer, all_at_once, skip, until, within};

/// A stream that is read as raw bytes, with a small receive buffer.
struct Raw {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Raw {
    async fn open(server: &TestServer, path: &str) -> Self {
        let address = server.url.trim_start_matches("http://").parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut socket = within("a connection", socket.connect(address))
            .await
            .unwrap();
        // An HTTP/1.0 response has no chunks, so all bytes are the body.
        socket
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut raw = Self {
            socket,
            bytes: Vec::new(),
        };
        while !raw.text().contains("\n\n") {
            assert!(raw.read_some().await > 0);
        }
        raw
    }

    async fn read_some(&mut self) -> usize {
        within(
            "more bytes on the stream",
            self.socket.read_buf(&mut self.bytes),
        )
        .await
        .unwrap_or(0)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Reads up to the event with this number, or to the end; returns the number at the start of
    /// each event.
    async fn numbers_until(mut self, last: usize) -> Vec<usize> {
        let marker = format!("data: {last} ");
        let mut searched = 0_usize;
        loop {
            let found = memmem::find(&self.bytes[searched..], marker.as_bytes()).is_some();
            searched = self.bytes.len().saturating_sub(marker.len());
            if found || self.read_some().await == 0 {
                break;
            }
        }
        let number = |line: &str| line.strip_prefix("data: ")?.split(' ').next()?.parse().ok();
        self.text().lines().filter_map(number).collect()
    }
}

/// Publishes numbers followed by padding, as one batch.
async fn publish(server: &TestServer, numbers: std::ops::Range<usize>, bytes: usize) {
    let rest = "x".repeat(bytes);
    let lines: Vec<String> = numbers
        .map(|number| format!(r#"{{"event":"n","data":"{number} {rest}"}}"#))
        .collect();
    let response = server
        .try_publish_batch("sse", lines.join("\n"))
        .await
        .expect("an answer");
    assert!(response.status().is_success());
}

crate::on_every_broker! {
    async fn many_clients_that_resume_from_one_position_share_page_reads(backend: Backend) {
        const PAGES: u16 = 39;
        const EVENTS: usize = PAGES as usize * 256;
        const READERS: usize = 100;
        let server = TestServer::start_with(backend, &["--tail-events", "100"]).await;
        let before = server.subscribe("/stream").await.last_event_id;
        publish(&server, 0..EVENTS, 20).await;
        // After this, the tail begins at the end of the log.
        let _keeps_the_tail = server.subscribe("/stream").await;
        let path = format!("/stream?last_event_id={before}");
        let read = |_| async { Raw::open(&server, &path).await.numbers_until(EVENTS - 1).await };
        for numbers in all_at_once(0..READERS, read).await {
            assert!(numbers.iter().copied().eq(0..EVENTS), "{} events", numbers.len());
        }
        let reads = server.metric("sse_history_page_reads_total").await;
        println!("{reads} pages were read for {READERS} readers of {PAGES}");
        assert!(reads >= f64::from(PAGES) - 1.0 && reads < 20.0 * f64::from(PAGES), "{reads} pages were read");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_client_is_closed_and_resumes_by_its_last_id() {
    if STAYS_ATTACHED {
        return skip("without fan-out threads, only TCP closes such a connection, after minutes");
    }
    let server = TestServer::start_with(Backend::Memory, &["--write-timeout", "300ms"]).await;
    let stalled = Raw::open(&server, "/stream").await;
    let mut steady = Raw::open(&server, "/stream").await;
    for start in (0..2000).step_by(100) {
        publish(&server, start..start + 100, 200).await;
    }
    // The slow client reads a little at a time, for longer than the timeout, and is not closed.
    until("the stalled stream is closed", async || {
        (server.closed_streams("stalled").await > 0).then_some(())
    })
    .await;
    steady.read_some().await;
    let opening = stalled.text();
    let first = opening
        .lines()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap()
        .to_owned();
    let seen = stalled.numbers_until(1999).await;
    assert!(
        seen.len() < 2000 && seen.iter().copied().eq(0..seen.len()),
        "{} events",
        seen.len()
    );
    let path = format!("/stream?last_event_id={first}");
    let again = Raw::open(&server, &path).await.numbers_until(1999).await;
    assert!(again.iter().copied().eq(0..2000), "{} events", again.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_busy_channel_are_sent_together() {
    if STAYS_ATTACHED {
        return skip("without fan-out threads, events are not coalesced");
    }
    let server = TestServer::start_with(Backend::Memory, &["--coalesce", "100ms"]).await;
    let mut socket = server.connect().await;
    socket
        .write_all(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\n\n\r\n") {
        assert!(
            within("the opening", socket.read_buf(&mut bytes))
                .await
                .unwrap()
                > 0
        );
    }
    bytes.clear();
    server.publish("sse", "click", "first").await;
    all_at_once(0..200, async |number| {
        server.publish("sse", "click", &number.to_string()).await
    })
    .await;
    let events = |bytes: &[u8]| {
        bytes
            .windows(6)
            .filter(|window| window == b"data: ")
            .count()
    };
    while events(&bytes) < 201 || !bytes.ends_with(b"\n\n\r\n") {
        assert!(
            within("all events", socket.read_buf(&mut bytes))
                .await
                .unwrap()
                > 0
        );
    }
    // A block ends a chunk only if no other block followed in time.
    let chunks = bytes
        .windows(4)
        .filter(|window| window == b"\n\n\r\n")
        .count();
    assert!(chunks < 180, "{chunks} writes for 201 events");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_of_a_client_on_its_stream_is_discarded_up_to_a_limit() {
    let server = TestServer::start(Backend::Memory).await;
    let mut talks = server.connect().await;
    // The server does not parse a request that follows the stream's request.
    let request = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\nGET /event/forged?channel=sse HTTP/1.1\r\nHost: localhost\r\n\r\n";
    talks.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\n\n\r\n") {
        assert!(
            within("the opening", talks.read_buf(&mut bytes))
                .await
                .unwrap()
                > 0
        );
    }
    talks
        .write_all(b"GET /event/forged?channel=sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    server.publish("sse", "click", "x").await;
    while !bytes.ends_with(b"data: x\n\n\r\n") {
        assert!(
            within("the event", talks.read_buf(&mut bytes))
                .await
                .unwrap()
                > 0
        );
    }
    if !STAYS_ATTACHED {
        let too_much = vec![b'x'; 1 << 20];
        // The server may close the connection before all bytes are sent.
        let _ = within("the bytes are sent", talks.write_all(&too_much)).await;
        until("the stream is closed", async || {
            (server.closed_streams("too_much_input").await == 1).then_some(())
        })
        .await;
    }
    drop(talks);
    until("the stream is gone", async || {
        (server.metric("sse_subscribers").await < 0.5).then_some(())
    })
    .await;
    assert_eq!(
        server.history("sse").await.len(),
        1,
        "a request after a stream's request was executed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_over_the_limit_are_asked_to_reconnect_later() {
    let server = TestServer::start_with(Backend::Memory, &["--streams-max", "2"]).await;
    let subscribers = [
        server.subscribe("/stream").await,
        server.subscribe("/stream").await,
    ];
    let turned_away = Raw::open(&server, "/stream").await.text();
    let retry_ms = turned_away
        .lines()
        .find_map(|line| line.strip_prefix("retry: ")?.parse::<u64>().ok());
    assert!(
        retry_ms.is_some_and(|ms| (5_000..15_000).contains(&ms)),
        "{turned_away}"
    );
    assert!(
        turned_away.contains("too many open streams"),
        "{turned_away}"
    );
    drop(subscribers);
    until("a stream is free again", async || {
        let answer = Raw::open(&server, "/stream").await.text();
        (!answer.contains("too many")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn if_too_many_clients_are_being_rejected_connections_close_without_a_response() {
    let server = TestServer::start_with(Backend::Memory, &["--streams-max", "1"]).await;
    let _subscriber = server.subscribe("/stream").await;
    // The announced body never arrives, so this connection lasts a moment longer than the response.
    let come = async || {
        let mut socket = server.connect().await;
        socket
            .write_all(b"GET /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let is_rejected =
            |answer: &[u8]| String::from_utf8_lossy(answer).contains("too many open streams");
        // Nothing more can be read from the connection, whether it is closed or reset.
        while !is_rejected(&answer)
            && within("an answer", socket.read_buf(&mut answer))
                .await
                .is_ok_and(|count| count > 0)
        {}
        (socket, is_rejected(&answer), answer)
    };
    let turned_away = tokio::sync::Mutex::new(Vec::new());
    until("a connection closes", async || {
        let (socket, is_rejected, answer) = come().await;
        turned_away.lock().await.push(socket);
        assert!(
            is_rejected || answer.is_empty(),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        answer.is_empty().then_some(())
    })
    .await;
    assert!(turned_away.lock().await.len() > 1, "no response");
    assert_eq!(server.get("/health/live").await.unwrap().status(), 200);
    drop(turned_away);
    until("rejections get a response again", async || {
        let response = server.get("/stream").await.ok()?.text().await.ok()?;
        response.contains("too many open streams").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_end_are_counted_by_reason() {
    let server = TestServer::start(Backend::Memory).await;
    drop(server.subscribe("/stream").await);
    until("the stream is gone", async || {
        (server.closed_streams("client").await == 1).then_some(())
    })
    .await;
    server.publish_numbers("sse", 0..3).await;
    let last = server.history("sse").await.swap_remove(2).id;
    let mut to_its_end = server
        .subscribe(&format!("/stream?from=oldest&until={last}"))
        .await;
    while to_its_end.try_next_block().await.is_some() {}
    until("the stream has ended", async || {
        (server.closed_streams("until_reached").await == 1).then_some(())
    })
    .await;
    assert_eq!(server.closed_streams("client").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_one_channel_does_not_delay_another() {
    let server = TestServer::start(Backend::Memory).await;
    let mut quiet = server.subscribe("/stream?channel=quiet").await;
    let flooded = (0..20).map(|_| async {
        let mut stream = Raw::open(&server, "/stream").await;
        loop {
            stream.bytes.clear();
            stream.read_some().await;
        }
    });
    let flood = (0..4).map(|_| async {
        loop {
            publish(&server, 0..100, 1000).await;
        }
    });
    let others = async {
        for number in 0..50 {
            // The event would never arrive if it waited for the end of the flood.
            server.publish("quiet", "click", &number.to_string()).await;
            assert_eq!(quiet.next_event().await.data, number.to_string());
        }
    };
    tokio::select! {
        () = others => (),
        _ = futures::future::join_all(flooded) => unreachable!("it reads forever"),
        _ = futures::future::join_all(flood) => unreachable!("it publishes forever"),
    }
}
