//! `sse-server copy` to a Redis Cluster.

use serde_json::Value;
use tempfile::TempDir;

use super::node;
use crate::common::{TestServer, redis_cluster::RedisCluster, run, server_command};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_copied_to_the_primaries_of_its_channels() {
    let cluster = RedisCluster::start().await;
    let channels = cluster.channels().await;
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("log");
    let mut old = TestServer::on_directory(&log, &[]).await;
    let mut positions = Vec::new();
    for channel in &channels {
        old.publish_numbers(channel, 0..50).await;
        positions.push(old.publish(channel, "click", "seen").await);
        publish_once(&old, channel).await;
        old.publish(channel, "click", "not seen").await;
    }
    let close = old.at(&format!("/channels/{}/close", channels[2]));
    let closed = old.http.post(close).body(r#"{"reason":"completed"}"#);
    let closed = closed.header("content-type", "application/json");
    assert!(closed.send().await.unwrap().status().is_success());
    old.stop("TERM").await;

    for _ in 0..2 {
        let mut copy = server_command();
        let copy = copy.arg("copy").arg("--from").arg(&log);
        let output = run(copy.args(["--to", &cluster.url()])).await;
        let text = format!("{}{}", output.stdout, output.stderr);
        assert_eq!(output.code, Some(0), "{text}");
        assert!(text.contains("3 channels with 159 events"), "{text}");
    }
    let new = node(&cluster, &[]).await;
    for (channel, position) in channels.iter().zip(&positions) {
        let path = format!("/stream?channel={channel}");
        let mut resumed = new.subscribe_after(&path, Some(position)).await;
        assert_eq!(resumed.next_event().await.data, "once");
        assert_eq!(resumed.next_event().await.data, "not seen");
        let is_closed = *channel == channels[2];
        // The end is in the history too.
        assert_eq!(
            new.history(channel).await.len(),
            53 + usize::from(is_closed)
        );
        if is_closed {
            assert_eq!(resumed.next_event().await.event, "end");
        } else {
            new.publish(channel, "click", "new").await;
            assert_eq!(resumed.next_event().await.data, "new");
        }
        // The key is known there, so nothing is stored.
        let before = new.history(channel).await.len();
        publish_once(&new, channel).await;
        assert_eq!(new.history(channel).await.len(), before);
    }
}

async fn publish_once(server: &TestServer, channel: &str) -> Value {
    let url = server.at(&format!("/event/click?channel={channel}"));
    let request = server.http.post(url).header("idempotency-key", "one");
    let request = request.header("content-type", "text/plain").body("once");
    let response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{response:?}");
    response.json().await.unwrap()
}
