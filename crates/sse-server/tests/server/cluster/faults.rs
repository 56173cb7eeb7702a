//! Slots that move, primaries that fail, and shards that are away, under publishing.

use reqwest::StatusCode;
use serde_json::Value;

use super::node;
use crate::{
    common::{TestServer, redis_cluster::RedisCluster, refusal, until},
    sentinel::{Load, received_until},
};

async fn publish_when_possible(server: &TestServer, channel: &str, data: &str) {
    until("publishing works", async || {
        let response = server.try_publish(channel, "click", data).await.ok()?;
        response.status().is_success().then_some(())
    })
    .await;
}

/// The codes of the warnings of a node that is ready.
async fn warnings(server: &TestServer) -> Vec<String> {
    let response = server.get("/health/ready").await.unwrap();
    let body: Value = response.json().await.unwrap();
    let warnings = body["warnings"].as_array().cloned().unwrap_or_default();
    warnings
        .iter()
        .map(|warning| warning["code"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_under_publishing_loses_and_duplicates_nothing() {
    let cluster = RedisCluster::start().await;
    let nodes = [node(&cluster, &[]).await, node(&cluster, &[]).await];
    let channel = &cluster.channels().await[0];
    nodes[0].publish(channel, "click", "first").await;
    let mut subscriber = nodes[1]
        .subscribe(&format!("/stream?channel={channel}"))
        .await;
    let load = Load::start_in(&nodes, channel);
    load.until_acknowledged(100).await;
    for way in [[0, 1], [1, 2], [2, 0]] {
        cluster.begin_move(channel, way).await;
        // Events are published to a slot that is about to move, before and after its keys have moved.
        load.until_acknowledged(load.acknowledged() + 20).await;
        while cluster.move_keys(channel, way, 1).await > 0 {}
        load.until_acknowledged(load.acknowledged() + 20).await;
        cluster.end_move(channel, way).await;
        load.until_acknowledged(load.acknowledged() + 50).await;
    }
    let outcomes = load.stop().await;
    nodes[0]
        .publish(channel, "click", "the moves are over")
        .await;
    let (mut received, gaps) = received_until(&mut subscriber, "the moves are over").await;
    assert_eq!(
        (gaps, outcomes.unknown),
        (0, 0),
        "{}{}",
        nodes[0].log(),
        nodes[1].log()
    );
    outcomes.assert_all_in(&received);
    let count = received.len();
    received.sort_unstable();
    received.dedup();
    assert_eq!(received.len(), count, "events arrived twice");
    for node in &nodes {
        assert!(node.metric("sse_failover_losses_total").await.abs() < f64::EPSILON);
    }
    assert!(redirections(&nodes[0]).await > 0.0);
}

/// How many commands of a node were sent elsewhere, at all primaries.
async fn redirections(node: &TestServer) -> f64 {
    let text = node.get("/metrics").await.unwrap().text().await.unwrap();
    let counts = text.lines().filter_map(|line| {
        let is_count = line.starts_with("sse_redis_moved_total{")
            || line.starts_with("sse_redis_asked_total{");
        line.rsplit_once(' ')
            .filter(|_| is_count)?
            .1
            .parse::<f64>()
            .ok()
    });
    counts.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_primary_takes_over_and_every_loss_is_reported() {
    let mut cluster = RedisCluster::start_with_replicas().await;
    let nodes = [node(&cluster, &[]).await, node(&cluster, &[]).await];
    let channels = cluster.channels().await;
    a_planned_failover_loses_nothing(&cluster, &nodes, &channels[0]).await;
    a_killed_primary_costs_at_most_a_reported_gap(&mut cluster, &nodes, &channels[1]).await;
}

async fn a_planned_failover_loses_nothing(
    cluster: &RedisCluster,
    nodes: &[TestServer; 2],
    channel: &str,
) {
    nodes[0].publish(channel, "click", "first").await;
    let mut subscriber = nodes[1]
        .subscribe(&format!("/stream?channel={channel}"))
        .await;
    let load = Load::start_in(nodes, channel);
    load.until_acknowledged(100).await;
    cluster.fail_over(0).await;
    cluster.until_promoted(0).await;
    load.until_acknowledged(load.acknowledged() + 100).await;
    let outcomes = load.stop().await;
    publish_when_possible(&nodes[0], channel, "planned is over").await;
    let (received, gaps) = received_until(&mut subscriber, "planned is over").await;
    assert_eq!(
        (gaps, outcomes.unknown),
        (0, 0),
        "{}{}",
        nodes[0].log(),
        nodes[1].log()
    );
    outcomes.assert_all_in(&received);
}

async fn a_killed_primary_costs_at_most_a_reported_gap(
    cluster: &mut RedisCluster,
    nodes: &[TestServer; 2],
    channel: &str,
) {
    nodes[0].publish(channel, "click", "first").await;
    let mut subscriber = nodes[1]
        .subscribe(&format!("/stream?channel={channel}"))
        .await;
    let load = Load::start_in(nodes, channel);
    load.until_acknowledged(100).await;
    cluster.nodes[1].kill();
    cluster.until_promoted(1).await;
    load.until_acknowledged(load.acknowledged() + 100).await;
    let outcomes = load.stop().await;
    publish_when_possible(&nodes[0], channel, "the kill is over").await;
    let (received, gaps) = received_until(&mut subscriber, "the kill is over").await;
    if gaps == 0 {
        outcomes.assert_all_in(&received);
    }
    assert!(received.len() >= 200, "{}", received.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_away_concerns_only_its_own_channels() {
    let mut cluster = RedisCluster::start().await;
    let node = node(&cluster, &["--redis-timeout", "1s"]).await;
    let channels = cluster.channels().await;
    for channel in &channels {
        node.publish(channel, "click", "before").await;
    }
    let mut away = node
        .subscribe(&format!("/stream?channel={}", channels[2]))
        .await;
    assert!(
        !warnings(&node)
            .await
            .contains(&"shards_unavailable".to_owned())
    );
    cluster.nodes[2].kill();
    until("the health names the shard", async || {
        let codes = warnings(&node).await;
        codes
            .contains(&"shards_unavailable".to_owned())
            .then_some(())
    })
    .await;
    let response = node.get("/health/ready").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    for channel in &channels[..2] {
        node.publish(channel, "click", "meanwhile").await;
        let history = node.history(channel).await;
        assert_eq!(history.last().unwrap().data, "meanwhile");
    }
    let response = node
        .try_publish(&channels[2], "click", "lost")
        .await
        .unwrap();
    refusal(
        response,
        StatusCode::SERVICE_UNAVAILABLE,
        "broker_unavailable",
    )
    .await;
    cluster.nodes[2].restart().await;
    publish_when_possible(&node, &channels[2], "after").await;
    assert_eq!(away.next_event().await.data, "after");
    until("the health has no warning about a shard", async || {
        let codes = warnings(&node).await;
        (!codes.contains(&"shards_unavailable".to_owned())).then_some(())
    })
    .await;
}
