//! Crashes and outages: acknowledged events survive, and the server recovers by itself.

use std::{cell::RefCell, collections::BTreeSet};

use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Backend, RedisServer, TestServer, all_at_once, logged_cause, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_event_survives_kill_9_with_a_hundred_publishes_in_flight() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let mut server = TestServer::on_directory(&path, &[]).await;
    let mut acknowledged = BTreeSet::new();
    let mut sent = BTreeSet::new();
    for round in 0..20 {
        let answered = RefCell::new(0);
        let publishes = all_at_once(0..100, |number| {
            let (server, answered) = (&server, &answered);
            async move {
                let data = format!("{round}-{number}");
                let response = server.try_publish("sse", "click", &data).await.ok()?;
                let answer: Value = response.json().await.ok()?;
                *answered.borrow_mut() += 1;
                answer["id"].as_str().map(|id| (id.to_owned(), data))
            }
        });
        let pid = server.pid().to_string();
        let kill = async {
            // In each round the crash comes at another moment: after a different number of
            // responses.
            until("some answers", async || {
                (*answered.borrow() >= round * 4).then_some(())
            })
            .await;
            assert!(
                std::process::Command::new("kill")
                    .args(["-9", &pid])
                    .status()
                    .unwrap()
                    .success()
            );
        };
        let (outcomes, ()) = futures::future::join(publishes, kill).await;
        acknowledged.extend(outcomes.into_iter().flatten());
        sent.extend((0..100).map(|number| format!("{round}-{number}")));
        server.child().wait().unwrap();
        server.restart().await;
        let stored: BTreeSet<(String, String)> = server
            .history("sse")
            .await
            .into_iter()
            .map(|event| (event.id, event.data))
            .collect();
        assert!(
            acknowledged.is_subset(&stored),
            "lost: {:?}",
            acknowledged.difference(&stored).collect::<Vec<_>>()
        );
        assert!(stored.iter().all(|(_, data)| sent.contains(data)));
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_resumes_after_kill_9_of_its_server() {
    let mut server = TestServer::start(Backend::Embedded).await;
    let mut last = server.subscribe("/stream").await.last_event_id;
    for round in 0..5 {
        let mut subscriber = server.subscribe_after("/stream", Some(&last)).await;
        for number in 0..10 {
            server
                .publish("sse", "click", &format!("{round} {number}"))
                .await;
        }
        for number in 0..5 {
            assert_eq!(
                subscriber.next_event().await.data,
                format!("{round} {number}")
            );
        }
        last = subscriber.last_event_id.clone();
        server.kill_and_restart().await;
        let mut again = server.subscribe_after("/stream", Some(&last)).await;
        for number in 5..10 {
            assert_eq!(again.next_event().await.data, format!("{round} {number}"));
        }
        last = again.last_event_id.clone();
    }
}

#[tokio::test]
async fn a_log_in_memory_does_not_accept_an_id_from_before_its_restart() {
    let mut server = TestServer::start(Backend::Memory).await;
    let opening = server.subscribe("/stream").await.last_event_id;
    let old = server.publish("sse", "click", "old").await;
    server.kill_and_restart().await;
    server.publish("sse", "click", "new").await;
    for id in [opening, old] {
        let mut subscriber = server.subscribe_after("/stream", Some(&id)).await;
        assert_eq!(subscriber.next_event().await.event, "gap", "after {id}");
        assert_eq!(subscriber.next_event().await.data, "new");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_on_one_redis_share_one_log() {
    let redis = RedisServer::start().await;
    let (one, two) = (
        TestServer::node(&redis, &[]).await,
        TestServer::node(&redis, &[]).await,
    );
    let mut on_one = one.subscribe("/stream").await;
    let mut on_two = two.subscribe("/stream").await;
    for number in 0..40 {
        let node = if number % 2 == 0 { &one } else { &two };
        node.publish("sse", "number", &number.to_string()).await;
    }
    let expected: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    assert_eq!(on_one.take_data(20).await, expected[..20]);
    assert_eq!(on_two.take_data(40).await, expected);
    let mut hopped = two
        .subscribe_after("/stream", Some(&on_one.last_event_id))
        .await;
    assert_eq!(hopped.take_data(20).await, expected[20..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_outage_is_a_503_and_streams_continue_after_it() {
    let mut redis = RedisServer::start().await;
    let server = TestServer::node(
        &redis,
        &["--redis-timeout", "500ms", "--heartbeat", "100ms"],
    )
    .await;
    let mut before = server.subscribe("/stream").await;
    let first = server.publish("sse", "click", "first").await;
    assert_eq!(before.next_event().await.data, "first");
    redis.kill();

    let refused = until("publishing is rejected with certainty", async || {
        let response = server.try_publish("sse", "click", "lost").await.unwrap();
        let status = response.status();
        let retry_after = response.headers().get("retry-after").is_some();
        let answer: Value = response.json().await.unwrap();
        let code = answer["error"]["code"].as_str().unwrap().to_owned();
        assert_eq!(
            (status, retry_after),
            (StatusCode::SERVICE_UNAVAILABLE, true),
            "{answer}"
        );
        assert!(
            code == "broker_unavailable" || code == "outcome_unknown",
            "{answer}"
        );
        (code == "broker_unavailable").then_some(answer)
    })
    .await;
    let message = refused["error"]["message"].as_str().unwrap();
    let cause = logged_cause(&server, message).await;
    assert!(
        cause.contains("Redis") && !message.contains("Redis"),
        "{refused}: {cause}"
    );
    assert_eq!(
        server.get("/health/ready").await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        server.get("/health/live").await.unwrap().status(),
        StatusCode::OK
    );
    // An EventSource stops forever at any status other than 200.
    let mut during = server.subscribe("/stream").await;
    let mut resumed = server.subscribe_after("/stream", Some(&first)).await;
    // A heartbeat; it carries the position if the node knows one.
    assert!(during.next_block().await.ends_with(':'));

    redis.restart().await;
    until("ready again", async || {
        server
            .get("/health/ready")
            .await
            .unwrap()
            .status()
            .is_success()
            .then_some(())
    })
    .await;
    server.publish("sse", "click", "second").await;
    for subscriber in [&mut before, &mut during, &mut resumed] {
        assert_eq!(
            within("the stream continues", subscriber.next_event())
                .await
                .data,
            "second"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_redis_is_reported_to_every_subscriber() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    let mut subscriber = server.subscribe("/stream").await;
    server.publish_numbers("sse", 0..3).await;
    assert_eq!(subscriber.take_data(3).await, ["0", "1", "2"]);
    let () = redis.command(redis::cmd("FLUSHALL")).await.unwrap();
    server.publish("sse", "click", "new").await;
    assert_eq!(subscriber.next_event().await.event, "gap");
    assert_eq!(subscriber.next_event().await.data, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_notification_only_delays_events() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    let mut subscriber = server.subscribe("/stream").await;
    // Another program adds to the stream without a notification.
    let mut add = redis::cmd("XADD");
    add.arg("sse:{sse}")
        .arg("*")
        .arg(&["event", "click", "data", "quiet", "unknown", "field"]);
    let _: String = redis.command(add).await.unwrap();
    assert_eq!(
        within("the periodic check", subscriber.next_event())
            .await
            .data,
        "quiet"
    );
    // The connection for notifications is cut, and the node subscribes again.
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("pubsub");
    let _: u64 = redis.command(kill).await.unwrap();
    for number in 0..5 {
        server.publish("sse", "click", &number.to_string()).await;
    }
    assert_eq!(subscriber.take_data(5).await, ["0", "1", "2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_gives_an_unknown_outcome_in_time() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &["--redis-timeout", "300ms"]).await;
    server.publish("sse", "click", "first").await;
    let mut pause = redis::cmd("CLIENT");
    pause.arg("PAUSE").arg(3_000).arg("ALL");
    let _: String = redis.command(pause).await.unwrap();
    let response = server.try_publish("sse", "click", "perhaps").await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "outcome_unknown", "{answer}");
    until("publishing works again", async || {
        let response = server.try_publish("sse", "click", "later").await.ok()?;
        response.status().is_success().then_some(())
    })
    .await;
    let data: Vec<String> = server
        .history("sse")
        .await
        .into_iter()
        .map(|event| event.data)
        .collect();
    assert!(
        data.iter().filter(|data| *data == "perhaps").count() <= 1,
        "{data:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_before_its_redis_waits_for_it() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let server = TestServer::node(&redis, &["--redis-timeout", "1s"]).await;
    let mut early = server.subscribe("/stream").await;
    assert!(
        server.log().contains("Redis is not reachable yet"),
        "{}",
        server.log()
    );
    redis.restart().await;
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
    server.publish("sse", "click", "x").await;
    assert_eq!(early.next_event().await.data, "x");
    until("the end of the outage is logged", async || {
        server.log().contains("Redis is back").then_some(())
    })
    .await;
    assert_eq!(server.log().matches("Redis is back").count(), 1);
}
