//! Requests that are not streams.

use super::{
    frames::{Frames, HEADERS},
    server::{Client, body, request, with_server},
};

#[tokio::test]
async fn a_publish_is_read_from_history_and_no_response_has_connection_fields() {
    with_server(&[], async |server| {
        let client = server.connect().await;
        let publish = request("POST", "/event/click").header("content-type", "text/plain");
        let published = client.send(publish, b"hello").await.unwrap();
        assert_eq!(published.status(), 200);
        let history = client.get("/events?since=1h").await;
        for response in [&published, &history] {
            let headers = response.headers();
            for name in ["connection", "transfer-encoding", "keep-alive", "upgrade"] {
                assert!(!headers.contains_key(name), "{headers:?}");
            }
            assert!(headers.contains_key("date") && headers.contains_key("content-length"));
            assert_eq!(headers["cache-control"], "no-store");
        }
        let text = body(history).await;
        assert!(text.contains("hello"), "{text}");
        let text = body(published).await;
        assert!(text.contains("\"id\""), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_response_to_head_has_the_length_and_no_body() {
    with_server(&[], async |server| {
        let client = server.connect().await;
        let get = client.get("/health/live").await;
        let head = client
            .send(request("HEAD", "/health/live"), b"")
            .await
            .unwrap();
        assert_eq!(
            get.headers()["content-length"],
            head.headers()["content-length"]
        );
        assert!(head.body().is_end_stream());
        assert!(!body(get).await.is_empty());
    })
    .await;
}

/// A page of this server may publish, which only the host shows.
#[tokio::test]
async fn the_authority_is_the_host() {
    with_server(&["--bind", "127.0.0.1:5000"], async |server| {
        let client = server.connect().await;
        let own = request("POST", "/event/click")
            .header("content-type", "text/plain")
            .header("sec-fetch-site", "same-origin")
            .header("origin", "http://localhost");
        assert_eq!(client.send(own, b"x").await.unwrap().status(), 200);
        let foreign = request("POST", "/event/click")
            .header("content-type", "text/plain")
            .header("origin", "https://evil.example");
        assert_eq!(client.send(foreign, b"x").await.unwrap().status(), 403);
        let rebound = http::Request::get("https://evil.example/health/live");
        assert_eq!(client.send(rebound, b"").await.unwrap().status(), 421);
    })
    .await;
}

/// The status of a response, or that the request was reset.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Status(&'static str),
    Reset,
}

type Fields = &'static [(&'static str, &'static str)];

const BAD_REQUESTS: [(Fields, Outcome); 14] = [
    (
        &[
            (":path", "/health/live"),
            (":authority", "localhost"),
            ("host", "localhost"),
        ],
        Outcome::Status("200"),
    ),
    (
        &[(":path", "/health/live"), ("host", "localhost")],
        Outcome::Status("200"),
    ),
    (
        &[
            (":path", "/health/live"),
            (":authority", "localhost"),
            ("host", "evil.example"),
        ],
        Outcome::Status("400"),
    ),
    (
        &[
            (":path", "/health/live"),
            ("host", "localhost"),
            ("host", "localhost"),
        ],
        Outcome::Status("400"),
    ),
    (&[(":path", "/health/live")], Outcome::Status("400")),
    (
        &[(":path", "/health/live"), (":authority", "a:b@localhost")],
        Outcome::Status("400"),
    ),
    (
        &[(":path", "/health/live"), ("host", "a@localhost")],
        Outcome::Status("400"),
    ),
    (
        &[(":path", "*"), (":authority", "localhost")],
        Outcome::Status("400"),
    ),
    (
        &[(":path", "?a=b"), (":authority", "localhost")],
        Outcome::Status("400"),
    ),
    (
        &[(":path", "health"), (":authority", "localhost")],
        Outcome::Reset,
    ),
    (
        &[(":path", ""), (":authority", "localhost")],
        Outcome::Reset,
    ),
    (
        &[
            (":path", "/health/live"),
            (":authority", "localhost"),
            ("content-length", "0"),
            ("content-length", "0"),
        ],
        Outcome::Status("400"),
    ),
    (
        &[
            (":path", "/health/live"),
            (":authority", "localhost"),
            ("connection", "close"),
        ],
        Outcome::Reset,
    ),
    (
        &[
            (":path", "/health/live"),
            (":authority", "localhost"),
            ("upgrade", "websocket"),
        ],
        Outcome::Reset,
    ),
];

#[tokio::test]
async fn a_request_that_could_mean_two_things_is_rejected_and_the_connection_stays_open() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect(&server).await;
        for (fields, expected) in &BAD_REQUESTS {
            let mut all = vec![(":method", "GET"), (":scheme", "https")];
            all.extend_from_slice(fields);
            let id = frames.send_request(&all, true).await;
            let outcome = outcome(&mut frames, id).await;
            assert_eq!(outcome, *expected, "{fields:?}");
        }
        assert_eq!(server.open_count(), 1);
    })
    .await;
}

async fn outcome(frames: &mut Frames, id: u32) -> Outcome {
    let frame = frames.next_of(id).await;
    if frame.kind == HEADERS {
        match frame.status() {
            200 => Outcome::Status("200"),
            400 => Outcome::Status("400"),
            status => panic!("{status}"),
        }
    } else {
        Outcome::Reset
    }
}

#[tokio::test]
async fn connect_is_rejected() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect(&server).await;
        let fields = [(":method", "CONNECT"), (":authority", "localhost:80")];
        let id = frames.send_request(&fields, true).await;
        assert_eq!(frames.next_of(id).await.status(), 405);
        let extended = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/stream"),
            (":authority", "localhost"),
        ];
        let id = frames.send_request(&extended, false).await;
        assert_ne!(frames.next_of(id).await.kind, HEADERS);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_waits_for_permission_gets_it_unless_the_request_is_rejected() {
    with_server(&["--event-bytes-max", "10KiB"], async |server| {
        let mut frames = Frames::connect(&server).await;
        let statuses = async |frames: &mut Frames, length: &str| {
            let fields = [
                (":method", "POST"),
                (":scheme", "https"),
                (":path", "/event/click"),
                (":authority", "localhost"),
                ("content-type", "text/plain"),
                ("content-length", length),
                ("expect", "100-continue"),
            ];
            let id = frames.send_request(&fields, false).await;
            (id, frames.next_of(id).await.status())
        };
        let (id, status) = statuses(&mut frames, "5").await;
        assert_eq!(status, 100);
        frames.send_data(id, b"hello", true).await;
        assert_eq!(frames.next_of(id).await.status(), 200);
        let (_, status) = statuses(&mut frames, "100000").await;
        assert_eq!(status, 413);
    })
    .await;
}

/// The rest of a rejected body must not use up the window of the connection.
#[tokio::test]
async fn rejected_bodies_leave_the_connection_usable() {
    with_server(&["--event-bytes-max", "10KiB"], async |server| {
        let client = server.connect().await;
        for _ in 0..20 {
            send_large(&client).await;
        }
        client.publish("a", "small").await;
    })
    .await;
}

async fn send_large(client: &Client) {
    let publish = request("POST", "/event/click").header("content-type", "text/plain");
    let response = client.send(publish, &vec![b'x'; 60 << 10]).await.unwrap();
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn many_small_frames_of_a_body_are_read() {
    with_server(&[], async |server| {
        let mut frames = Frames::connect(&server).await;
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/event/click"),
            (":authority", "localhost"),
            ("content-type", "text/plain"),
        ];
        let id = frames.send_request(&fields, false).await;
        for _ in 0..3000 {
            frames.send_data(id, b"x", false).await;
        }
        frames.send_data(id, b"", true).await;
        assert_eq!(frames.next_of(id).await.status(), 200);
    })
    .await;
}
