//! How many requests and streams a connection has.

use super::{
    frames::{Frames, HEADERS, RST_STREAM},
    server::{TestServer, with_server},
};
use crate::connections::ConnectionLimits;

const STREAMS: usize = 192;
const REQUESTS: usize = 256;
/// Setting of the window of each stream.
const INITIAL_WINDOW_SIZE: u16 = 4;
const REFUSED_STREAM: u32 = 7;

fn publish_fields() -> [(&'static str, &'static str); 5] {
    [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/event/click"),
        (":authority", "localhost"),
        ("content-type", "text/plain"),
    ]
}

#[tokio::test]
async fn a_stream_too_many_is_rejected_and_a_request_too_many_refused() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect(&server).await;
        for _ in 0..STREAMS {
            let id = frames.get("/stream").await;
            assert_eq!(frames.next_of(id).await.status(), 200);
        }
        let rejected = frames.get("/stream").await;
        let mut frame = frames.next_of(rejected).await;
        assert_eq!(frame.status(), 200);
        let mut text = Vec::new();
        while !frame.is_last() {
            frame = frames.next_of(rejected).await;
            text.extend_from_slice(&frame.payload);
        }
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.contains("retry: ") && text.contains("too many"),
            "{text}"
        );

        let mut publishes = Vec::new();
        for _ in STREAMS..REQUESTS {
            publishes.push(frames.send_request(&publish_fields(), false).await);
        }
        let refused = frames.get("/health/live").await;
        let frame = frames.next_of(refused).await;
        assert_eq!((frame.kind, frame.code()), (RST_STREAM, REFUSED_STREAM));
        for id in publishes {
            frames.send_data(id, b"x", true).await;
            let frame = frames.next_of(id).await;
            assert_eq!((frame.kind, frame.status()), (HEADERS, 200));
        }
        let id = frames.get("/health/live").await;
        assert_eq!(frames.next_of(id).await.status(), 200);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_gets_no_response_is_refused_and_the_connection_stays_open() {
    with_server(&["--streams-max", "10"], async |server| {
        let other = server.connect().await;
        let mut open = Vec::new();
        for _ in 0..10 {
            open.push(other.open_stream("/stream").await);
        }
        // Without a window, the rejected stream counts until it is too slow.
        let mut frames = Frames::connect_with(&server, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        let rejected = frames.get("/stream").await;
        assert_eq!(frames.next_of(rejected).await.status(), 200);
        let refused = frames.get("/stream").await;
        let frame = frames.next_of(refused).await;
        assert_eq!((frame.kind, frame.code()), (RST_STREAM, REFUSED_STREAM));
        let dropped = server.metric("sse_streams_rejected_total{reason=\"dropped\"}");
        assert!(dropped.ends_with(" 1"), "{dropped}");
        let id = frames.get("/health/live").await;
        assert_eq!(frames.next_of(id).await.status(), 200);
    })
    .await;
}

#[tokio::test]
async fn streams_of_one_client_on_many_connections_have_a_part_of_all_streams() {
    const FEW_STREAMS: ConnectionLimits = ConnectionLimits {
        open_max: 100,
        reserve: 10,
        client_max: 90,
        client_streams_max: 6,
    };
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let server = TestServer::start(&[], FEW_STREAMS).await;
            let clients = [server.connect().await, server.connect().await];
            let mut open = Vec::new();
            for client in clients.iter().cycle().take(4) {
                let mut stream = client.open_stream("/stream").await;
                stream.read_until("id:").await;
                open.push(stream);
            }
            let mut rejected = clients[0].open_stream("/stream").await;
            rejected.read_to_end().await.unwrap();
            assert!(rejected.text.contains("too many"), "{}", rejected.text);
        })
        .await;
}

#[tokio::test]
async fn the_heads_of_requests_that_have_no_response_are_limited_together() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect(&server).await;
        let large = "x".repeat(15 << 10);
        let fields: Vec<_> = publish_fields()
            .into_iter()
            .chain([("x-large", &*large)])
            .collect();
        let mut open = Vec::new();
        for _ in 0..33 {
            open.push(frames.send_request(&fields, false).await);
        }
        let refused = frames.send_request(&fields, false).await;
        let frame = frames.next_of(refused).await;
        assert_eq!((frame.kind, frame.code()), (RST_STREAM, REFUSED_STREAM));
        frames.send_data(open[0], b"x", true).await;
        assert_eq!(frames.next_of(open[0]).await.status(), 200);
        let id = frames.send_request(&fields, false).await;
        frames.send_data(id, b"x", true).await;
        assert_eq!(frames.next_of(id).await.status(), 200);
    })
    .await;
}
