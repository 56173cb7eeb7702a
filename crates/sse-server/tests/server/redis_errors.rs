//! A Redis that answers with an error: it is full, demoted or speaks another protocol. No such
//! answer becomes a 500, and the server recovers by itself.

use reqwest::{Response, StatusCode};

use crate::common::{RedisServer, TestServer, free_port, logged_cause, refusal, until};

/// A publish of each kind: one event, a batch of one, a batch of many, the first event of a
/// channel, and one with a key.
async fn publishes(server: &TestServer) -> Vec<Response> {
    let line = r#"{"event":"click","data":"x"}"#;
    let keyed = server
        .http
        .post(server.at("/event/click"))
        .header("content-type", "text/plain")
        .body("x");
    let keyed = keyed.header("idempotency-key", uuid::Uuid::new_v4().to_string());
    vec![
        keyed.send().await.unwrap(),
        server.try_publish("sse", "click", "x").await.unwrap(),
        server
            .try_publish_batch("sse", line.to_owned())
            .await
            .unwrap(),
        server
            .try_publish_batch("sse", [line; 100].join("\n"))
            .await
            .unwrap(),
        server.try_publish("new", "click", "x").await.unwrap(),
        server
            .try_publish_batch("new", [line; 100].join("\n"))
            .await
            .unwrap(),
    ]
}

async fn until_publishing_works(server: &TestServer) {
    until("publishing works again", async || {
        let response = server.try_publish("sse", "click", "again").await.unwrap();
        response.status().is_success().then_some(())
    })
    .await;
    until("ready", async || {
        server
            .get("/health/ready")
            .await
            .unwrap()
            .status()
            .is_success()
            .then_some(())
    })
    .await;
    for response in publishes(server).await {
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_at_its_maxmemory_is_a_full_log_until_memory_is_free() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    let mut subscriber = server.subscribe("/stream").await;
    server.publish("sse", "click", "before").await;
    redis.run("CONFIG SET maxmemory-policy noeviction").await;
    redis.run("CONFIG SET maxmemory 1").await;
    for response in publishes(&server).await {
        let message = refusal(response, StatusCode::INSUFFICIENT_STORAGE, "log_full").await;
        let cause = logged_cause(&server, &message).await;
        assert!(
            cause.len() < 600 && cause.contains("maxmemory") && !message.contains("maxmemory"),
            "{message}: {cause}"
        );
    }
    let ready = server.get("/health/ready").await.unwrap();
    refusal(ready, StatusCode::INSUFFICIENT_STORAGE, "log_full").await;
    redis.run("CONFIG SET maxmemory 0").await;
    until_publishing_works(&server).await;
    assert_eq!(subscriber.take_data(2).await, ["before", "again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_in_a_full_redis_can_be_read() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    server.publish_numbers("sse", 0..3).await;
    let first = server.history("sse").await[0].id.clone();
    redis.run("CONFIG SET maxmemory 1").await;
    let read = server.get("/events").await.unwrap();
    assert_eq!(
        read.status(),
        StatusCode::OK,
        "{}",
        read.text().await.unwrap()
    );
    let mut subscriber = server.subscribe_after("/stream", Some(&first)).await;
    assert_eq!(subscriber.take_data(2).await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_expire_in_a_full_redis_and_an_empty_one_delays_no_other() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    for (channel, ttl) in [("empty", "1ms"), ("sse", "1s")] {
        let put = server.http.put(server.at(&format!("/channels/{channel}")));
        let put = put.header("content-type", "application/json");
        let put = put.body(format!(r#"{{"ttl":"{ttl}"}}"#));
        assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    }
    server.publish_numbers("sse", 0..3).await;
    redis.run("CONFIG SET maxmemory-policy noeviction").await;
    redis.run("CONFIG SET maxmemory 1").await;
    until("the channel is trimmed", async || {
        let events = server.history("sse").await;
        events.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_became_a_replica_is_a_503_until_it_is_promoted() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    let mut subscriber = server.subscribe("/stream").await;
    server.publish("sse", "click", "before").await;
    redis
        .run(&format!("REPLICAOF 127.0.0.1 {}", free_port()))
        .await;
    for response in publishes(&server).await {
        let message = refusal(
            response,
            StatusCode::SERVICE_UNAVAILABLE,
            "broker_unavailable",
        )
        .await;
        let cause = logged_cause(&server, &message).await;
        assert!(
            cause.len() < 600 && cause.contains("READONLY") && !message.contains("READONLY"),
            "{message}: {cause}"
        );
    }
    let ready = server.get("/health/ready").await.unwrap();
    refusal(ready, StatusCode::SERVICE_UNAVAILABLE, "broker_unavailable").await;
    assert_eq!(server.history("sse").await.len(), 1);
    redis.run("REPLICAOF NO ONE").await;
    until_publishing_works(&server).await;
    assert_eq!(subscriber.take_data(2).await, ["before", "again"]);
    let count = |line: &str| server.log().matches(line).count();
    until("the end of each outage is logged once", async || {
        let outages = count("the connection to Redis broke");
        (outages > 0 && count("Redis is back") == outages).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_speaks_resp3_works_like_any_other() {
    let redis = RedisServer::start().await;
    let url = format!("{}?protocol=resp3", redis.url());
    let server = TestServer::on(
        &["--redis-url", &url],
        &["--history-events", "100", "--history-age", "1h"],
    )
    .await;
    let mut subscriber = server.subscribe("/stream").await;
    let first = server.publish("sse", "click", "first").await;
    server.publish_numbers("sse", 0..50).await;
    let expected: Vec<String> = std::iter::once("first".to_owned())
        .chain((0..50).map(|number| number.to_string()))
        .collect();
    assert_eq!(subscriber.take_data(51).await, expected);
    let history: Vec<String> = server
        .history("sse")
        .await
        .into_iter()
        .map(|event| event.data)
        .collect();
    assert_eq!(history, expected);
    let mut resumed = server.subscribe_after("/stream", Some(&first)).await;
    assert_eq!(resumed.take_data(50).await, expected[1..]);
    let mut stranger = server.subscribe_after("/stream", Some("5-5")).await;
    assert_eq!(stranger.next_event().await.event, "gap");
    assert_eq!(
        server.get("/health/ready").await.unwrap().status(),
        StatusCode::OK
    );
    for start in (0..1000).step_by(100) {
        server.publish_numbers("busy", start..start + 100).await;
    }
    assert!(server.history("busy").await.len() <= 300);
    let keyed = async |data: &'static str| {
        let request = server
            .http
            .post(server.at("/event/click?channel=keyed"))
            .header("content-type", "text/plain");
        request
            .header("idempotency-key", "k")
            .body(data)
            .send()
            .await
            .unwrap()
    };
    let once = [
        keyed("x").await.text().await.unwrap(),
        keyed("x").await.text().await.unwrap(),
    ];
    assert!(once[0].contains("id") && once[0] == once[1], "{once:?}");
    refusal(
        keyed("y").await,
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
    )
    .await;
    redis.run("SET sse:{wrong} x").await;
    let wrong = server.try_publish("wrong", "click", "x").await.unwrap();
    let message = refusal(wrong, StatusCode::SERVICE_UNAVAILABLE, "broker_unavailable").await;
    let cause = logged_cause(&server, &message).await;
    assert!(
        cause.contains("WRONGTYPE") && !message.contains("WRONGTYPE"),
        "{message}: {cause}"
    );
}
