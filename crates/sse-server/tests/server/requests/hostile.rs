//! Malformed or incomplete HTTP requests are rejected, publish nothing and affect no other client.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{RawAnswer, raw};
use crate::common::{Backend, TestServer, all_at_once, within};

#[tokio::test]
async fn malformed_http_is_rejected_and_publishes_nothing() {
    let server = TestServer::start(Backend::Memory).await;
    let head = "POST /event/click HTTP/1.1\r\nHost: localhost\r\ncontent-type: text/plain\r\n";
    let long_header = format!(
        "GET /event/click HTTP/1.1\r\nHost: localhost\r\nx: {}\r\n\r\n",
        "y".repeat(200_000)
    );
    for request in [
        &b"hello\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /event/a\x01b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /event/caf\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /event/click?channel=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /event/click HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /event/click HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /event/click HTTP/1.1\r\n: x\r\n\r\n",
        b"GET /event/click HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        format!("{head}content-length: -1\r\n\r\nx").as_bytes(),
        format!("{head}content-length: 1x\r\n\r\nx").as_bytes(),
        format!("{head}content-length: 1\r\ncontent-length: 2\r\n\r\nxy").as_bytes(),
        format!("{head}content-length: 99999999999999999999999\r\n\r\nx").as_bytes(),
        format!("{head}content-length: 18446744073709551615\r\n\r\nx").as_bytes(),
        format!("{head}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
            .as_bytes(),
        format!("{head}transfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n").as_bytes(),
        format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n").as_bytes(),
        format!("{head}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nx\r\n0\r\n\r\n")
            .as_bytes(),
        long_header.as_bytes(),
        format!(
            "GET /event/{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "x".repeat(60_000)
        )
        .as_bytes(),
    ] {
        let mut socket = server.connect().await;
        // The server may reject the request before all of it is sent.
        let _ = socket.write_all(request).await;
        let shown = String::from_utf8_lossy(&request[..request.len().min(100)]).into_owned();
        let answer = RawAnswer::read(&mut socket).await;
        assert!((400..500).contains(&answer.status), "{shown:?}: {answer:?}");
    }
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn an_incomplete_body_is_reported() {
    let server = TestServer::start(Backend::Memory).await;
    let head = "POST /event/click HTTP/1.1\r\nHost: localhost\r\ncontent-type: text/plain\r\n";
    let mut socket = server.connect().await;
    socket
        .write_all(format!("{head}content-length: 100\r\n\r\nshort").as_bytes())
        .await
        .unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    within("the end of the response", socket.read_to_end(&mut answer))
        .await
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    // The response may be missing: a client that disconnects in the middle of a request need not
    // get one.
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    let chunk = raw(
        &server,
        format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n").as_bytes(),
    )
    .await;
    let message = chunk.refusal(400, "incomplete_body");
    assert!(!message.contains("None"), "{message}");
    assert_eq!(server.history("sse").await, []);
}

/// Pseudo-random numbers that are the same in every run (Marsaglia's xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    /// A valid request with a random fault in it.
    fn spoiled(&mut self) -> Vec<u8> {
        const GOOD: [&str; 7] = [
            "GET /event/click?channel=fuzz HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
            "POST /event/click?channel=fuzz HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"a\": 17}",
            "POST /event/a%20b HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: 28\r\n\r\n{\"event\":\"click\",\"data\":\"x\"}",
            "GET /events?last_event_id=5-5&limit=3 HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n",
            "GET /stream?event=a&event=b HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: @5-5\r\n\r\n",
            "OPTIONS /event/click HTTP/1.1\r\nHost: localhost\r\nOrigin: http://x\r\nAccess-Control-Request-Method: POST\r\n\r\n",
        ];
        const NASTY: [&[u8]; 12] = [
            b"\r\n",
            b"\0",
            b"%",
            b"%00",
            b"\xff\xfe",
            b"?",
            b"&channel=",
            b"99999999999",
            b": ",
            b"\"",
            b"chunked",
            b"\x7f",
        ];
        let mut bytes = GOOD[self.below(GOOD.len())].as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len().max(1));
            match self.below(5) {
                0 => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                1 => drop(bytes.splice(at..at, NASTY[self.below(NASTY.len())].iter().copied())),
                2 => drop(bytes.drain(at..(at + 1 + self.below(8)).min(bytes.len()))),
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let copied = bytes[at..].to_vec();
                    bytes.extend(copied);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'G');
            }
        }
        bytes
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_makes_the_server_fail() {
    let server =
        TestServer::start_with(Backend::Memory, &["--cors-origin", "https://app.example"]).await;
    let mut dice = Dice(0x5353_4521);
    let requests: Vec<Vec<u8>> = (0..600).map(|_| dice.spoiled()).collect();
    let mut statuses = BTreeSet::new();
    for some in requests.chunks(30) {
        let answers = all_at_once(some, |request| {
            let server = &server;
            async move {
                let mut socket = server.connect().await;
                let _ = socket.write_all(request).await;
                // Streams and incomplete requests end once the client closes its side.
                let _ = socket.shutdown().await;
                let mut answer = Vec::new();
                let _ = within("the end of the connection", socket.read_to_end(&mut answer)).await;
                (request, String::from_utf8_lossy(&answer).into_owned())
            }
        })
        .await;
        for (request, answer) in answers {
            let request = String::from_utf8_lossy(request).into_owned();
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 "),
                "{request:?} got {answer:?}"
            );
            assert!(!answer.contains("HTTP/1.1 5"), "{request:?} got {answer:?}");
            statuses.extend(answer.get(9..12).map(ToOwned::to_owned));
        }
    }
    for status in ["200", "400", "404", "405", "415"] {
        assert!(
            statuses.contains(status),
            "no request got {status}, only {statuses:?}: the faults do not vary enough"
        );
    }
    let mut subscriber = server.subscribe("/stream").await;
    server.publish("sse", "click", "still here").await;
    // A publish whose client did not wait for the response may have been in progress until now.
    while subscriber.next_event().await.data != "still here" {}
    assert!(!server.log().contains("panicked"));
}
