//! What many channels, or a Redis that misbehaves, cost a node: publishing continues, and memory and
//! log stay bounded.

use crate::common::{Proxy, RedisServer, TestServer, peak_memory, until};

const MIB: usize = 1 << 20;

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
