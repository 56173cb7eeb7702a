//! Trimming during reads never removes an unseen event without a gap.

use std::{cell::Cell, collections::HashMap};

use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Backend, RedisServer, TestServer, logged_cause, refusal, until};

/// Publishes numbered events in batches as fast as it can.
async fn publish_batches(server: &TestServer, batches: usize, events: usize, padding: &str) {
    for batch in 0..batches {
        let line = |number: usize| format!(r#"{{"event":"number","data":"{number} {padding}"}}"#);
        let lines: Vec<String> = (batch * events..(batch + 1) * events).map(line).collect();
        let response = server
            .try_publish_batch("sse", lines.join("\n"))
            .await
            .expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
    }
}

/// Reads page after page until `done` is set and everything is read. Checks that all numbers come
/// in order, or that a gap reports missing ones. Returns the gaps, and the number of responses that
/// ended early.
async fn read_pages(
    server: &TestServer,
    start: String,
    done: &Cell<bool>,
    end: usize,
) -> (usize, usize) {
    let (mut next, mut expected, mut gaps, mut cut) = (start, 0, 0, 0);
    loop {
        let was_done = done.get();
        let answer = server
            .get(&format!("/events?limit=10000&last_event_id={next}"))
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.expect("JSON");
        let gap = !answer["gap"].is_null();
        gaps += usize::from(gap);
        let events = answer["events"].as_array().expect("events");
        for (nth, event) in events.iter().enumerate() {
            let data = event["data"].as_str().expect("text");
            let number: usize = data
                .split(' ')
                .next()
                .and_then(|number| number.parse().ok())
                .expect("a number");
            let may_jump = gap && nth == 0;
            assert!(
                number == expected || (may_jump && number > expected),
                "{number} instead of {expected}"
            );
            expected = number + 1;
        }
        answer["next"]
            .as_str()
            .expect("a cursor")
            .clone_into(&mut next);
        if answer["more"] == true {
            let bytes: usize = events
                .iter()
                .map(|event| event["data"].as_str().expect("text").len())
                .sum();
            cut += usize::from(bytes < 3 << 20);
        } else if was_done {
            assert_eq!(
                expected, end,
                "a response ended early but did not report more events"
            );
            return (gaps, cut);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_history_have_no_hole_during_trimming() {
    // A response takes several pages of the log, and the log keeps fewer events than a few batches
    // have.
    for (backend, batches, events, padding) in [
        (Backend::Redis, 25, 3000, 10),
        (Backend::Embedded, 25, 12, 400_000),
        (Backend::Memory, 25, 12, 400_000),
    ] {
        let kept = events.to_string();
        let server = TestServer::start_with(backend, &["--history-events", &kept]).await;
        let start = server.subscribe("/stream").await.last_event_id;
        let done = Cell::new(false);
        let padding = "x".repeat(padding);
        let publish = async {
            publish_batches(&server, batches, events, &padding).await;
            done.set(true);
        };
        let ((), (gaps, cut)) =
            futures::future::join(publish, read_pages(&server, start, &done, batches * events))
                .await;
        println!("{backend:?}: {gaps} gaps, {cut} answers cut short");
        assert!(
            gaps > 0,
            "{backend:?}: nothing was trimmed during the reads"
        );
    }
}

/// Waits for this number of rounds of trimming by age over all channels.
async fn rounds_of_upkeep(server: &TestServer, rounds: usize) {
    for round in 0..rounds {
        let channel = format!("zz-upkeep-{round}");
        server.publish_numbers(&channel, 0..20).await;
        until("a round of trimming", async || {
            (server.history(&channel).await.len() == 1).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_of_a_quiet_channel_never_gets_a_false_gap() {
    let server = TestServer::start_with(Backend::Redis, &["--history-age", "200ms"]).await;
    let mut on_empty = server.subscribe("/stream?channel=empty").await;
    let mut on_quiet = server.subscribe("/stream?channel=quiet").await;
    server.publish_numbers("quiet", 0..20).await;
    on_quiet.take_data(20).await;
    let last = on_quiet.last_event_id.clone();
    rounds_of_upkeep(&server, 4).await;
    let mut returned = server
        .subscribe_after("/stream?channel=quiet", Some(&last))
        .await;
    server.publish("quiet", "number", "20").await;
    server.publish("empty", "number", "0").await;
    assert_eq!(on_quiet.next_event().await.data, "20");
    assert_eq!(returned.next_event().await.data, "20");
    assert_eq!(on_empty.next_event().await.data, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_of_the_newest_trimmed_event_gets_no_gap() {
    let redis = RedisServer::start().await;
    let flags = ["--history-age", "200ms"];
    let (sleeper, awake) = (
        TestServer::node(&redis, &flags).await,
        TestServer::node(&redis, &flags).await,
    );
    let mut subscriber = sleeper.subscribe("/stream").await;
    let old = awake.publish("sse", "number", "old").await;
    assert_eq!(subscriber.next_event().await.data, "old");
    // The next event is appended and the old one trimmed before the node reads.
    sleeper.signal("STOP");
    redis.end_leases().await;
    awake.publish("sse", "number", "new").await;
    until("the old event is trimmed", async || {
        (redis.run("XLEN sse:{sse}").await == redis::Value::Int(1)).then_some(())
    })
    .await;
    sleeper.signal("CONT");
    assert_eq!(subscriber.next_event().await.data, "new");
    let mut returned = awake.subscribe_after("/stream", Some(&old)).await;
    assert_eq!(returned.next_event().await.data, "new");

    // The mark proves nothing once the next event is trimmed as well.
    awake.publish("sse", "number", "newer").await;
    redis.run("XTRIM sse:{sse} MAXLEN 1").await;
    let page = awake.get(&format!("/events?last_event_id={old}")).await;
    let page: Value = page.unwrap().json().await.unwrap();
    assert_eq!(page["gap"]["reason"], "trimmed", "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_channels_without_subscribers_are_removed_for_new_ones() {
    let redis = RedisServer::start().await;
    let flags = ["--history-age", "200ms", "--channels-max", "3"];
    let (server, other) = (
        TestServer::node(&redis, &flags).await,
        TestServer::node(&redis, &flags).await,
    );
    // In the order in which the channels would be removed.
    let mut here = server.subscribe("/stream?channel=here").await;
    server.publish("here", "click", "x").await;
    let mut there = other.subscribe("/stream?channel=there").await;
    server.publish("there", "click", "x").await;
    let dead = server.publish("dead", "click", "x").await;
    for subscriber in [&mut here, &mut there] {
        assert_eq!(subscriber.next_event().await.data, "x");
    }
    until("both nodes are subscribed", async || {
        let mut count = redis::cmd("PUBSUB");
        count.arg("NUMSUB").arg(&["sse:{here}", "sse:{there}"]);
        let counts: HashMap<String, u64> = redis.command(count).await.unwrap();
        counts.values().all(|count| *count > 0).then_some(())
    })
    .await;
    until("the dead channel is removed", async || {
        let response = server.try_publish("new", "click", "y").await.unwrap();
        if response.status() == StatusCode::OK {
            return Some(());
        }
        refusal(response, StatusCode::INSUFFICIENT_STORAGE, "log_full").await;
        None
    })
    .await;
    let mut back = server
        .subscribe_after("/stream?channel=dead", Some(&dead))
        .await;
    assert_eq!(back.next_event().await.event, "gap");
    drop(back);
    for (subscriber, channel) in [(&mut here, "here"), (&mut there, "there")] {
        server.publish(channel, "click", "again").await;
        assert_eq!(subscriber.next_event().await.data, "again", "on {channel}");
    }
    // The registry holds exactly the three channels that the limit allows.
    assert_eq!(redis.run("ZCARD sse:names").await, redis::Value::Int(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_a_stream_does_not_stop_the_trimming_of_other_channels() {
    let redis = RedisServer::start().await;
    let server =
        TestServer::node(&redis, &["--history-age", "200ms", "--heartbeat", "100ms"]).await;
    for channel in ["aaa", "zzz"] {
        server.publish_numbers(channel, 0..20).await;
    }
    redis.run("SET sse:{aaa} x").await;
    rounds_of_upkeep(&server, 2).await;
    assert_eq!(server.history("zzz").await.len(), 1);

    let line = r#"{"event":"click","data":"x"}"#;
    let published = [
        server.try_publish("aaa", "click", "x").await.unwrap(),
        server
            .try_publish_batch("aaa", line.to_owned())
            .await
            .unwrap(),
        server
            .try_publish_batch("aaa", [line; 3].join("\n"))
            .await
            .unwrap(),
    ];
    for response in published {
        let message = refusal(
            response,
            StatusCode::SERVICE_UNAVAILABLE,
            "broker_unavailable",
        )
        .await;
        let cause = logged_cause(&server, &message).await;
        assert!(cause.contains("WRONGTYPE"), "{message}: {cause}");
    }
    let read = server.get("/events?channel=aaa").await.unwrap();
    refusal(read, StatusCode::SERVICE_UNAVAILABLE, "broker_unavailable").await;
    // A stream stays open, and continues once the key is gone.
    let mut subscriber = server.subscribe("/stream?channel=aaa").await;
    assert_eq!(subscriber.next_block().await, ":");
    redis.run("DEL sse:{aaa}").await;
    server.publish("aaa", "click", "mended").await;
    assert_eq!(subscriber.next_event().await.data, "mended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_limit_of_events_reaches_quiet_channels_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    // The history age determines how often the log is trimmed; no event gets that old here.
    let age = ["--history-age", "12s"];
    let mut before = TestServer::on_directory(&path, &age).await;
    before.publish_numbers("sse", 0..500).await;
    before.stop("TERM").await;
    let after =
        TestServer::on_directory(&path, &[&age[..], &["--history-events", "10"]].concat()).await;
    let kept = until("the quiet channel is trimmed", async || {
        let kept = after.history("sse").await;
        (kept.len() < 500).then_some(kept)
    })
    .await;
    let numbers: Vec<&str> = kept.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(
        numbers,
        [
            "490", "491", "492", "493", "494", "495", "496", "497", "498", "499"
        ]
    );
}
