//! Content types and sizes of bodies: unreadable ones are rejected with a helpful message, for
//! every kind of client.

use std::process::Command;

use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{JSON, LINES, ONE_LINE, RawAnswer, TEXT, post, raw, refusal, sent, stored};
use crate::common::{Backend, TestServer, skip, within};

#[tokio::test]
async fn a_body_of_another_type_is_rejected_with_the_supported_types() {
    let server = TestServer::start(Backend::Memory).await;
    let body = "x=1";
    let typed = |path: &str, content_type: &str| post(&server, path, content_type, body);
    for (request, hint) in [
        (
            server.http.post(server.at("/event/click")).body(body),
            "no type",
        ),
        (
            typed("/event/click", "application/x-www-form-urlencoded"),
            "HTML form",
        ),
        (typed("/event/click", "text/html"), "text/html"),
        (typed("/event/click", "json"), "json"),
        (
            typed("/event/click", "multipart/form-data; boundary=x"),
            "multipart/form-data",
        ),
        (
            typed("/event/click", "application/cloudevents+xml"),
            "cloudevents",
        ),
        (typed("/event/click", LINES), "/events"),
        (
            typed("/event/click", "text/plain; charset=latin1"),
            "latin1",
        ),
        (
            typed("/event/click", "application/json; charset=utf-16"),
            "utf-16",
        ),
        (
            typed("/event/click", TEXT).header("content-encoding", "gzip"),
            "gzip",
        ),
        (
            typed("/event/click", JSON).header("content-encoding", "br"),
            "br",
        ),
        (
            server.http.post(server.at("/events")).body(ONE_LINE),
            "JSON",
        ),
        (typed("/events", TEXT), "JSON"),
        (typed("/events", "text/csv"), "text/csv"),
        (
            typed("/events", "application/x-ndjson; charset=latin1"),
            "latin1",
        ),
        (
            typed("/events", LINES).header("content-encoding", "gzip"),
            "gzip",
        ),
    ] {
        let message = refusal(sent(request).await, 415, "unsupported_media_type").await;
        assert!(
            message.contains(hint) && message.contains("application/json"),
            "{message}"
        );
        assert!(
            message.contains("curl -H 'content-type: application/"),
            "{message}"
        );
    }
    assert_eq!(server.history("sse").await, []);
}

/// Runs the `curl` line in the message of a 415. Returns false if `curl` is not installed; then
/// only the text is checked.
async fn follow_the_advice(server: &TestServer, path: &str) -> bool {
    let response = sent(server.http.post(server.at(path)).body("x")).await;
    let message = refusal(response, 415, "unsupported_media_type").await;
    let (_, line) = message.split_once("for example: ").expect("an example");
    assert!(
        line.starts_with("curl ") && line.contains(&server.url) && !line.contains('\n'),
        "{line}"
    );
    if Command::new("curl").arg("--version").output().is_err() {
        skip("curl is not installed, so the line is not run");
        return false;
    }
    let ran = Command::new("sh")
        .args(["-c", line])
        .env("no_proxy", "*")
        .output()
        .expect("sh");
    let answer = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        answer.contains("id\":\""),
        "{line}\ngave {answer} {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    true
}

#[tokio::test]
async fn the_curl_line_of_a_415_works() {
    let server = TestServer::start(Backend::Memory).await;
    let mut ran = true;
    for path in ["/event/view", "/event/a%20b", "/events"] {
        ran &= follow_the_advice(&server, path).await;
    }
    if ran {
        let kept: Vec<String> = server
            .history("sse")
            .await
            .into_iter()
            .map(|event| event.event)
            .collect();
        assert_eq!(kept, ["view", "a b", "click"]);
    }
}

#[tokio::test]
async fn the_curl_line_of_a_415_publishes_to_the_channel_of_the_request() {
    let server = TestServer::start(Backend::Memory).await;
    let long = "x".repeat(100);
    for (path, channel, action) in [
        ("/event/it's?channel=quoted", "quoted", "it's"),
        ("/event/view?channel=orders", "orders", "view"),
        (
            &format!("/event/{long}?channel=long"),
            "long",
            long.as_str(),
        ),
        ("/events?channel=batch", "batch", "click"),
    ] {
        if follow_the_advice(&server, path).await {
            let kept: Vec<String> = server
                .history(channel)
                .await
                .into_iter()
                .map(|event| event.event)
                .collect();
            assert_eq!(kept, [action], "{path}");
        }
    }
}

#[tokio::test]
async fn the_curl_line_of_a_415_has_the_public_url() {
    let urls = "https://hub.example.org/live/,http://hub.example.net:8080";
    let server = TestServer::start_with(Backend::Memory, &["--public-url", urls]).await;
    for (host, url) in [
        ("hub.example.net:8080", "http://hub.example.net:8080"),
        ("hub.example.org", "https://hub.example.org/live"),
        ("127.0.0.1:5000", "https://hub.example.org/live"),
    ] {
        let request = post(&server, "/event/it's?channel=a", "text/html", "x");
        let response = sent(request.header("host", host)).await;
        let message = refusal(response, 415, "unsupported_media_type").await;
        let end = format!(" '{url}/event/it%27s?channel=a'");
        assert!(message.ends_with(&end), "{message}");
    }
}

#[tokio::test]
async fn a_body_over_its_limit_is_413_with_any_framing() {
    let flags = [
        "--event-bytes-max",
        "2000",
        "--batch-bytes-max",
        "5000",
        "--batch-events-max",
        "3",
    ];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let chunked = |path: &str, content_type: &str, body: String| {
        let pieces = futures::stream::iter(
            body.into_bytes()
                .chunks(100)
                .map(<[u8]>::to_vec)
                .collect::<Vec<_>>(),
        );
        let pieces = futures::StreamExt::map(pieces, Ok::<_, std::io::Error>);
        post(
            &server,
            path,
            content_type,
            reqwest::Body::wrap_stream(pieces),
        )
    };
    let line = |length: usize| format!(r#"{{"event":"a","data":"{}"}}"#, "x".repeat(length));
    for (path, content_type, body, hint) in [
        (
            "/event/click",
            TEXT,
            "x".repeat(2001),
            "2000 bytes, which is the limit (--event-bytes-max)",
        ),
        (
            "/event/click",
            JSON,
            format!("1{}", " ".repeat(2000)),
            "--event-bytes-max",
        ),
        (
            "/event/click",
            "text/html",
            "x".repeat(2001),
            "--event-bytes-max",
        ),
        (
            "/events",
            LINES,
            "x".repeat(5001),
            "5000 bytes, which is the limit (--batch-bytes-max)",
        ),
        ("/events", JSON, " ".repeat(5001), "--batch-bytes-max"),
        (
            "/events",
            LINES,
            format!("{}\n\n{}", line(1), line(2001)),
            "line 3",
        ),
        (
            "/events",
            JSON,
            format!("[{},{}]", line(1), line(2001)),
            "item 2",
        ),
        (
            "/events",
            LINES,
            [ONE_LINE; 4].join("\n"),
            "3 events, which is the limit (--batch-events-max)",
        ),
        (
            "/events",
            JSON,
            format!("[{}]", [ONE_LINE; 4].join(",")),
            "--batch-events-max",
        ),
    ] {
        for request in [
            post(&server, path, content_type, body.clone()),
            chunked(path, content_type, body.clone()),
        ] {
            let message = refusal(sent(request).await, 413, "too_large").await;
            assert!(message.contains(hint), "{message}");
        }
    }
    assert_eq!(server.history("sse").await, []);
    for request in [
        post(&server, "/event/click", TEXT, "x".repeat(2000)),
        chunked("/event/click", TEXT, "x".repeat(2000)),
    ] {
        assert_eq!(stored(&server, request).await.len(), 2000);
    }
    let batch = chunked(
        "/events",
        LINES,
        format!("{}\n{}\n{ONE_LINE}", line(2000), line(2000)),
    );
    assert_eq!(sent(batch).await.status(), StatusCode::OK);
}

/// Sends 20 MiB and reads the response. The client either sends everything first, like `requests`,
/// or watches for the response meanwhile, like `curl`.
async fn send_20_mib(
    server: &TestServer,
    head: &str,
    chunked: bool,
    reads_meanwhile: bool,
) -> RawAnswer {
    const PIECE: usize = 64 << 10;
    let framing = if chunked {
        "transfer-encoding: chunked".to_owned()
    } else {
        format!("content-length: {}", PIECE * 320)
    };
    let mut socket = server.connect().await;
    socket
        .write_all(format!("{head}Host: localhost\r\n{framing}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let piece = if chunked {
        [
            format!("{PIECE:x}\r\n").into_bytes(),
            vec![b'x'; PIECE],
            b"\r\n".to_vec(),
        ]
        .concat()
    } else {
        vec![b'x'; PIECE]
    };
    for _ in 0..320 {
        let mut seen = [0];
        if reads_meanwhile && futures::FutureExt::now_or_never(socket.peek(&mut seen)).is_some() {
            break;
        }
        // These clients do not fail on a broken pipe either: they still read the response.
        if within("the body is sent", socket.write_all(&piece))
            .await
            .is_err()
        {
            break;
        }
    }
    if chunked {
        let _ = socket.write_all(b"0\r\n\r\n").await;
    }
    RawAnswer::read(&mut socket).await
}

#[tokio::test]
async fn a_client_that_sends_20_mib_can_read_the_rejection() {
    let server = TestServer::start(Backend::Memory).await;
    for (head, status, code) in [
        (
            "POST /event/click HTTP/1.1\r\ncontent-type: text/plain\r\n",
            413,
            "too_large",
        ),
        (
            "POST /event/click HTTP/1.1\r\ncontent-type: image/png\r\n",
            413,
            "too_large",
        ),
        (
            "POST /events HTTP/1.1\r\ncontent-type: application/x-ndjson\r\n",
            413,
            "too_large",
        ),
        (
            "POST /events HTTP/1.1\r\ncontent-type: text/plain\r\n",
            415,
            "unsupported_media_type",
        ),
        (
            "POST /event/gap HTTP/1.1\r\ncontent-type: text/plain\r\n",
            400,
            "invalid_action",
        ),
        ("POST /nowhere HTTP/1.1\r\n", 404, "not_found"),
        ("PUT /stream HTTP/1.1\r\n", 405, "method_not_allowed"),
        (
            "POST /event/click HTTP/1.1\r\norigin: https://evil.example\r\n",
            403,
            "origin_not_allowed",
        ),
    ] {
        for (chunked, reads_meanwhile) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            send_20_mib(&server, head, chunked, reads_meanwhile)
                .await
                .refusal(status, code);
        }
    }
    let body = vec![b'x'; 20 << 20];
    refusal(
        sent(post(&server, "/event/click", TEXT, body)).await,
        413,
        "too_large",
    )
    .await;
    assert_eq!(server.history("sse").await, []);
}

#[tokio::test]
async fn a_client_that_expects_100_continue_is_rejected_before_it_sends() {
    let server = TestServer::start(Backend::Memory).await;
    let head = "POST /event/click HTTP/1.1\r\nHost: localhost\r\ncontent-type: text/plain\r\nexpect: 100-continue\r\n";
    let large = raw(
        &server,
        format!("{head}content-length: 20000000\r\n\r\n").as_bytes(),
    )
    .await;
    let message = large.refusal(413, "too_large");
    assert!(message.contains("--event-bytes-max"), "{message}");
    assert!(
        large.headers.contains("cache-control: no-store"),
        "{large:?}"
    );
    let batch = "POST /events HTTP/1.1\r\nHost: localhost\r\nexpect: 100-continue\r\n\
                 content-type: application/x-ndjson\r\ncontent-length: 20000000\r\n\r\n";
    raw(&server, batch.as_bytes())
        .await
        .refusal(413, "too_large");
    let mut socket = server.connect().await;
    socket
        .write_all(format!("{head}content-length: 2\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert_eq!(RawAnswer::read(&mut socket).await.status, 100);
    socket.write_all(b"ok").await.unwrap();
    assert_eq!(RawAnswer::read(&mut socket).await.status, 200);
}

#[tokio::test]
async fn an_unread_body_is_not_parsed_as_the_next_request() {
    let server = TestServer::start(Backend::Memory).await;
    let smuggled = "GET /event/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for head in [
        "POST /nowhere HTTP/1.1\r\n",
        "PUT /stream HTTP/1.1\r\n",
        "POST /event/gap HTTP/1.1\r\n",
        "POST /event/click HTTP/1.1\r\norigin: https://evil.example\r\n",
        "POST /event/click HTTP/1.1\r\ncontent-type: text/html\r\n",
        "POST /events HTTP/1.1\r\ncontent-type: text/plain\r\n",
        "GET /events HTTP/1.1\r\n",
        "GET /nowhere HTTP/1.1\r\n",
    ] {
        for framed in [
            format!("content-length: {}\r\n\r\n{smuggled}", smuggled.len()),
            format!(
                "transfer-encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n",
                smuggled.len()
            ),
        ] {
            let mut socket = server.connect().await;
            let next = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            socket
                .write_all(format!("{head}Host: localhost\r\n{framed}{next}").as_bytes())
                .await
                .unwrap();
            let mut answers = Vec::new();
            within("the responses", socket.read_to_end(&mut answers))
                .await
                .unwrap();
            assert!(answers.starts_with(b"HTTP/1.1 "), "{head}");
        }
    }
    assert_eq!(server.history("sse").await, []);
}
