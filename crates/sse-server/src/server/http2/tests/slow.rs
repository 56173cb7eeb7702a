//! Clients that read slowly or not at all.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, SystemTime},
};

use h2::Reason;
use tokio::time::Instant;

use super::{
    frames::{Frames, PING, RST_STREAM, WINDOW_UPDATE},
    server::{TestServer, request, with_server},
};
use crate::access::{digest, revocations::Revocation, to_hex};

/// Setting of the window of each stream.
const INITIAL_WINDOW_SIZE: u16 = 4;

fn closed(server: &TestServer, reason: &str) -> String {
    server.metric(&format!("sse_streams_closed_total{{reason=\"{reason}\"}}"))
}

#[tokio::test]
async fn a_stream_that_is_not_read_slows_no_other_one_down() {
    with_server(&[], async |server| {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(20_000)
            .initial_connection_window_size(1 << 20);
        let client = server.connect_with(&builder).await;
        let unread = client.open_stream("/stream?channel=a").await;
        let mut read = client.open_stream("/stream?channel=a").await;
        for number in 0..20 {
            let data = format!("{number} {}", "x".repeat(10_000));
            client.publish("a", &data).await;
            read.read_until(&format!("data: {number} ")).await;
        }
        assert_eq!(server.metric("sse_subscribers "), "sse_subscribers 2");
        drop(unread);
    })
    .await;
}

/// The paused clock advances whenever the test has nothing else to wait for.
#[tokio::test(start_paused = true)]
async fn a_stream_that_accepts_nothing_for_the_write_timeout_is_reset() {
    with_server(&["--write-timeout", "10s"], async |server| {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(100);
        let client = server.connect_with(&builder).await;
        let opened = Instant::now();
        let response = client.get("/stream?channel=a").await;
        let publish = "x".repeat(1000);
        client.publish("a", &publish).await;
        let mut body = response.into_body();
        assert_eq!(reset_of(&mut body).await, Some(Reason::CANCEL));
        let waited = opened.elapsed();
        assert!(
            (Duration::from_secs(10)..Duration::from_secs(12)).contains(&waited),
            "{waited:?}"
        );
        assert!(closed(&server, "stalled").ends_with(" 1"));
        client.publish("a", "still open").await;
    })
    .await;
}

/// The rules of a server with one caller.
const RULES: &str = "[[access.key]]\nname = \"reader\"\nsubscribe = [\"*\"]\n";
const KEY: &str = "sse_reader_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

#[tokio::test]
async fn a_blocked_stream_ends_when_its_key_is_revoked_or_an_operator_closes_it() {
    let directory = tempfile::TempDir::new().unwrap();
    let config = directory.path().join("sse.toml");
    let digest = to_hex(&digest(KEY));
    fs::write(&config, format!("{RULES}sha256 = \"{digest}\"\n")).unwrap();
    with_server(&["--config", config.to_str().unwrap()], async |server| {
        let revocations = server.state.access.revocations();
        revocations.update(HashMap::new(), SystemTime::now());
        let mut builder = h2::client::Builder::new();
        // The opening does not fit either.
        builder.initial_window_size(10);
        let client = server.connect_with(&builder).await;
        let open = async |channel: &str| {
            let path = format!("/stream?channel={channel}");
            let authorization = format!("Bearer {KEY}");
            let request = request("GET", &path).header("authorization", authorization);
            let response = client.send(request, b"").await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body()
        };
        let (mut closed_by_operator, mut revoked) = (open("a").await, open("b").await);
        let first_caller = async || {
            let live = server.state.streams.list().await;
            let mut streams = live.streams.iter();
            streams.find_map(|stream| stream.caller.clone())
        };
        first_caller().await.expect("a stream").close();
        assert_eq!(
            reset_of(&mut closed_by_operator).await,
            Some(Reason::CANCEL)
        );
        let key = Revocation::Key {
            key: "reader".to_owned(),
        };
        revocations.update(HashMap::from([(key, u64::MAX)]), SystemTime::now());
        assert_eq!(reset_of(&mut revoked).await, Some(Reason::CANCEL));
        while server.metric("sse_subscribers ") != "sse_subscribers 0" {
            tokio::task::yield_now().await;
        }
        for reason in ["closed", "right_lost"] {
            assert!(closed(&server, reason).ends_with(" 1"), "{reason}");
        }
    })
    .await;
}

/// Returns the reason for which the server resets a stream whose bytes are not read.
async fn reset_of(body: &mut h2::RecvStream) -> Option<Reason> {
    loop {
        match body.data().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error.reason(),
            None => panic!("the stream has ended without a reset"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_client_has_no_room_is_reset_after_two_seconds() {
    with_server(&[], async |server| {
        server.connect().await.publish("a", &"x".repeat(1000)).await;
        let mut frames = Frames::connect_with(&server, &[(INITIAL_WINDOW_SIZE, 10)]).await;
        let opened = Instant::now();
        let id = frames.get("/events?channel=a&last=1").await;
        let mut frame = frames.next_of(id).await;
        while frame.kind != RST_STREAM {
            frame = frames.next_of(id).await;
        }
        let waited = opened.elapsed();
        assert!(
            (Duration::from_secs(2)..Duration::from_secs(3)).contains(&waited),
            "{waited:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn blocked_streams_beyond_the_bound_are_reset() {
    let args = ["--blocked-bytes", "100KiB", "--event-bytes-max", "64KiB"];
    with_server(&args, async |server| {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(100)
            .initial_connection_window_size(1 << 20);
        let client = server.connect_with(&builder).await;
        let mut streams = Vec::new();
        for channel in ["a", "b", "c"] {
            streams.push(
                client
                    .open_stream(&format!("/stream?channel={channel}"))
                    .await,
            );
        }
        let other = server.connect().await;
        for channel in ["a", "b", "c"] {
            other.publish(channel, &"x".repeat(60_000)).await;
        }
        while closed(&server, "blocked_bytes").ends_with(" 0") {
            tokio::task::yield_now().await;
        }
        client.publish("d", "still open").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_responds_to_no_ping_loses_its_connection() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect(&server).await;
        let id = frames.get("/stream").await;
        assert_eq!(frames.next_of(id).await.status(), 200);
        let opened = Instant::now();
        let mut pings = 0;
        while let Some(frame) = frames.read().await {
            pings += u32::from(frame.kind == PING);
        }
        assert_eq!(pings, 1);
        let waited = opened.elapsed().as_secs();
        assert!((90..95).contains(&waited), "{waited}");
        assert!(closed(&server, "client").ends_with(" 1"));
    })
    .await;
}

/// A large event goes through a window that is much smaller.
#[tokio::test]
async fn a_slow_client_gets_all_of_a_large_event() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect_with(&server, &[(INITIAL_WINDOW_SIZE, 1000)]).await;
        let id = frames.get("/stream?channel=a").await;
        assert_eq!(frames.next_of(id).await.status(), 200);
        let data = "y".repeat(50_000);
        server.connect().await.publish("a", &data).await;
        let mut text = Vec::new();
        while !text.ends_with(b"y\n\n") {
            let frame = frames.next_of(id).await;
            assert!(frame.payload.len() <= 1000);
            text.extend_from_slice(&frame.payload);
            let length = u32::try_from(frame.payload.len())
                .unwrap()
                .max(1)
                .to_be_bytes();
            frames.send(WINDOW_UPDATE, 0, id, &length).await;
            frames.send(WINDOW_UPDATE, 0, 0, &length).await;
        }
        assert!(String::from_utf8(text).unwrap().contains(&data));
    })
    .await;
}

#[tokio::test]
async fn a_body_is_read_while_its_handler_waits() {
    with_server(&[], async |server| {
        let client = server.connect().await;
        let publish = request("POST", "/event/click").header("content-type", "text/plain");
        let response = client.send(publish, &vec![b'x'; 200_000]).await.unwrap();
        assert_eq!(response.status(), 200);
    })
    .await;
}
