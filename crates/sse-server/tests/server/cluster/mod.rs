//! A real Redis Cluster of three primaries: channels of all of them work, slots move and primaries
//! change without a loss that is not reported, and a shard that is away concerns only its own channels.

mod copied;
mod faults;

use reqwest::StatusCode;
use serde_json::Value;

use crate::common::{TestServer, redis_cluster::RedisCluster, until};

pub(super) async fn node(cluster: &RedisCluster, flags: &[&str]) -> TestServer {
    TestServer::on(&["--redis-url", &cluster.url()], flags).await
}

async fn json(server: &TestServer, path: &str) -> Value {
    let response = server.get(path).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    response.json().await.unwrap()
}

/// One cluster for all cases, because it takes seconds to start.
#[tokio::test(flavor = "multi_thread")]
async fn channels_of_every_primary_behave_as_on_one_redis() {
    let cluster = RedisCluster::start().await;
    let nodes = [node(&cluster, &[]).await, node(&cluster, &[]).await];
    events_are_streamed_and_replayed_at_another_node(&cluster, &nodes).await;
    a_key_is_known_at_another_node(&cluster, &nodes).await;
    a_stream_of_channels_of_all_primaries_gets_all_of_them(&cluster, &nodes).await;
    a_list_has_the_channels_of_all_primaries_in_order(&cluster, &nodes).await;
    a_channel_is_closed_and_deleted(&cluster, &nodes).await;
}

async fn events_are_streamed_and_replayed_at_another_node(
    cluster: &RedisCluster,
    nodes: &[TestServer; 2],
) {
    for channel in cluster.channels().await {
        let path = format!("/stream?channel={channel}");
        nodes[0].publish(&channel, "click", "old").await;
        let mut stream = nodes[1].subscribe(&path).await;
        let first = nodes[0].publish(&channel, "click", "1").await;
        nodes[0].publish_numbers(&channel, 2..4).await;
        for data in ["1", "2", "3"] {
            assert_eq!(stream.next_event().await.data, data);
        }
        let mut resumed = nodes[0].subscribe_after(&path, Some(&first)).await;
        for data in ["2", "3"] {
            assert_eq!(resumed.next_event().await.data, data);
        }
        let history = nodes[1].history(&channel).await;
        let data: Vec<&str> = history.iter().map(|event| &*event.data).collect();
        assert_eq!(data, ["old", "1", "2", "3"]);
    }
}

async fn a_key_is_known_at_another_node(cluster: &RedisCluster, nodes: &[TestServer; 2]) {
    for channel in cluster.channels().await {
        let publish = async |node: &TestServer| {
            let url = node.at(&format!("/event/click?channel={channel}"));
            let request = node.http.post(url).header("idempotency-key", "\"one\"");
            let request = request.header("content-type", "text/plain");
            let response = request.body("once").send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let body: Value = response.json().await.unwrap();
            body["id"].as_str().unwrap().to_owned()
        };
        assert_eq!(publish(&nodes[0]).await, publish(&nodes[1]).await);
    }
}

async fn a_stream_of_channels_of_all_primaries_gets_all_of_them(
    cluster: &RedisCluster,
    nodes: &[TestServer; 2],
) {
    let channels = cluster.channels().await;
    let names: Vec<_> = channels
        .iter()
        .map(|name| format!("channel={name}"))
        .collect();
    let path = format!("/stream?{}", names.join("&"));
    let mut stream = nodes[1].subscribe(&path).await;
    for channel in &channels {
        nodes[0].publish(channel, "click", channel).await;
        assert_eq!(stream.next_event().await.data, *channel);
    }
}

async fn a_list_has_the_channels_of_all_primaries_in_order(
    cluster: &RedisCluster,
    nodes: &[TestServer; 2],
) {
    let listed = json(&nodes[0], "/channels?limit=1000").await;
    let listed = listed["channels"].as_array().unwrap();
    let names: Vec<&str> = listed
        .iter()
        .map(|channel| channel["channel"].as_str().unwrap())
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    for channel in cluster.channels().await {
        assert!(names.contains(&&*channel), "{channel} {names:?}");
    }
}

async fn a_channel_is_closed_and_deleted(cluster: &RedisCluster, nodes: &[TestServer; 2]) {
    for channel in cluster.channels().await {
        let mut stream = nodes[1]
            .subscribe(&format!("/stream?channel={channel}"))
            .await;
        let url = nodes[0].at(&format!("/channels/{channel}/close"));
        let reason = serde_json::json!({"reason": "completed"});
        let request = nodes[0].http.post(url).json(&reason);
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
        assert_eq!(stream.next_event().await.event, "end");
        stream.ended().await;
        let refused = nodes[1].try_publish(&channel, "click", "x").await.unwrap();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        let url = nodes[1].at(&format!("/channels/{channel}"));
        let response = nodes[1].http.delete(url).send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
        until("a new channel of the name takes events", async || {
            let response = nodes[0]
                .try_publish(&channel, "click", "new")
                .await
                .unwrap();
            response.status().is_success().then_some(())
        })
        .await;
    }
}
