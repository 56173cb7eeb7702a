//! Streams, and the end of their connections.

use super::{
    frames::{Frames, GOAWAY, RST_STREAM, get_fields},
    server::{TestServer, request, with_server},
};
use crate::connections::ConnectionLimits;

#[tokio::test]
async fn a_stream_delivers_resumes_and_ends_when_its_client_resets_it() {
    with_server(&[], async |server| {
        let client = server.connect().await;
        let mut stream = client.open_stream("/stream?channel=a").await;
        stream.read_until("retry:").await;
        client.publish("a", "one").await;
        stream.read_until("data: one\n\n").await;
        let id = stream
            .text
            .split("id: ")
            .last()
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let id = id.to_owned();
        drop(stream);
        while server.metric("sse_subscribers ") != "sse_subscribers 0" {
            tokio::task::yield_now().await;
        }
        client.publish("a", "two").await;
        let resumed = request("GET", "/stream?channel=a").header("last-event-id", id);
        let response = client.send(resumed, b"").await.unwrap();
        let mut stream = super::server::Stream::new(response);
        stream.read_until("data: two\n\n").await;
        assert!(!stream.text.contains("data: one"), "{}", stream.text);
    })
    .await;
}

#[tokio::test]
async fn thirty_streams_of_a_page_leave_room_for_its_publishes() {
    with_server(&[], async |server| {
        let client = server.connect().await;
        let mut streams = Vec::new();
        for number in 0..30 {
            streams.push(
                client
                    .open_stream(&format!("/stream?channel=c{number}"))
                    .await,
            );
        }
        for number in 0..30 {
            client
                .publish(&format!("c{number}"), &format!("event {number}"))
                .await;
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            stream
                .read_until(&format!("data: event {number}\n\n"))
                .await;
        }
        assert_eq!(server.metric("sse_subscribers "), "sse_subscribers 30");
    })
    .await;
}

#[tokio::test]
async fn a_stop_ends_the_streams_and_then_the_connection() {
    with_server(&[], async |server| {
        let client = server.connect().await;
        let mut stream = client.open_stream("/stream").await;
        stream.read_until("retry:").await;
        server.stopping.cancel();
        stream.read_to_end().await.unwrap();
        assert!(client.connection.await.unwrap().is_ok());
        assert!(client.requests.ready().await.is_err());
        let closed = server.metric("sse_streams_closed_total{reason=\"shutdown\"}");
        assert!(closed.ends_with(" 1"), "{closed}");
    })
    .await;
}

/// The paused clock advances whenever the test has nothing else to wait for.
#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_client_that_confirms_nothing() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect(&server).await;
        let id = frames.get("/health/live").await;
        assert_eq!(frames.next_of(id).await.status(), 200);
        server.stopping.cancel();
        assert_eq!(frames.read_to_end().await, Some(0));
        assert_eq!(server.open_count(), 0);
    })
    .await;
}

const SMALL: ConnectionLimits = ConnectionLimits {
    open_max: 2,
    reserve: 1,
    client_max: 1,
};

#[tokio::test]
async fn an_idle_connection_makes_room_and_one_of_the_reserve_ends_with_its_response() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let server = TestServer::start(&[], SMALL).await;
            let first = server.connect().await;
            let live = first.get("/health/live").await;
            super::server::body(live).await;
            let second = server.connect().await;
            assert!(first.connection.await.unwrap().is_ok());
            let mut stream = second.open_stream("/stream").await;
            stream.read_until("retry:").await;
            reserved_connection_cannot_stream(&server).await;
        })
        .await;
}

async fn reserved_connection_cannot_stream(server: &TestServer) {
    let mut frames = Frames::connect(server).await;
    let id = frames.send_request(&get_fields("/stream"), true).await;
    assert_eq!(frames.next_of(0).await.kind, super::frames::SETTINGS);
    let mut frame = frames.next_of(id).await;
    assert_eq!(frame.status(), 200);
    while !frame.is_last() {
        frame = frames.next_of(id).await;
        assert_ne!(frame.kind, RST_STREAM);
    }
    loop {
        if frames.next_of(0).await.kind == GOAWAY {
            break;
        }
    }
}
