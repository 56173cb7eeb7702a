//! TLS: what a client gets over it is what it gets without it, and no client can hold it up.

use std::{
    net::Ipv4Addr,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::Arc,
};

use rustls::{
    HandshakeKind,
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{
    Backend, Client, RawConnection, STAYS_ATTACHED, Subscriber, TlsServer, all_at_once,
    client_settings, https::handshake, run, skip, until, within,
};

const STREAM: &str = "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A client of the harness that trusts the certificate.
fn https_client(tls: &TlsServer) -> Client {
    let certificate = std::fs::read(tls.certificate()).unwrap();
    let certificate = reqwest::Certificate::from_pem(&certificate).unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([certificate])
        .build()
        .unwrap()
        .into()
}

async fn subscribe(tls: &TlsServer, path: &str) -> Subscriber {
    let response = https_client(tls).get(tls.url(path)).send().await.unwrap();
    let mut subscriber = Subscriber::new(response);
    assert!(subscriber.next_block().await.starts_with("retry: "));
    subscriber
}

/// Opens a stream, whose opening is read.
async fn open_stream(tls: &TlsServer) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut stream = tls.connect().await;
    stream.write_all(STREAM.as_bytes()).await.unwrap();
    read_until(&mut stream, "\n\n").await;
    stream
}

async fn read_until(stream: &mut (impl tokio::io::AsyncRead + Unpin), text: &str) -> String {
    let mut received = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&received).contains(text) {
            let count = stream.read_buf(&mut received).await.unwrap();
            assert!(
                count > 0,
                "no {text:?} in {:?}",
                String::from_utf8_lossy(&received)
            );
        }
    };
    within(text, reading).await;
    String::from_utf8(received).unwrap()
}

fn curl(tls: &TlsServer, arguments: &[&str]) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "--cacert"])
        .arg(tls.certificate())
        .args(arguments)
        .stdin(Stdio::null());
    curl
}

#[tokio::test]
async fn curl_publishes_and_reads_a_stream_over_both_versions() {
    let tls = TlsServer::start(&[]).await;
    for version in ["1.2", "1.3"] {
        let arguments = ["--tlsv1.2", "--tls-max", version];
        let publish = [
            &arguments[..],
            &["--data", "hello", "-H", "content-type: text/plain"],
        ];
        let url = tls.url("/event/greeting");
        let published = run(&mut curl(&tls, &[&publish.concat()[..], &[&url]].concat())).await;
        assert_eq!(published.code, Some(0), "{published:?}");
        assert!(published.stdout.contains(r#""id""#), "{published:?}");
        let id = published.stdout.split('"').nth(3).unwrap();
        let url = tls.url(&format!("/stream?from=oldest&until={id}"));
        let stream = run(&mut curl(&tls, &[&arguments[..], &[&url]].concat())).await;
        assert_eq!(stream.code, Some(0), "{stream:?}");
        assert!(stream.stdout.contains("data: hello\n"), "{stream:?}");
    }
    assert!(!tls.server.log().contains("ERROR"));
}

#[tokio::test]
async fn a_client_resumes_over_tls_by_its_last_event_id() {
    let tls = TlsServer::start_on(Backend::Embedded, "", &[]).await;
    let mut subscriber = subscribe(&tls, "/stream").await;
    tls.server.publish_numbers("sse", 0..50).await;
    assert_eq!(subscriber.take_data(50).await.last().unwrap(), "49");
    let last_id = subscriber.last_event_id.clone();
    drop(subscriber);
    tls.server.publish_numbers("sse", 50..60).await;
    let request = https_client(&tls).get(tls.url("/stream"));
    let response = request.header("last-event-id", last_id).send().await;
    let mut resumed = Subscriber::new(response.unwrap());
    let numbers: Vec<_> = (50..60).map(|number| number.to_string()).collect();
    assert_eq!(resumed.take_data(10).await, numbers);
}

#[tokio::test]
async fn large_events_reach_a_client_that_reads_late() {
    let tls = TlsServer::start(&["--write-timeout", "1m"]).await;
    for version in [&TLS12, &TLS13] {
        let settings = client_settings(&tls.certificate(), &[version]);
        let mut stream = tls.connect_with(settings).await.unwrap();
        stream.write_all(STREAM.as_bytes()).await.unwrap();
        read_until(&mut stream, "\n\n").await;
        let data = "0123456789abcdef".repeat(40_000);
        for _ in 0..3 {
            tls.server.publish("sse", "large", &data).await;
        }
        until("the stream is blocked", async || {
            (tls.server.metric("sse_blocked_bytes").await > 0.0).then_some(())
        })
        .await;
        let mut received = String::new();
        while received.matches("event: large").count() < 3 || !received.ends_with("\n\n\r\n") {
            received.push_str(&read_until(&mut stream, "\n").await);
        }
        let body: String = received
            .split("\r\n")
            .filter(|part| part.len() > 8)
            .collect();
        assert_eq!(body.matches(&data).count(), 3);
        drop(stream);
        until("the stream is gone", async || {
            (tls.server.metric("sse_subscribers").await < 0.5).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_last_chunk_and_the_end_of_the_session() {
    let tls = TlsServer::start(&[]).await;
    let id = tls.server.publish("sse", "click", "one").await;
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let request =
            format!("GET /stream?from=oldest&until={id} {version}\r\nHost: localhost\r\n\r\n");
        let mut stream = tls.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        // Without `close_notify`, this is an error.
        within("the end", stream.read_to_end(&mut received))
            .await
            .unwrap();
        let received = String::from_utf8(received).unwrap();
        assert!(received.contains("data: one\n"), "{received}");
        assert_eq!(
            received.ends_with("\r\n0\r\n\r\n"),
            version == "HTTP/1.1",
            "{received}"
        );
    }
    assert_eq!(tls.server.closed_streams("until_reached").await, 2);
}

#[tokio::test]
async fn a_stopping_server_ends_streams_and_sessions() {
    let mut tls = TlsServer::start(&[]).await;
    let mut stream = open_stream(&tls).await;
    let mut silent = tls.connect_plain().await;
    tls.server.stop("TERM").await;
    let mut received = Vec::new();
    within("the end", stream.read_to_end(&mut received))
        .await
        .unwrap();
    assert!(received.ends_with(b"0\r\n\r\n"));
    assert_eq!(
        within("the end", silent.read_to_end(&mut received))
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn the_end_of_the_clients_session_ends_its_stream() {
    let tls = TlsServer::start(&[]).await;
    let mut stream = open_stream(&tls).await;
    // The TCP connection stays open.
    stream.get_mut().1.send_close_notify();
    stream.flush().await.unwrap();
    until("the stream is closed", async || {
        (tls.server.closed_streams("client").await == 1).then_some(())
    })
    .await;
    let mut rest = Vec::new();
    within("the end", stream.get_mut().0.read_to_end(&mut rest))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stream_continues_when_its_client_changes_its_keys_and_sends_bytes() {
    let tls = TlsServer::start(&[]).await;
    let mut stream = open_stream(&tls).await;
    for round in 0..20 {
        stream.get_mut().1.refresh_traffic_keys().unwrap();
        stream.write_all(b"ignored").await.unwrap();
        stream.flush().await.unwrap();
        let data = format!("round {round}");
        tls.server.publish("sse", "click", &data).await;
        read_until(&mut stream, &data).await;
    }
    assert!(tls.server.metric("sse_subscribers").await > 0.5);
}

/// In `openssl s_client`, a line with `K` renews the keys of both sides.
#[tokio::test]
async fn a_stream_continues_when_openssl_renews_the_keys() {
    let tls = TlsServer::start(&[]).await;
    let (terminal, of_openssl) = std::os::unix::net::UnixStream::pair().unwrap();
    terminal.set_nonblocking(true).unwrap();
    let mut terminal = tokio::net::UnixStream::from_std(terminal).unwrap();
    let side = || Stdio::from(OwnedFd::from(of_openssl.try_clone().unwrap()));
    let openssl = Command::new("openssl")
        .args([
            "s_client",
            "-tls1_3",
            "-servername",
            "localhost",
            "-connect",
        ])
        .arg(tls.address.to_string())
        .stdin(side())
        .stdout(side())
        .stderr(side())
        .spawn();
    let Ok(mut openssl) = openssl else {
        return skip("openssl is not installed");
    };
    read_until(&mut terminal, "---\n").await;
    terminal.write_all(STREAM.as_bytes()).await.unwrap();
    read_until(&mut terminal, "retry: ").await;
    for round in 0..3 {
        terminal.write_all(b"K\n").await.unwrap();
        read_until(&mut terminal, "KEYUPDATE").await;
        let data = format!("round {round}");
        tls.server.publish("sse", "click", &data).await;
        read_until(&mut terminal, &data).await;
    }
    assert_eq!(tls.server.closed_streams("client").await, 0);
    openssl.kill().unwrap();
    openssl.wait().unwrap();
}

#[tokio::test]
async fn a_client_that_sends_too_much_is_closed() {
    let tls = TlsServer::start(&["--heartbeat", "100ms"]).await;
    let mut stream = open_stream(&tls).await;
    let writing = async { while stream.write_all(&[b'x'; 1000]).await.is_ok() {} };
    within("the end of the connection", writing).await;
    until("the stream is closed", async || {
        let reasons = ["too_much_input", "client"];
        let counts = reasons.map(|reason| tls.server.closed_streams(reason));
        let counts = futures::future::join_all(counts).await;
        (counts.iter().sum::<usize>() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_is_resumed_without_early_data() {
    let tls = TlsServer::start(&[]).await;
    let mut settings = client_settings(&tls.certificate(), &[&TLS13]);
    Arc::get_mut(&mut settings).unwrap().enable_early_data = true;
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let connector = tokio_rustls::TlsConnector::from(settings.clone()).early_data(true);
        let name = "localhost".try_into().unwrap();
        let tcp = tls.connect_plain().await;
        let mut stream = connector
            .connect_with(name, tcp, |session| {
                assert!(
                    session.early_data().is_none(),
                    "the ticket allows early data"
                );
            })
            .await
            .unwrap();
        let request = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
        assert!(!stream.get_ref().1.is_early_data_accepted());
    }
    let metrics = tls
        .server
        .get("/metrics")
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for result in ["full", "resumed"] {
        let line = format!("sse_tls_handshakes_total{{result=\"{result}\"}} 1\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn plain_http_on_an_https_address_is_one_warning_and_a_hint() {
    let tls = TlsServer::start(&[]).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\r\n\r\n\0\r\nQUIT\n",
    ] {
        let mut socket = tls.connect_plain().await;
        socket.write_all(request.as_bytes()).await.unwrap();
        let response = read_until(&mut socket, "https://").await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    }
    let garbage = b"\x16\x03\x01\x00\x05hello";
    let mut socket = tls.connect_plain().await;
    socket.write_all(garbage).await.unwrap();
    let mut alert = Vec::new();
    // The server may close the connection with bytes unread, which resets it.
    let _ = within("the end", socket.read_to_end(&mut alert)).await;
    let log = tls.server.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("http:// instead of https://"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

/// The value of the metric that begins its line with `start`.
async fn count(tls: &TlsServer, start: &str) -> usize {
    let metrics = tls.server.get("/metrics").await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix(start));
    value.unwrap().parse().unwrap()
}

#[tokio::test]
async fn stalled_handshakes_delay_no_other_client() {
    let tls = TlsServer::start(&[]).await;
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    // More than a worker handles at a time for these clients.
    let stalled = all_at_once(0..160_u16, |number| {
        let client = Ipv4Addr::new(127, 0, 1, u8::try_from(number % 4).unwrap() + 1);
        let tls = &tls;
        async move {
            let mut socket = tls.connect_from(client).await;
            // Half of them do not even begin.
            if number % 2 == 0 {
                socket.write_all(hello).await.unwrap();
            }
            socket
        }
    })
    .await;
    until("all are accepted", async || {
        let waiting = count(&tls, "sse_connections{state=\"handshake\"} ").await;
        (waiting == stalled.len()).then_some(())
    })
    .await;
    for _ in 0..5 {
        let mut stream = open_stream(&tls).await;
        tls.server.publish("sse", "click", "here").await;
        read_until(&mut stream, "here").await;
    }
    until("the silent ones are closed", async || {
        let reason = "sse_connections_closed_total{reason=\"handshake_timeout\"} ";
        (count(&tls, reason).await >= stalled.len() / 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn silent_clients_lose_their_turns_when_all_are_taken() {
    let tls = TlsServer::start(&[]).await;
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    // More than all workers handle at a time, from enough clients that each of them has few.
    let count_max = 200 * std::thread::available_parallelism().unwrap().get();
    let silent = all_at_once(0..count_max, |number| {
        let tls = &tls;
        async move {
            let client = Ipv4Addr::new(127, 0, 2, u8::try_from(number % 200).unwrap() + 1);
            let mut socket = tls.connect_from(client).await;
            socket.write_all(hello).await.unwrap();
            socket
        }
    })
    .await;
    let mut stream = open_stream(&tls).await;
    tls.server.publish("sse", "click", "here").await;
    read_until(&mut stream, "here").await;
    drop(silent);
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let tls = TlsServer::start(&[]).await;
    let health = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut connection = RawConnection::send_over(tls.connect().await, health).await;
    for count in 1..=20 {
        connection
            .receive_until_count("HTTP/1.1 200 OK", count)
            .await;
        connection.send_more(health).await;
    }
    // Many pipelined requests arrive in one record.
    let mut connection = RawConnection::send_over(tls.connect().await, &health.repeat(30)).await;
    connection.receive_until_count("HTTP/1.1 200 OK", 30).await;
}

#[tokio::test]
async fn a_page_of_plain_http_is_no_page_of_an_https_server() {
    let tls = TlsServer::start(&[]).await;
    for (scheme, status) in [("http", "403"), ("https", "200")] {
        let request = format!(
            "POST /event/click HTTP/1.1\r\nHost: localhost\r\nOrigin: {scheme}://localhost\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let mut connection = RawConnection::send_over(tls.connect().await, &request).await;
        assert_eq!(connection.head().await.status.to_string(), status);
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_closed_as_stalled() {
    if STAYS_ATTACHED {
        return skip("the buffers of actix and the kernel take minutes; a unit test has a clock");
    }
    let tls = TlsServer::start(&["--write-timeout", "200ms"]).await;
    let tcp = tls.connect_small().await;
    let settings = client_settings(&tls.certificate(), &[&TLS13]);
    let mut stream = handshake(tcp, settings, "localhost").await.unwrap();
    stream.write_all(STREAM.as_bytes()).await.unwrap();
    read_until(&mut stream, "\n\n").await;
    let data = "x".repeat(900_000);
    until("the stream is closed", async || {
        tls.server.publish("sse", "large", &data).await;
        (tls.server.closed_streams("stalled").await == 1).then_some(())
    })
    .await;
    drop(stream);
}
