//! What many channels, or a Redis that misbehaves, cost a node: publishing continues, and memory and
//! log stay bounded.

use crate::common::{Proxy, RedisServer, TestServer, all_at_once, peak_memory, until};

const MIB: usize = 1 << 20;

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
