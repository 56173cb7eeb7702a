//! Shutdown: streams end between two blocks, publishes in progress finish, and no acknowledged
//! event is lost.

use std::{process::ExitStatus, time::Duration};

use reqwest::StatusCode;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use crate::common::{Backend, RedisServer, TestServer, ended, until, within};

/// Far more than the documented 5 s, for slow machines.
const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// The end of a block, of its chunk, and the chunk that ends the body (RFC 9112 §7.1).
const CLEAN_END: &[u8] = b"\n\n\r\n0\r\n\r\n";

/// All bytes of a stream until the connection ends.
async fn open_stream(server: &TestServer, channel: &str) -> JoinHandle<Vec<u8>> {
    let mut socket = server.connect().await;
    let request = format!("GET /stream?channel={channel} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\n\n\r\n") {
        assert!(
            within("the opening", socket.read_buf(&mut bytes))
                .await
                .unwrap()
                > 0
        );
    }
    tokio::spawn(async move {
        within("the end of the stream", socket.read_to_end(&mut bytes))
            .await
            .expect("no reset");
        bytes
    })
}

async fn stop(server: &mut TestServer, signal: &str) -> ExitStatus {
    let stopped = timeout(STOPS_WITHIN, server.stop(signal))
        .await
        .expect("the server stops in time");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    stopped
}

fn assert_clean_end(stream: &[u8]) {
    let tail = String::from_utf8_lossy(&stream[stream.len().saturating_sub(200)..]).into_owned();
    assert!(stream.ends_with(CLEAN_END), "the stream ends with {tail:?}");
}

/// Publishes text until the server has stopped; returns the ids of the acknowledged events.
async fn publish_until_refused(server: &TestServer, writer: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let Ok(response) = server
            .try_publish("busy", "click", &format!("{writer}-{number}"))
            .await
        else {
            break;
        };
        // A stopping server may also respond that it is stopping.
        if response.status() != StatusCode::OK {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            break;
        }
        let Ok(answer) = response.json::<Value>().await else {
            break;
        };
        acknowledged.push(answer["id"].as_str().unwrap().to_owned());
    }
    acknowledged
}

crate::on_every_broker! {
    async fn a_signal_ends_idle_streams_between_two_blocks(backend: Backend) {
        for signal in ["TERM", "INT"] {
            let mut server = TestServer::start(backend).await;
            let streams = [open_stream(&server, "idle").await, open_stream(&server, "other").await];
            server.publish("other", "click", "x").await;
            assert_eq!(stop(&mut server, signal).await.code(), Some(0), "after SIG{signal}");
            for stream in streams {
                assert_clean_end(&stream.await.unwrap());
            }
            let address = server.url.trim_start_matches("http://").to_owned();
            assert!(TcpStream::connect(address).await.is_err(), "it still accepts connections");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_acknowledged_during_shutdown_are_in_the_log() {
    for signal in ["TERM", "INT"] {
        let mut server = TestServer::start(Backend::Embedded).await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(open_stream(&server, "busy").await);
        }
        let publishing =
            futures::future::join_all((0..8).map(|writer| publish_until_refused(&server, writer)));
        let signalled = async {
            let enough =
                async || (server.metric("sse_events_published_total").await >= 100.0).then_some(());
            until("publishes are in flight", enough).await;
            server.signal(signal);
        };
        let (acknowledged, ()) = within(
            "the server stops",
            futures::future::join(publishing, signalled),
        )
        .await;
        let code = within("the end", ended(server.child())).await.code();
        assert_eq!(code, Some(0), "after SIG{signal}");
        for stream in streams {
            assert_clean_end(&stream.await.unwrap());
        }
        server.restart().await;
        let stored: Vec<String> = server
            .history("busy")
            .await
            .into_iter()
            .map(|event| event.id)
            .collect();
        for id in acknowledged.iter().flatten() {
            assert!(stored.contains(id), "{id} was acknowledged and is lost");
        }
        assert!(acknowledged.iter().flatten().count() >= 100 - 8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_resumes_where_the_stopped_server_ended_its_stream() {
    let mut server = TestServer::start(Backend::Embedded).await;
    let mut subscriber = server.subscribe("/stream").await;
    server.publish_numbers("sse", 0..10).await;
    assert_eq!(subscriber.take_data(3).await, ["0", "1", "2"]);
    let id = subscriber.last_event_id.clone();
    assert_eq!(stop(&mut server, "TERM").await.code(), Some(0));
    server.restart().await;
    server.publish_numbers("sse", 10..12).await;
    let mut again = server.subscribe_after("/stream", Some(&id)).await;
    let expected: Vec<String> = (3..12).map(|number| number.to_string()).collect();
    assert_eq!(again.take_data(9).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_does_not_delay_shutdown() {
    let mut server = TestServer::start(Backend::Embedded).await;
    let mut stalled = server.connect().await;
    stalled
        .write_all(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    until("the client is subscribed", async || {
        (server.metric("sse_subscribers").await >= 1.0).then_some(())
    })
    .await;
    let healthy = open_stream(&server, "idle").await;
    // More bytes than the buffers of both ends hold.
    let large = "x".repeat(900_000);
    for _ in 0..4 {
        server.publish("sse", "click", &large).await;
    }
    until("the buffer is full", async || {
        let mut seen = vec![0; 32 << 10];
        (stalled.peek(&mut seen).await.unwrap() == seen.len()).then_some(())
    })
    .await;
    assert_eq!(stop(&mut server, "TERM").await.code(), Some(0));
    assert_clean_end(&healthy.await.unwrap());
    let mut received = Vec::new();
    let _ = within(
        "the end of the stalled stream",
        stalled.read_to_end(&mut received),
    )
    .await;
    assert!(received.len() < 4 * large.len(), "the stream never stalled");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_and_half_requests_do_not_delay_shutdown() {
    let mut server = TestServer::start(Backend::Memory).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert!(
            within("an answer", idle.read_buf(&mut answer))
                .await
                .unwrap()
                > 0
        );
    }
    let mut half_a_head = server.connect().await;
    half_a_head.write_all(b"POST /event/cl").await.unwrap();
    let mut half_a_body = server.connect().await;
    half_a_body
        .write_all(
            b"POST /event/click HTTP/1.1\r\nHost: localhost\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\nhalf",
        )
        .await
        .unwrap();
    assert_eq!(stop(&mut server, "TERM").await.code(), Some(0));
    drop((idle, half_a_head, half_a_body));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_whose_body_is_in_transit_is_finished() {
    let mut server = TestServer::start(Backend::Embedded).await;
    let mut publisher = server.connect().await;
    publisher
        .write_all(
            b"POST /event/click HTTP/1.1\r\nHost: localhost\r\ncontent-type: text/plain\r\nexpect: 100-continue\r\n\
              content-length: 10\r\n\r\n",
        )
        .await
        .unwrap();
    // From here on the request is in progress: the server asks for its body.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert!(
            within("100 Continue", publisher.read_buf(&mut answer))
                .await
                .unwrap()
                > 0
        );
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 100"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    publisher.write_all(b"01234").await.unwrap();
    server.signal("TERM");
    let address = server.url.trim_start_matches("http://").to_owned();
    until("no new connections", async || {
        TcpStream::connect(&address).await.is_err().then_some(())
    })
    .await;
    publisher.write_all(b"56789").await.unwrap();
    answer.clear();
    within("the answer", publisher.read_to_end(&mut answer))
        .await
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(
        within("the end", ended(server.child())).await.code(),
        Some(0)
    );
    server.restart().await;
    let history = server.history("sse").await;
    assert_eq!(
        history
            .iter()
            .map(|event| event.data.as_str())
            .collect::<Vec<_>>(),
        ["0123456789"]
    );
    assert!(answer.contains(&history[0].id), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_or_frozen_redis_does_not_delay_shutdown() {
    for frozen in [false, true] {
        let mut redis = RedisServer::start().await;
        let mut server = TestServer::node(&redis, &[]).await;
        server.publish("sse", "click", "x").await;
        let stream = open_stream(&server, "sse").await;
        let mut publisher = server.connect().await;
        if frozen {
            let mut pause = ::redis::cmd("CLIENT");
            pause.arg("PAUSE").arg(60_000).arg("ALL");
            let _: String = redis.command(pause).await.unwrap();
        } else {
            redis.kill();
        }
        publisher
            .write_all(b"GET /event/click HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(
            stop(&mut server, "TERM").await.code(),
            Some(0),
            "frozen: {frozen}"
        );
        assert_clean_end(&stream.await.unwrap());
    }
}
