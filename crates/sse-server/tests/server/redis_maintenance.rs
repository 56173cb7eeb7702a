//! Tests what time does with channels over Redis: by one node at a time, and only when it is due.

use reqwest::StatusCode;

use crate::common::{RedisServer, TestServer, all_at_once, until};

/// Channels with this score or a higher one in `sse:due:{…}` are quiet; see `life.lua`.
const QUIET: f64 = 2_251_799_813_685_248.0;

/// The score of a channel in the due times of its slot.
async fn due(redis: &RedisServer, channel: &str) -> Option<f64> {
    let mut command = redis::cmd("EVAL");
    let script = "for _, key in ipairs(redis.call('KEYS', 'sse:due:*')) do \
                  local score = redis.call('ZSCORE', key, ARGV[1]) \
                  if score then return score end end";
    command.arg(script).arg(0).arg(channel);
    redis.command(command).await.unwrap()
}

async fn until_trimmed(redis: &RedisServer, channel: &str) {
    until("the channel is trimmed to its newest event", async || {
        let length = redis.run(&format!("XLEN sse:{{{channel}}}")).await;
        (length == redis::Value::Int(1)).then_some(())
    })
    .await;
}

/// The nodes that hold a lease, each once.
async fn holders(redis: &RedisServer) -> Vec<String> {
    let mut command = redis::cmd("EVAL");
    let script = "local nodes, seen = {}, {} \
                  for _, key in ipairs(redis.call('KEYS', 'sse:lease:*')) do \
                  local node = redis.call('GET', key) \
                  if not seen[node] then seen[node] = true; nodes[#nodes + 1] = node end end \
                  return nodes";
    command.arg(script).arg(0);
    redis.command(command).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_continues_when_the_one_with_the_leases_dies() {
    let redis = RedisServer::start().await;
    let flags = ["--history-age", "400ms"];
    let mut first = TestServer::node(&redis, &flags).await;
    until("the first node maintains channels", async || {
        (holders(&redis).await.len() == 1).then_some(())
    })
    .await;
    let second = TestServer::node(&redis, &flags).await;
    second.publish_numbers("before", 0..20).await;
    // The hint of the second node reaches the first one.
    until_trimmed(&redis, "before").await;
    let before = holders(&redis).await;
    assert_eq!(before.len(), 1, "one node at a time: {before:?}");
    first.kill();
    second.publish_numbers("after", 0..20).await;
    redis.end_leases().await;
    until_trimmed(&redis, "after").await;
    let after = holders(&redis).await;
    assert!(
        after.len() == 1 && after != before,
        "{after:?}, {before:?} before"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_channel_is_not_due_until_its_next_write() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &["--history-age", "400ms"]).await;
    server.publish_numbers("quiet", 0..3).await;
    until("the channel is quiet", async || {
        let score = due(&redis, "quiet").await?;
        (score >= QUIET).then_some(())
    })
    .await;
    assert_eq!(server.history("quiet").await.len(), 1);
    server.publish("quiet", "number", "3").await;
    let score = due(&redis, "quiet").await.unwrap();
    assert!(score < QUIET, "{score}");
    until("the older event is trimmed", async || {
        let kept = server.history("quiet").await;
        (kept.len() == 1 && kept[0].data == "3").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_that_are_created_at_once_do_not_exceed_the_limit() {
    let redis = RedisServer::start().await;
    let flags = ["--channels-max", "20"];
    let nodes = [
        TestServer::node(&redis, &flags).await,
        TestServer::node(&redis, &flags).await,
    ];
    let statuses = all_at_once(0..80, async |number: usize| {
        let channel = format!("c{number}");
        let response = nodes[number % 2].try_publish(&channel, "click", "x").await;
        response.unwrap().status()
    });
    let statuses = statuses.await;
    let created = statuses.iter().filter(|status| **status == StatusCode::OK);
    let created = created.count() as u64;
    assert!(created > 0, "some are created");
    assert_eq!(redis.count_members("sse:channels:").await, created);
    assert_eq!(redis.count_members("sse:names").await, created);
    assert!(created <= 20, "{created} channels");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_channel_leaves_the_registry_and_a_tombstone() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &["--channels-max", "20"]).await;
    for round in 0..3 {
        server.publish("gone", "click", &round.to_string()).await;
        assert_eq!(redis.count_members("sse:channels:").await, 1);
        let deleted = server.http.delete(server.at("/channels/gone"));
        let status = deleted.send().await.unwrap().status();
        assert!(status.is_success(), "{status}");
        assert_eq!(redis.count_members("sse:channels:").await, 0);
        assert_eq!(redis.count_members("sse:names").await, 0);
        assert_eq!(redis.count_members("sse:tombstones:").await, 1);
    }
    let day = 24.0 * 60.0 * 60.0 * 1000.0;
    let score = due(&redis, "gone").await.unwrap();
    let now_ms: Vec<f64> = redis.command(redis::cmd("TIME")).await.unwrap();
    let left = score - now_ms[0] * 1000.0;
    assert!((day - 60_000.0..=day + 60_000.0).contains(&left), "{left}");
}
