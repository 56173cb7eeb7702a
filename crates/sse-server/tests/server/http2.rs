//! HTTP/2 over TLS, with the real server. The unit tests of `server/http2` have the limits and the
//! clients that are hostile or slow.

use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{
    Backend,
    http2::{Http2Client, Http2Stream, settings_with_alpn},
    https::TlsServer,
    until, within,
};

#[tokio::test]
async fn thirty_streams_and_their_publishes_share_a_connection() {
    let server = TlsServer::start(&[]).await;
    let client = Http2Client::connect(server.address, &server.certificate()).await;
    let mut streams = Vec::new();
    for number in 0..30 {
        streams.push(
            client
                .subscribe(&format!("/stream?channel=c{number}"))
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
    // The sweep counts the connections.
    until("a connection with streams", async || {
        (server
            .server
            .metric("sse_connections{state=\"stream\"}")
            .await
            > 0.5)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stream_resumes_over_another_version_of_http() {
    let server = TlsServer::start(&[]).await;
    let client = Http2Client::connect(server.address, &server.certificate()).await;
    let mut stream = client.subscribe("/stream?channel=a").await;
    client.publish("a", "one").await;
    stream.read_until("data: one\n\n").await;
    let id = stream.text.rsplit("id: ").next().unwrap();
    let id = id.lines().next().unwrap().to_owned();
    drop(stream);
    server.server.publish("a", "click", "two").await;
    let mut over_http_1 = server
        .server
        .subscribe_after("/stream?channel=a", Some(&id))
        .await;
    assert_eq!(over_http_1.next_event().await.data, "two");
    let resumed = Request::get("https://localhost/stream?channel=a").header("last-event-id", id);
    let mut stream = Http2Stream::new(client.send(resumed, b"").await);
    stream.read_until("data: two\n\n").await;
    assert!(!stream.text.contains("data: one"), "{}", stream.text);
}

/// A large event has several records of TLS and several frames.
#[tokio::test]
async fn large_events_and_histories_arrive_complete() {
    let server = TlsServer::start(&[]).await;
    let client = Http2Client::connect(server.address, &server.certificate()).await;
    let mut stream = client.subscribe("/stream?channel=a").await;
    let data = "0123456789".repeat(50_000);
    server.server.publish("a", "click", &data).await;
    stream.read_until(&data).await;
    let mut history = client.subscribe("/events?channel=a&last=1").await;
    while history.next().await.is_some() {}
    assert!(history.text.contains(&data));
}

#[tokio::test]
async fn a_stop_ends_streams_and_connections_without_an_error() {
    let mut server = TlsServer::start(&[]).await;
    let client = Http2Client::connect(server.address, &server.certificate()).await;
    let mut stream = client.subscribe("/stream").await;
    stream.read_until("retry:").await;
    let status = server.server.stop("TERM").await;
    assert!(status.success(), "{status}");
    while stream.next().await.is_some() {}
    within("the end", client.connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn http_2_is_not_offered_if_it_is_off() {
    let server = TlsServer::start(&["--http2", "off"]).await;
    let settings = settings_with_alpn(&server.certificate(), &[b"h2", b"http/1.1"]);
    let tls = server.connect_with(settings).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

/// Anyone can send such frames, so they must not fill the log.
#[tokio::test]
async fn frames_that_make_no_sense_are_not_logged() {
    let server = TlsServer::start(&[]).await;
    let settings = settings_with_alpn(&server.certificate(), &[b"h2"]);
    let mut tls = server.connect_with(settings).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // A response to a ping that the server has not sent, and a ping.
    bytes.extend_from_slice(b"\0\0\x08\x06\x01\0\0\0\0nonsense");
    bytes.extend_from_slice(b"\0\0\x08\x06\0\0\0\0\0question");
    tls.write_all(&bytes).await.unwrap();
    let mut received = Vec::new();
    while !received.windows(8).any(|bytes| bytes == b"question") {
        let count = within("a response", tls.read_buf(&mut received))
            .await
            .unwrap();
        assert_ne!(count, 0, "the connection has ended");
    }
    let log = server.server.log();
    assert!(!log.contains("PING"), "{log}");
}

/// The responses to the same request over both versions.
#[tokio::test]
async fn both_versions_give_the_same_responses() {
    let server = TlsServer::start_on(Backend::Memory, "", &["--event-bytes-max", "1KiB"]).await;
    let client = Http2Client::connect(server.address, &server.certificate()).await;
    let http_1 = reqwest::Client::builder().no_proxy().build().unwrap();
    for (method, path, body, status) in [
        ("GET", "/health/live", "", 200),
        ("GET", "/events?channel=a", "", 200),
        ("GET", "/nothing", "", 404),
        ("PUT", "/stream", "", 405),
        ("GET", "/stream?channel=!", "", 400),
        ("GET", "/stream?unknown=1", "", 400),
        ("POST", "/event/click?channel=!", "x", 400),
        ("POST", "/events", "not json", 400),
        ("OPTIONS", "/events", "", 405),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("content-type", "application/json");
        let over_http_2 = client.send(request, body.as_bytes()).await;
        let over_http_1 = http_1
            .request(method.parse().unwrap(), server.server.at(path))
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(over_http_2.status().as_u16(), status, "{method} {path}");
        assert_eq!(over_http_1.status().as_u16(), status, "{method} {path}");
        for name in ["content-type", "cache-control", "allow", "content-length"] {
            let fields = [over_http_1.headers(), over_http_2.headers()];
            let [first, second] = fields.map(|fields| fields.get(name));
            assert_eq!(first, second, "{method} {path} {name}");
        }
    }
}
