//! Clients that send frames to exhaust the server. Each loses its own connection, or waits.

use super::{
    frames::{
        CONTINUATION, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS,
        encode_fields, get_fields,
    },
    server::{TestServer, with_server},
};

const ENHANCE_YOUR_CALM: u32 = 11;
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// Checks that the server serves other clients.
async fn assert_serves_others(server: &TestServer) {
    server.connect().await.publish("a", "still there").await;
}

#[tokio::test]
async fn a_client_that_resets_its_requests_at_once_loses_its_connection() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect(&server).await;
        let head = encode_fields(&get_fields("/stream"));
        for _ in 0..10_000 {
            let id = frames.next_id();
            let opened = frames
                .try_send(HEADERS, END_HEADERS | END_STREAM, id, &head)
                .await;
            let reset = frames.try_send(RST_STREAM, 0, id, &CANCEL).await;
            if opened.and(reset).is_err() {
                break;
            }
        }
        assert_eq!(frames.read_to_end().await, Some(ENHANCE_YOUR_CALM));
        assert_eq!(server.metric("sse_subscribers "), "sse_subscribers 0");
        assert_serves_others(&server).await;
    })
    .await;
}

/// The client waits for each response before it resets the request.
#[tokio::test]
async fn requests_that_are_reset_after_their_responses_leave_nothing() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect(&server).await;
        for _ in 0..1000 {
            let id = frames.get("/stream").await;
            assert_eq!(frames.next_of(id).await.status(), 200);
            frames.send(RST_STREAM, 0, id, &CANCEL).await;
        }
        let id = frames.get("/health/live").await;
        assert_eq!(frames.next_of(id).await.status(), 200);
        while server.metric("sse_subscribers ") != "sse_subscribers 0" {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_large_head_is_rejected_and_an_endless_one_closes_the_connection() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect(&server).await;
        let large = "x".repeat(14_000);
        let mut fields = get_fields("/health/live").to_vec();
        fields.push(("x-large", &large));
        // Each field counts 32 bytes more than it has.
        fields.extend([("x", "y"); 100]);
        let id = frames.send_request(&fields, true).await;
        assert_eq!(frames.next_of(id).await.status(), 431);

        let id = frames.next_id();
        frames
            .send(HEADERS, END_STREAM, id, &encode_fields(&get_fields("/")))
            .await;
        let part = encode_fields(&[("x-part", &large[..8000])]);
        for _ in 0..10_000 {
            if frames.try_send(CONTINUATION, 0, id, &part).await.is_err() {
                break;
            }
        }
        assert_eq!(frames.read_to_end().await, Some(ENHANCE_YOUR_CALM));
        assert_serves_others(&server).await;
    })
    .await;
}

#[tokio::test]
async fn empty_continuations_close_the_connection() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect(&server).await;
        let id = frames.next_id();
        frames
            .send(HEADERS, END_STREAM, id, &encode_fields(&get_fields("/")))
            .await;
        for _ in 0..100_000 {
            if frames.try_send(CONTINUATION, 0, id, b"").await.is_err() {
                break;
            }
        }
        assert_eq!(frames.read_to_end().await, Some(ENHANCE_YOUR_CALM));
        assert_serves_others(&server).await;
    })
    .await;
}

/// The server reads no further frame before it has written what the last one asked for.
#[tokio::test]
async fn a_client_that_reads_no_response_to_its_pings_and_settings_must_wait() {
    with_server(&[], async |server| {
        for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[])] {
            let mut frames = Frames::connect(&server).await;
            let mut sent = 0;
            while send_now(&mut frames, kind, payload).await {
                sent += 1;
                assert!(sent < 50_000, "the server reads on");
            }
        }
        assert_serves_others(&server).await;
    })
    .await;
}

/// Sends a frame; returns `false` if the server does not read it.
async fn send_now(frames: &mut Frames, kind: u8, payload: &[u8]) -> bool {
    let mut sending = std::pin::pin!(frames.try_send(kind, 0, 0, payload));
    for _ in 0..100 {
        match futures::poll!(sending.as_mut()) {
            std::task::Poll::Ready(sent) => return sent.is_ok(),
            std::task::Poll::Pending => tokio::task::yield_now().await,
        }
    }
    false
}
