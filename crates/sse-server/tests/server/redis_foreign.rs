//! Entries in Redis that no `sse-server` wrote: readers skip them, get a gap, and nothing is
//! forged.

use serde_json::Value;

use crate::common::{RedisServer, TestServer};

/// Adds an entry to the stream of a channel.
async fn add(redis: &RedisServer, channel: &str, fields: &[&[u8]]) -> String {
    let mut command = redis::cmd("XADD");
    command.arg(format!("sse:{{{channel}}}")).arg("*");
    for field in fields {
        command.arg(*field);
    }
    redis.command(command).await.expect("an id")
}

/// Entries that another program could write.
fn foreign_entries() -> [&'static [&'static [u8]]; 6] {
    [
        &[
            b"event",
            b"a\ndata: forged\nid: 7-7\n\nevent: admin",
            b"data",
            b"x",
        ],
        &[b"event", b"a\rid: 9-9", b"data", b"x"],
        &[b"foo", b"bar"],
        &[b"event", b"click", b"data", b"\xff\xfe"],
        &[b"event", b"gap", b"data", b"{\"channel\":\"other\"}"],
        &[b"event", b"open", b"data", b"x"],
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_entry_is_a_gap_and_the_events_around_it_arrive() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    for (nth, fields) in foreign_entries().iter().enumerate() {
        let channel = format!("c{nth}");
        let mut live = server
            .subscribe(&format!("/stream?channel={channel}"))
            .await;
        server.publish(&channel, "click", "before").await;
        add(&redis, &channel, fields).await;
        let after = server.publish(&channel, "click", "after").await;
        let path = format!("/stream?channel={channel}&from=oldest");
        let mut replay = server.subscribe(&path).await;
        for subscriber in [&mut live, &mut replay] {
            assert_eq!(subscriber.next_event().await.data, "before");
            let gap = subscriber.next_event().await;
            assert_eq!(gap.event, "gap");
            let gap: Value = serde_json::from_str(&gap.data).expect("JSON");
            assert_eq!(gap["reason"], "damaged", "{fields:?}");
            // A poll may have read the foreign entry before the event behind it was published.
            let oldest = gap["oldest"].as_str().unwrap_or(&after);
            assert_eq!(oldest, after, "{fields:?}");
            let event = subscriber.next_event().await;
            assert_eq!((event.id, event.data), (after.clone(), "after".to_owned()));
        }
    }
    let warnings = server.log().matches("that no sse-server wrote").count();
    assert_eq!(warnings, 1, "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_of_foreign_entries_only_is_a_gap() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    add(&redis, "sse", &[b"foo", b"bar"]).await;
    let mut replay = server.subscribe("/stream?from=oldest").await;
    let gap: Value = serde_json::from_str(&replay.next_event().await.data).expect("JSON");
    assert_eq!(
        (gap["reason"].as_str(), gap["oldest"].is_null()),
        (Some("damaged"), true)
    );
    server.publish("sse", "click", "x").await;
    assert_eq!(replay.next_event().await.data, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_run_of_foreign_entries_hides_no_event() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    for _ in 0..100 {
        add(&redis, "sse", &[b"foo", b"bar"]).await;
    }
    let first = server.publish("sse", "click", "first").await;
    for _ in 0..100 {
        add(&redis, "sse", &[b"foo", b"bar"]).await;
    }
    let mut replay = server.subscribe("/stream?from=oldest").await;
    assert_eq!(replay.next_event().await.event, "gap");
    assert_eq!(replay.next_event().await.data, "first");
    let newest = server.subscribe("/stream?last=1").await.next_event().await;
    assert_eq!((newest.id, newest.data), (first, "first".to_owned()));
    // The entries at the end are a gap as well, although no event follows them yet.
    assert_eq!(replay.next_event().await.event, "gap");
    server.publish("sse", "click", "second").await;
    assert_eq!(replay.next_event().await.data, "second");
    // A page of history ends before foreign entries, and the next one begins with the gap.
    let page = history_page(&server, "last=10").await;
    assert_eq!(data(&page), ["first"]);
    let next = page["next"].as_str().expect("a position");
    let page = history_page(&server, &format!("last_event_id={next}")).await;
    assert_eq!(data(&page), ["second"]);
    assert_eq!(page["gap"]["reason"], "damaged");
}

async fn history_page(server: &TestServer, query: &str) -> Value {
    let response = server.get(&format!("/events?{query}")).await;
    response.expect("a response").json().await.expect("JSON")
}

fn data(page: &Value) -> Vec<&str> {
    let events = page["events"].as_array().expect("events");
    let data = events.iter().map(|event| event["data"].as_str());
    data.map(|data| data.expect("text")).collect()
}
