//! What many channels, or a Redis that misbehaves, cost a node: publishing continues, and memory and
//! log stay bounded.

use std::net::SocketAddr;

use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::common::{Proxy, RedisServer, TestServer, all_at_once, peak_memory, until, within};

const MIB: usize = 1 << 20;

/// Connects from the address 127.0.0.`last`.
async fn connect_from(server: &TestServer, last: u8) -> TcpStream {
    let address: SocketAddr = server.url.trim_start_matches("http://").parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    let own = SocketAddr::from(([127, 0, 0, last], 0));
    socket.bind(own).unwrap();
    within("a connection", socket.connect(address))
        .await
        .unwrap()
}

/// Opens a stream of channels and returns it with the beginning of the response.
async fn open_stream(server: &TestServer, client: u8, channels: &[String]) -> (TcpStream, String) {
    let mut socket = connect_from(server, client).await;
    let names: Vec<String> = channels
        .iter()
        .map(|name| format!("channel={name}"))
        .collect();
    let head = format!(
        "GET /stream?{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        names.join("&")
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut response = vec![0; 4096];
    let count = within("a response", socket.read(&mut response))
        .await
        .unwrap();
    let response = String::from_utf8_lossy(&response[..count]).into_owned();
    (socket, response)
}

/// The names of 32 channels that no other stream has.
fn own_channels(stream: usize) -> Vec<String> {
    (0..32)
        .map(|number| format!("s{stream}-{number}"))
        .collect()
}

async fn followed(server: &TestServer) -> usize {
    let metrics = server.get("/metrics").await.unwrap().text().await.unwrap();
    let value = |line: &str| line.strip_prefix("sse_followed_channels ")?.parse().ok();
    metrics.lines().find_map(value).expect("the gauge")
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_very_many_channels_delay_no_publish_and_reject_only_their_client() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &["--redis-followed-max", "8000"]).await;
    let streams = all_at_once(0..200, async |stream| {
        let opened = open_stream(&server, 2, &own_channels(stream)).await;
        // Each publish must succeed, also while the channels are looked up.
        server.publish("victim", "click", "x").await;
        opened
    })
    .await;
    let (open, rejected): (Vec<_>, Vec<_>) = streams
        .into_iter()
        .partition(|(_, response)| !response.contains("too many channels"));
    // A quarter of the limit, in streams of 32 channels.
    assert_eq!(open.len(), 62, "{} were rejected", rejected.len());
    for (_, response) in &rejected {
        for part in ["HTTP/1.1 200", "\nretry: ", "too many channels"] {
            assert!(response.contains(part), "{response}");
        }
    }
    // A channel that is followed already costs nothing more, and other clients have their part.
    let (shared, response) = open_stream(&server, 2, &own_channels_of(&open)).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    let (mut other, response) = open_stream(&server, 3, &["victim".to_owned()]).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert_eq!(followed(&server).await, 62 * 32 + 1);
    server.publish("victim", "click", "delivered").await;
    let mut text = String::new();
    while !text.contains("delivered") {
        let mut bytes = vec![0; 4096];
        let count = within("the event", other.read(&mut bytes)).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    drop((open, other, shared));
    until("no channel is followed", async || {
        let is_idle = followed(&server).await == 0 && subscribed_channels(&redis).await.is_empty();
        is_idle.then_some(())
    })
    .await;
    assert!(!server.log().contains("retrying"), "{}", server.log());
}

/// The channels of one of the open streams.
fn own_channels_of(open: &[(TcpStream, String)]) -> Vec<String> {
    let (_, response) = &open[0];
    let comment = response
        .lines()
        .find_map(|line| line.strip_prefix(": channels "))
        .expect("the names of the channels");
    comment.split(", ").map(str::to_owned).collect()
}

/// The pub/sub channels to which anyone is subscribed.
async fn subscribed_channels(redis: &RedisServer) -> Vec<String> {
    let command = redis::cmd("PUBSUB").arg("CHANNELS").to_owned();
    redis.command(command).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_without_subscribers_is_unsubscribed_at_once() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    let names = |range: std::ops::Range<usize>| {
        let names: Vec<String> = range.map(|number| format!("channel=c{number}")).collect();
        names.join("&")
    };
    let subscribers = all_at_once(0..10, async |stream| {
        let names = names(stream * 30..stream * 30 + 30);
        server.subscribe(&format!("/stream?{names}")).await
    })
    .await;
    until("every channel is subscribed", async || {
        (subscribed_channels(&redis).await.len() == 300).then_some(())
    })
    .await;
    let mut subscribers = subscribers.into_iter();
    let mut last = subscribers.next_back().unwrap();
    drop(subscribers);
    let left = until("30 channels are left", async || {
        let channels = subscribed_channels(&redis).await;
        (channels.len() == 30).then_some(channels)
    })
    .await;
    let name = left[0].trim_start_matches("sse:{").trim_end_matches('}');
    server.publish(name, "click", "left").await;
    assert_eq!(last.next_event().await.data, "left");
    drop(last);
    until("no channel is left", async || {
        subscribed_channels(&redis).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_reply_is_cut_off_and_its_connection_replaced() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let server = TestServer::on(&["--redis-url", &proxy.redis_url()], &[]).await;
    let mut subscriber = server.subscribe("/stream").await;
    server.publish("sse", "click", "before").await;
    assert_eq!(subscriber.next_event().await.data, "before");
    let (connections, memory) = (proxy.connections(), peak_memory(&server));
    proxy.flood();
    // The node asks on each of its three connections once per second.
    until("every connection is replaced", async || {
        (proxy.connections() >= 2 * connections).then_some(())
    })
    .await;
    until("publishing works", async || {
        let response = server.try_publish("sse", "click", "after").await.ok()?;
        response.status().is_success().then_some(())
    })
    .await;
    while subscriber.next_event().await.data != "after" {}
    let line = "a reply of Redis cannot be accepted; the connection is replaced";
    assert_eq!(server.log().matches(line).count(), 1, "{}", server.log());
    // A reply may have 64 MiB. The rest of the flood is in the buffers of sockets.
    let sent = usize::try_from(proxy.flood_bytes()).unwrap();
    let flooded = usize::try_from(connections).unwrap();
    assert!(sent < flooded * 80 * MIB, "{sent} bytes were accepted");
    let grown = peak_memory(&server).saturating_sub(memory);
    assert!(grown < 256 * MIB, "memory grew by {} MiB", grown / MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_with_many_followed_channels_is_one_line_and_one_more_at_its_end() {
    let mut redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &["--redis-timeout", "2s"]).await;
    let mut subscriber = server.subscribe("/stream?channel=first").await;
    server.publish("first", "click", "before").await;
    assert_eq!(subscriber.next_event().await.data, "before");
    redis.kill();
    until("the outage is noticed", async || {
        server
            .log()
            .contains("the connection to Redis broke")
            .then_some(())
    })
    .await;
    let streams = all_at_once(0..10, |stream| open_stream_of_own(&server, stream)).await;
    let count = |line: &str| server.log().matches(line).count();
    let begin = "the log cannot be read; retrying until it can";
    let end = "no channel waits for the log any more channels=";
    // Each rejected publish takes as long as a channel takes to fail.
    for _ in 0..3 {
        let response = server.try_publish("first", "click", "x").await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!((count(begin), count(end)), (1, 0), "{}", server.log());
    redis.restart().await;
    until("the end of the outage is logged", async || {
        (count(end) == 1).then_some(())
    })
    .await;
    let log = server.log();
    let channels = log.split(end).nth(1).unwrap().lines().next().unwrap();
    assert!(channels.parse::<usize>().unwrap() >= 320, "{log}");
    server.publish("first", "click", "after").await;
    while subscriber.next_event().await.data != "after" {}
    assert_eq!((count(begin), count(end)), (1, 1), "{}", server.log());
    assert!(count(" WARN ") < 10, "{}", server.log());
    drop(streams);
}

async fn open_stream_of_own(server: &TestServer, stream: usize) -> (TcpStream, String) {
    open_stream(server, 2, &own_channels(stream)).await
}

/// Bytes that Redis has sent since it started.
async fn sent_bytes(redis: &RedisServer) -> usize {
    let command = redis::cmd("INFO").arg("stats").to_owned();
    let stats: String = redis.command(command).await.unwrap();
    let value = |line: &str| line.strip_prefix("total_net_output_bytes:")?.parse().ok();
    stats.lines().find_map(value).expect("the statistic")
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_a_channel_get_replies_without_its_events() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    let large = "x".repeat(400 << 10);
    server.publish("sse", "click", &large).await;
    server.publish("sse", "click", "newest").await;
    let before = sent_bytes(&redis).await;
    // A busy machine may open a stream first and end it a little later.
    all_at_once(0..200, async |_| {
        let response = server.get("/stream?until=1-0").await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        let body = within("the end of the stream", response.bytes()).await;
        assert!(body.unwrap().len() < 1000);
    })
    .await;
    let sent = sent_bytes(&redis).await - before;
    assert!(sent < 2 * large.len(), "{sent} bytes for 200 requests");
}
