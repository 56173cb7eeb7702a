//! The lines to a Redis: one that went silent, one that is cut, one that leads nowhere. Each is found and made anew.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::common::{Proxy, RedisServer, TestServer, all_at_once, refusal, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_line_for_wake_ups_is_found_and_made_anew() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::of_subscribers(redis.port()).await;
    // Much longer than this test waits: only the watch over that line itself can find it.
    let server = TestServer::on(
        &["--redis-url", &proxy.redis_url()],
        &["--redis-timeout", "10m"],
    )
    .await;
    let mut subscriber = server.subscribe("/stream").await;
    until("it has subscribed", async || {
        (proxy.subscribers() == 1).then_some(())
    })
    .await;
    for round in 1..=3 {
        proxy.silence();
        until("it has subscribed again", async || {
            (proxy.subscribers() > round).then_some(())
        })
        .await;
        let data = format!("after {round}");
        server.publish("sse", "click", &data).await;
        assert_eq!(subscriber.next_event().await.data, data);
    }
    let said = server
        .log()
        .matches("the connection for wake-ups from Redis broke")
        .count();
    assert!((1..=3).contains(&said), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_channels_are_heard_again_after_a_cut() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let (server, other) = (
        TestServer::on(&["--redis-url", &proxy.redis_url()], &[]).await,
        TestServer::node(&redis, &[]).await,
    );
    // More than are subscribed to at once.
    let channels: Vec<String> = (0..300).map(|number| format!("c{number}")).collect();
    let mut subscribers = all_at_once(&channels, async |channel| {
        server
            .subscribe(&format!("/stream?channel={channel}"))
            .await
    })
    .await;
    for round in 0..2 {
        all_at_once(&channels, |channel| {
            other.publish(channel, "click", if round == 0 { "0" } else { "1" })
        })
        .await;
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.next_event().await.data, round.to_string());
        }
        proxy.switch(redis.port());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_is_a_503_within_the_time_out_however_many_ask() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let server = TestServer::on(
        &["--redis-url", &proxy.redis_url()],
        &["--redis-timeout", "500ms"],
    )
    .await;
    server.publish("sse", "click", "first").await;
    // Connections are accepted, and nothing answers; then nobody listens there at all.
    for target in ["silent", "closed"] {
        match target {
            "silent" => proxy.silence(),
            _ => proxy.switch(crate::common::free_port()),
        }
        let http = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(50))
            .build()
            .unwrap();
        let answers = all_at_once(0..200, |number| {
            let request = http
                .post(server.at("/event/click"))
                .body(format!("{number}"));
            async {
                request
                    .header("content-type", "text/plain")
                    .send()
                    .await
                    .unwrap()
            }
        });
        for answer in within("every publish is answered", answers).await {
            let status = answer.status();
            // A line that is found to be silent is made anew, and then it works.
            if target == "silent" && status.is_success() {
                continue;
            }
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            let body: Value = answer.json().await.unwrap();
            let code = body["error"]["code"].as_str().unwrap();
            assert!(
                ["broker_unavailable", "outcome_unknown"].contains(&code),
                "{body}"
            );
        }
    }
    let last = server.try_publish("sse", "click", "x").await.unwrap();
    refusal(last, StatusCode::SERVICE_UNAVAILABLE, "broker_unavailable").await;
    proxy.switch(redis.port());
    until("it works again", async || {
        server
            .try_publish("sse", "click", "again")
            .await
            .unwrap()
            .status()
            .is_success()
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_publish_to_a_channel_has_one_time_out_for_all_that_it_asks() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let server = TestServer::on(
        &["--redis-url", &proxy.redis_url()],
        &["--redis-timeout", "5s"],
    )
    .await;
    server.publish("known", "click", "first").await;
    // Each answer is in time, and two are not.
    proxy.delay(Duration::from_secs(3));
    let (known, new) = tokio::join!(
        server.try_publish("known", "click", "x"),
        server.try_publish("new", "click", "x")
    );
    assert_eq!(known.unwrap().status(), StatusCode::OK);
    refusal(
        new.unwrap(),
        StatusCode::SERVICE_UNAVAILABLE,
        "broker_unavailable",
    )
    .await;
    proxy.delay(Duration::ZERO);
    let later = until("it works again", async || {
        let response = server.try_publish("new", "click", "later").await.unwrap();
        response.status().is_success().then_some(response)
    });
    let later: Value = later.await.json().await.unwrap();
    let kept = server.history("new").await;
    assert_eq!(
        kept.iter()
            .map(|event| event.id.as_str())
            .collect::<Vec<_>>(),
        [later["id"].as_str().unwrap()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_freezes_before_the_first_publish_to_a_channel_has_surely_not_stored_it() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &["--redis-timeout", "1s"]).await;
    server.publish("sse", "click", "first").await;
    let signal = |name: &str| {
        let kill = std::process::Command::new("kill")
            .args([name, &redis.pid().to_string()])
            .status();
        assert!(kill.expect("kill").success());
    };
    signal("-STOP");
    let response = server.try_publish("new", "click", "x").await.unwrap();
    refusal(
        response,
        StatusCode::SERVICE_UNAVAILABLE,
        "broker_unavailable",
    )
    .await;
    signal("-CONT");
    until("it works again", async || {
        server
            .try_publish("sse", "click", "later")
            .await
            .unwrap()
            .status()
            .is_success()
            .then_some(())
    })
    .await;
    assert_eq!(redis.run("EXISTS sse:{new}").await, redis::Value::Int(0));
}

/// A line of an `INFO`.
async fn info(redis: &RedisServer, section: &str, name: &str) -> String {
    let text: String = redis
        .command(redis::cmd("INFO").arg(section).to_owned())
        .await
        .unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_gets_its_first_replica_is_looked_at_and_no_connection_is_broken() {
    let redis =
        RedisServer::start_with(&["--appendonly", "yes", "--repl-diskless-sync-delay", "0"]).await;
    let server = TestServer::node(&redis, &[]).await;
    server.publish("sse", "click", "first").await;
    let history = info(&redis, "replication", "master_replid:").await;
    let scripts = info(&redis, "commandstats", "cmdstat_evalsha:").await;
    let replica = RedisServer::start().await;
    replica
        .run(&format!("REPLICAOF 127.0.0.1 {}", redis.port()))
        .await;
    until("the primary begins another history", async || {
        (info(&redis, "replication", "master_replid:").await != history).then_some(())
    })
    .await;
    until("the node looks whether all is there", async || {
        (info(&redis, "commandstats", "cmdstat_evalsha:").await != scripts).then_some(())
    })
    .await;
    server.publish("sse", "click", "second").await;
    assert!(
        !server.log().contains("connection to Redis broke"),
        "{}",
        server.log()
    );
    assert!(server.metric("sse_gap_records_total").await.abs() < f64::EPSILON);
}
