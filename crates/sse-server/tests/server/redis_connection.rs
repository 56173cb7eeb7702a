//! Connections to Redis that became silent, were cut or lead nowhere: each is detected and
//! replaced.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::common::{Proxy, RedisServer, TestServer, all_at_once, refusal, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_notification_connection_is_detected_and_replaced() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::of_subscribers(redis.port()).await;
    // This timeout is much longer than the test waits, so only the check of the notification
    // connection itself can detect the failure.
    let server = TestServer::on(
        &["--redis-url", &proxy.redis_url()],
        &["--redis-timeout", "10m"],
    )
    .await;
    let mut subscriber = server.subscribe("/stream").await;
    until("the node has subscribed", async || {
        (proxy.subscribers() == 1).then_some(())
    })
    .await;
    for round in 1..=3 {
        proxy.silence();
        until("the node has subscribed again", async || {
            (proxy.subscribers() > round).then_some(())
        })
        .await;
        let data = format!("after {round}");
        server.publish("sse", "click", &data).await;
        assert_eq!(subscriber.next_event().await.data, data);
    }
    let lines = server
        .log()
        .matches("the pub/sub connection to Redis broke")
        .count();
    assert!((1..=3).contains(&lines), "{}", server.log());
    // Only this connection broke, so nothing else reports its end.
    until("the end of the outage is logged", async || {
        let line =
            "INFO sse_server::broker::redis::pubsub: the pub/sub connection to Redis works again";
        server.log().contains(line).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_at_info_reports_that_redis_is_back_after_each_outage() {
    let mut redis = RedisServer::start().await;
    let levels = "info,sse_server::broker::redis::pubsub=debug";
    let flags = ["--redis-timeout", "500ms", "--log", levels];
    let server = TestServer::node(&redis, &flags).await;
    let mut subscriber = server.subscribe("/stream").await;
    server.publish("sse", "click", "before").await;
    assert_eq!(subscriber.next_event().await.data, "before");
    let count = |line: &str| server.log().matches(line).count();
    let lines = [
        "the connection to Redis broke",
        "Redis is back",
        "the pub/sub connection to Redis broke",
        "the pub/sub connection to Redis works again",
    ];
    for outage in 1..=2 {
        redis.kill();
        until("both connections are reported as broken", async || {
            (count(lines[0]) == outage && count(lines[2]) == outage).then_some(())
        })
        .await;
        // Several attempts to connect fail, each of which must be silent.
        until("a publish fails", async || {
            let response = server.try_publish("sse", "click", "x").await.ok()?;
            (response.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
        })
        .await;
        redis.restart().await;
        until("both connections are reported as back", async || {
            (count(lines[1]) >= outage && count(lines[3]) >= outage).then_some(())
        })
        .await;
        let data = format!("after outage {outage}");
        server.publish("sse", "click", &data).await;
        while subscriber.next_event().await.data != data {}
        assert_eq!(lines.map(count), [outage; 4], "{}", server.log());
        let log = server.log();
        let recoveries = log
            .lines()
            .filter(|line| lines[1..].iter().any(|back| line.contains(back)));
        let at_info = recoveries.filter(|line| line.contains(" INFO ")).count();
        assert_eq!(at_info, outage, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_channels_are_subscribed_again_after_a_cut() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let (server, other) = (
        TestServer::on(&["--redis-url", &proxy.redis_url()], &[]).await,
        TestServer::node(&redis, &[]).await,
    );
    // More channels than one SUBSCRIBE command contains (`BATCH` in `subscriptions.rs`).
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
async fn an_unreachable_redis_is_a_503_within_the_time_out_for_any_number_of_clients() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let server = TestServer::on(
        &["--redis-url", &proxy.redis_url()],
        &["--redis-timeout", "500ms"],
    )
    .await;
    server.publish("sse", "click", "first").await;
    // First, connections are accepted but nothing answers; then nothing listens on the port.
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
            // A connection that is found to be silent is replaced, and then publishing works.
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
    until("publishing works again", async || {
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
async fn the_first_publish_to_a_channel_has_one_time_out_for_all_its_commands() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let server = TestServer::on(
        &["--redis-url", &proxy.redis_url()],
        &["--redis-timeout", "5s"],
    )
    .await;
    server.publish("known", "click", "first").await;
    // One answer arrives within the timeout, but two in a row do not.
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
    let later = until("publishing works again", async || {
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
async fn a_first_publish_to_a_channel_on_a_frozen_redis_is_certainly_not_stored() {
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
    until("publishing works again", async || {
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

/// The value of one line of `INFO`.
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
async fn a_primary_that_gets_its_first_replica_is_checked_without_breaking_a_connection() {
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
    until("the primary has a new replication id", async || {
        (info(&redis, "replication", "master_replid:").await != history).then_some(())
    })
    .await;
    until("the node checks for lost events", async || {
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
