//! The log no longer continues where the subscribers of a node are: either the node was stopped
//! while the log was trimmed, or the log was wiped without any notification.
//!
//! Each of a thousand subscribers gets its own gap, and the node does not read the log once per
//! subscriber.

use std::fs;

use serde_json::{Value, json};

use crate::common::{
    RedisServer, Subscriber, TestServer, all_at_once, raise_the_limit_of_open_files, until,
};

const SUBSCRIBERS: usize = 1000;
/// A few pages, and a few repeats on a busy machine; far fewer than one page per subscriber.
const READS_MAX: f64 = 50.0;

async fn subscribe(server: &TestServer, path: &str, count: usize) -> Vec<Subscriber> {
    all_at_once(0..count, async |_| server.subscribe(path).await).await
}

/// The data of the next event, which must be a gap.
async fn gap(subscriber: &mut Subscriber) -> Value {
    let event = subscriber.next_event().await;
    assert_eq!(event.event, "gap", "{event:?}");
    serde_json::from_str(&event.data).unwrap()
}

/// Whether each thread of a process is stopped. The signal stops them one after another.
fn is_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map_while(Result::ok).all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
        rest.trim_start().starts_with('T')
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stopped_longer_than_the_history_sends_every_subscriber_a_gap_with_few_reads() {
    raise_the_limit_of_open_files();
    let redis = RedisServer::start().await;
    let flags = ["--history-events", "200", "--tail-events", "50"];
    let (sleeper, awake) = (
        TestServer::node(&redis, &flags).await,
        TestServer::node(&redis, &flags).await,
    );
    let mut subscribers = subscribe(&sleeper, "/stream", SUBSCRIBERS).await;
    let last = awake.publish("sse", "number", "seen").await;
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.next_event().await.data, "seen");
    }
    let before = sleeper.metric("sse_history_page_reads_total").await;
    sleeper.signal("STOP");
    until("every thread is stopped", async || {
        is_stopped(sleeper.pid()).then_some(())
    })
    .await;
    for batch in 0..10 {
        awake
            .publish_numbers("sse", batch * 200..(batch + 1) * 200)
            .await;
    }
    let kept = awake.history("sse").await;
    assert!(kept.len() < 400, "nothing was trimmed");
    sleeper.signal("CONT");
    let reported =
        json!({ "channel": "sse", "after": last, "oldest": kept[0].id, "reason": "trimmed" });
    all_at_once(&mut subscribers, async |subscriber| {
        assert_eq!(gap(subscriber).await, reported);
        for event in &kept {
            assert_eq!(subscriber.next_event().await, *event);
        }
    })
    .await;
    let reads = sleeper.metric("sse_history_page_reads_total").await - before;
    println!("{reads} pages were read for {SUBSCRIBERS} subscribers");
    assert!(
        reads <= READS_MAX,
        "{reads} pages were read for {SUBSCRIBERS} subscribers"
    );
    // The streams continue.
    awake.publish("sse", "number", "new").await;
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.next_event().await.data, "new");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wipe_without_a_reconnect_is_reported_even_if_no_event_is_published() {
    raise_the_limit_of_open_files();
    let redis = RedisServer::start().await;
    let node = TestServer::node(&redis, &[]).await;
    let paths = [
        "/stream",
        "/stream?event=other",
        "/stream?channel=sse&channel=quiet&envelope=json",
    ];
    let mut subscribers = Vec::new();
    for path in paths {
        subscribers.extend(subscribe(&node, path, SUBSCRIBERS / paths.len()).await);
    }
    for wipe in ["FLUSHALL", "DEL sse:{sse}"] {
        let last = node.publish("sse", "other", wipe).await;
        for subscriber in &mut subscribers {
            assert!(subscriber.next_event().await.data.contains(wipe));
        }
        let before = node.metric("sse_history_page_reads_total").await;
        redis.run(wipe).await;
        for subscriber in &mut subscribers {
            let reported =
                json!({ "channel": "sse", "after": last, "oldest": null, "reason": "unknown" });
            assert_eq!(gap(subscriber).await, reported, "after {wipe}");
        }
        let reads = node.metric("sse_history_page_reads_total").await - before;
        println!("{reads} pages were read after {wipe}");
        assert!(reads <= READS_MAX, "{reads} pages were read after {wipe}");
    }
    node.publish("sse", "other", "new").await;
    for subscriber in &mut subscribers {
        assert!(subscriber.next_event().await.data.contains("new"));
    }
}
