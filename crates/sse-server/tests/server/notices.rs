//! `notices=1`: a stream reports about itself, and a stream without it contains nothing new.

use serde_json::Value;

use crate::common::{Backend, RedisServer, Subscriber, TestServer, until};

/// The blocks with data of a stream up to its end.
async fn blocks_to_the_end(subscriber: &mut Subscriber) -> Vec<String> {
    let mut blocks = Vec::new();
    while let Some(block) = subscriber.try_next_block().await {
        if block.contains("data: ") {
            blocks.push(block);
        }
    }
    blocks
}

/// The data of a block that must be a notice.
fn notice(block: &str) -> Value {
    let data = block.strip_prefix("event: notice\ndata: ");
    serde_json::from_str(data.unwrap_or_else(|| panic!("no notice: {block:?}"))).unwrap()
}

/// Subscribes after the events 0 to 4, and receives them.
async fn replay(server: &TestServer, path: &str) -> Subscriber {
    let mut subscriber = server.subscribe(path).await;
    for number in 0..5 {
        assert_eq!(subscriber.next_event().await.data, number.to_string());
    }
    subscriber
}

crate::on_every_broker! {
    async fn a_client_learns_when_it_is_live_and_when_to_reconnect(backend: Backend) {
        let mut server = TestServer::start_with(backend, &["--retry", "7s"]).await;
        server.publish_numbers("a", 0..5).await;
        let path = "/stream?channel=a&channel=b&event=number&from=oldest";
        let mut with = replay(&server, &format!("{path}&notices=1")).await;
        let mut without = replay(&server, path).await;
        let position = with.last_event_id.clone();
        assert_eq!(notice(&with.next_block().await)["kind"], "live");
        assert_eq!(with.last_event_id, position);
        server.publish("b", "number", "5").await;
        for subscriber in [&mut with, &mut without] {
            assert_eq!(subscriber.next_event().await.data, "5");
        }
        server.stop("TERM").await;
        assert!(blocks_to_the_end(&mut without).await.is_empty());
        let blocks = blocks_to_the_end(&mut with).await;
        let [last] = &blocks[..] else { panic!("{blocks:?}") };
        let expected = r#"{"kind":"stopping","reconnect_in_ms":7000}"#;
        assert_eq!(notice(last), serde_json::from_str::<Value>(expected).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_in_an_empty_channel_is_live_at_once_and_later_events_follow() {
    let server = TestServer::start(Backend::Memory).await;
    let mut subscriber = server.subscribe("/stream?notices=1&envelope=json").await;
    assert_eq!(notice(&subscriber.next_block().await)["kind"], "live");
    let id = server.publish("sse", "click", "x").await;
    let event = subscriber.next_event().await;
    assert_eq!((event.id, &*event.event), (id, "click"));
    let wrong = server.get("/stream?notices=0").await.unwrap();
    assert_eq!(wrong.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_life_and_of_a_drain_are_reported() {
    let flags = ["--stream-life", "300ms"];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let mut subscriber = server.subscribe("/stream?notices=1").await;
    let blocks = blocks_to_the_end(&mut subscriber).await;
    assert_eq!(notice(&blocks[0])["kind"], "live");
    assert_eq!(notice(&blocks[1])["reconnect_in_ms"], 3000);

    let server = TestServer::start_with(Backend::Memory, &["--drain", "1s"]).await;
    let mut subscriber = server.subscribe("/stream?notices=1").await;
    assert_eq!(notice(&subscriber.next_block().await)["kind"], "live");
    server.signal("TERM");
    // The log is in memory, so the client waits until the server is back.
    let blocks = blocks_to_the_end(&mut subscriber).await;
    assert_eq!(notice(&blocks[0])["reconnect_in_ms"], 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_events_of_types_that_are_reserved_now_are_delivered() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    let mut add = ::redis::cmd("XADD");
    add.arg("sse:{sse}").arg("*").arg("event").arg("end");
    add.arg("data").arg("old");
    let id: String = redis.command(add).await.unwrap();
    for path in ["/stream?from=oldest", "/stream?from=oldest&event=end"] {
        let event = server.subscribe(path).await.next_event().await;
        assert_eq!((&*event.event, &*event.data), ("end", "old"));
        assert_eq!(event.id, id);
    }
    until("the event is in the history", async || {
        let history = server.history("sse").await;
        (history.len() == 1 && history[0].event == "end").then_some(())
    })
    .await;
}
