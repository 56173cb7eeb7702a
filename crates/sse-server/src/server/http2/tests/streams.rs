//! Streams, and the end of their connections.

use super::{
    frames::{Frames, GOAWAY, RST_STREAM, get_fields},
    server::{TestServer, request, wear_keys_out, with_server},
};
use crate::connections::ConnectionLimits;

#[tokio::test]
async fn a_stream_is_over_when_its_client_resets_it_or_the_server_stops() {
    with_server(&[], async |server| {
        let client = server.connect().await;
        let mut stream = client.open_stream("/stream").await;
        stream.read_until("retry:").await;
        drop(stream);
        while server.metric("sse_subscribers ") != "sse_subscribers 0" {
            tokio::task::yield_now().await;
        }
        let mut stream = client.open_stream("/stream").await;
        server.stopping.cancel();
        stream.read_to_end().await.unwrap();
        assert!(client.connection.await.unwrap().is_ok());
        assert!(client.requests.ready().await.is_err());
        for reason in ["client", "shutdown"] {
            let closed = format!("sse_streams_closed_total{{reason=\"{reason}\"}}");
            assert_eq!(server.metric(&closed), format!("{closed} 1"));
        }
    })
    .await;
}

/// The keys of TLS 1.2 cannot be renewed, so the client must open another connection.
#[tokio::test(start_paused = true)]
async fn streams_end_at_the_end_of_a_block_when_the_keys_are_worn_out() {
    with_server(&[], async |server| {
        let client = server.connect().await;
        let mut busy = client.open_stream("/stream?channel=a").await;
        let mut idle = client.open_stream("/stream?channel=b").await;
        for stream in [&mut busy, &mut idle] {
            stream.read_until("retry:").await;
        }
        wear_keys_out();
        let publish = request("POST", "/event/test?channel=a").header("content-type", "text/plain");
        let response = client.send(publish, b"last").await.unwrap();
        assert_eq!(response.status(), 200);
        for stream in [&mut busy, &mut idle] {
            stream.read_to_end().await.unwrap();
            // The idle stream notices it when it has sent a heartbeat.
            let blocks = stream.text.trim_end_matches(":\n");
            assert!(blocks.ends_with("\n\n"), "{}", stream.text);
        }
        let closed = "sse_streams_closed_total{reason=\"tls_keys_used\"}";
        assert_eq!(server.metric(closed), format!("{closed} 2"));
        assert!(client.connection.await.unwrap().is_ok());
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
    client_streams_max: 1000,
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
