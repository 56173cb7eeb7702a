//! A stream of several channels is exact in each channel, at any rates and wherever the stream is
//! cut. Also tests envelopes.

use std::{cell::Cell, collections::HashMap};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use reqwest::StatusCode;
use serde_json::Value;
use sse_proto::{Cursor, units::time_text};

use crate::common::{RedisServer, Subscriber, TestEvent, TestServer, refusal};

/// The position of one channel in a composite id.
fn position(id: &str, channel: &str) -> String {
    let cursor: Cursor = id.parse().unwrap();
    assert!(matches!(cursor, Cursor::Composite(_)), "{id}");
    cursor
        .position_in(&channel.parse().unwrap())
        .unwrap_or_else(|| panic!("{id} has no {channel}"))
        .to_string()
}

async fn gap(subscriber: &mut Subscriber) -> (TestEvent, Value) {
    let event = subscriber.next_event().await;
    assert_eq!(event.event, "gap", "{event:?}");
    let reported = serde_json::from_str(&event.data).unwrap();
    (event, reported)
}

/// Publishes to three channels at different rates, single events or batches, until `stop` is set;
/// returns the number of events per channel.
async fn publish_to_three(server: &TestServer, stop: &Cell<bool>) -> HashMap<&'static str, usize> {
    let mut counts = HashMap::from([("fast", 0), ("slow", 0), ("rare", 0)]);
    for round in 0.. {
        if stop.get() {
            break;
        }
        for (channel, every, batch) in [("fast", 1, 40), ("slow", 3, 1), ("rare", 20, 1)] {
            if round % every == 0 {
                let count = counts.get_mut(channel).unwrap();
                let line = |number| format!(r#"{{"event":"number","data":"{channel} {number}"}}"#);
                let lines: Vec<String> = (*count..*count + batch).map(line).collect();
                let answer = server
                    .try_publish_batch(channel, lines.join("\n"))
                    .await
                    .unwrap();
                assert_eq!(answer.status(), StatusCode::OK);
                *count += batch;
            }
        }
    }
    counts
}

/// Count of events seen per channel; checks that numbers come in order and once.
#[derive(Default)]
struct Seen(HashMap<String, usize>);

impl Seen {
    fn take(&mut self, data: &str) {
        let (channel, number) = data.split_once(' ').unwrap();
        let due = self.0.entry(channel.to_owned()).or_default();
        assert_eq!(number.parse(), Ok(*due), "{channel}");
        *due += 1;
    }
}

crate::on_every_broker! {
    async fn each_channel_is_exact_while_the_stream_is_cut_at_random(backend: Backend) {
        let server = TestServer::start_with(backend, &["--tail-events", "16"]).await;
        let stop = Cell::new(false);
        let path = "/stream?channel=slow&channel=fast&channel=rare&channel=never&channel=fast";
        let opening = server.subscribe(path).await.last_event_id;
        let following = async {
            let mut subscribers = Vec::new();
            for seed in 0..3 {
                let (server, opening) = (&server, opening.clone());
                subscribers.push(async move {
                    let mut random = SmallRng::seed_from_u64(seed);
                    let (mut seen, mut last_event_id) = (Seen::default(), opening);
                    for _ in 0..12 {
                        let mut subscriber = server.subscribe_after(path, Some(&last_event_id)).await;
                        for _ in 0..random.random_range(0..200) {
                            seen.take(&subscriber.next_event().await.data);
                        }
                        last_event_id = subscriber.last_event_id;
                    }
                    (seen, last_event_id)
                });
            }
            let seen = futures::future::join_all(subscribers).await;
            stop.set(true);
            seen
        };
        let (counts, seen) = futures::future::join(publish_to_three(&server, &stop), following).await;
        for (mut seen, last_event_id) in seen {
            let mut subscriber = server.subscribe_after(path, Some(&last_event_id)).await;
            let so_far: usize = seen.0.values().sum();
            for _ in so_far..counts.values().sum() {
                seen.take(&subscriber.next_event().await.data);
            }
            for (channel, count) in &counts {
                assert_eq!(seen.0.get(*channel), Some(count));
                let last = server.history(channel).await.last().unwrap().id.clone();
                assert_eq!(position(&subscriber.last_event_id, channel), last);
            }
        }
    }

    async fn the_opening_holds_the_position_of_each_channel(backend: Backend) {
        let server = TestServer::start(backend).await;
        let in_a = server.publish("a", "click", "before").await;
        let subscriber = server.subscribe("/stream?channel=b&channel=a").await;
        assert_eq!(position(&subscriber.last_event_id, "a"), in_a);
        let id = subscriber.last_event_id.clone();
        drop(subscriber);
        server.publish("b", "click", "in b").await;
        server.publish("a", "click", "in a").await;
        let mut again = server.subscribe_after("/stream?channel=a&channel=b", Some(&id)).await;
        let mut data = again.take_data(2).await;
        data.sort();
        assert_eq!(data, ["in a", "in b"]);
    }

    async fn a_channel_named_twice_counts_once_and_its_ids_are_plain(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut subscriber = server.subscribe("/stream?channel=a&channel=a").await;
        let id = server.publish("a", "click", "x").await;
        assert_eq!(subscriber.next_event().await.id, id);
    }

    async fn the_set_of_channels_may_change_between_two_connections(backend: Backend) {
        let server = TestServer::start(backend).await;
        for channel in ["a", "b", "new"] {
            server.publish(channel, "click", "before").await;
        }
        let id = server.subscribe("/stream?channel=a&channel=b").await.last_event_id;
        for channel in ["a", "b", "new"] {
            server.publish(channel, "click", &format!("missed in {channel}")).await;
        }
        // Without `b`, and with `new`, which starts now.
        let mut changed = server.subscribe_after("/stream?channel=a&channel=new", Some(&id)).await;
        assert_eq!(changed.next_event().await.data, "missed in a");
        server.publish("new", "click", "after").await;
        assert_eq!(changed.next_event().await.data, "after");
        // From several channels to one of them, and back.
        let mut alone = server.subscribe_after("/stream?channel=b", Some(&id)).await;
        assert_eq!(alone.next_event().await.data, "missed in b");
    }

    async fn an_id_of_another_kind_of_stream_causes_a_gap_in_each_channel(backend: Backend) {
        let server = TestServer::start(backend).await;
        let plain = server.publish("a", "click", "a").await;
        server.publish("b", "click", "b").await;
        let path = "/stream?channel=a&channel=b";
        for stranger in [plain.as_str(), "garbage", "a=5-1,b=x"] {
            let mut several = server.subscribe_after(path, Some(stranger)).await;
            let mut gaps = Vec::new();
            for _ in 0..4 {
                let event = several.next_event().await;
                if event.event == "gap" {
                    let reported: Value = serde_json::from_str(&event.data).unwrap();
                    assert_eq!((reported["reason"].as_str(), reported["after"].as_str()), (Some("unknown"), Some(stranger)));
                    let channel = reported["channel"].as_str().unwrap();
                    assert_eq!(position(&event.id, channel), format!("@{}", reported["oldest"].as_str().unwrap()));
                    gaps.push((channel.to_owned(), event.id));
                }
            }
            // A client that is cut after the first gap gets the second gap again, and loses
            // nothing.
            let (first, id) = &gaps[0];
            let mut cut = server.subscribe_after(path, Some(id)).await;
            let mut again = Vec::new();
            for _ in 0..3 {
                let event = cut.next_event().await;
                again.push(if event.event == "gap" { format!("gap after {}", event.data.contains("@0-0")) } else { event.data });
            }
            again.sort();
            assert_eq!(again, ["a", "b", "gap after true"], "after {id} in {first}");
            assert_eq!(gaps.len(), 2);
            let after = server.subscribe_after(path, Some(&several.last_event_id)).await;
            assert_eq!(after.last_event_id, several.last_event_id);
        }
    }

    async fn a_composite_id_without_a_requested_channel_causes_a_gap_in_it(backend: Backend) {
        let server = TestServer::start(backend).await;
        for channel in ["a", "b", "c"] {
            server.publish(channel, "click", channel).await;
        }
        let id = server.subscribe("/stream?channel=a&channel=b").await.last_event_id;
        let mut missing = server.subscribe_after("/stream?channel=c", Some(&id)).await;
        let (event, reported) = gap(&mut missing).await;
        assert_eq!((reported["channel"].as_str(), reported["reason"].as_str()), (Some("c"), Some("unknown")));
        assert!(event.id.starts_with('@') && reported["after"].as_str().unwrap().len() <= 64);
        assert_eq!(missing.next_event().await.data, "c");
    }

    async fn a_gap_in_one_channel_leaves_the_others_exact(backend: Backend) {
        let server = TestServer::start_with(backend, &["--history-events", "100"]).await;
        let opening = server.subscribe("/stream?channel=a&channel=b").await.last_event_id;
        for start in (0..1000).step_by(100) {
            server.publish_numbers("a", start..start + 100).await;
        }
        server.publish_numbers("b", 0..50).await;
        let kept = server.history("a").await;
        let mut subscriber = server.subscribe_after("/stream?channel=a&channel=b", Some(&opening)).await;
        let (mut gaps, mut in_a, mut in_b) = (0, Vec::new(), Vec::new());
        for _ in 0..kept.len() + 51 {
            let before = subscriber.last_event_id.clone();
            let event = subscriber.next_event().await;
            if event.event == "gap" {
                gaps += 1;
                let reported: Value = serde_json::from_str(&event.data).unwrap();
                assert_eq!((reported["channel"].as_str(), reported["reason"].as_str()), (Some("a"), Some("trimmed")));
            } else if position(&event.id, "b") == position(&before, "b") {
                in_a.push(event.data);
            } else {
                in_b.push(event.data);
            }
        }
        assert_eq!((gaps, in_a.len()), (1, kept.len()));
        assert_eq!(in_b, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    async fn a_heartbeat_moves_all_positions_past_filtered_events(backend: Backend) {
        let server = TestServer::start_with(backend, &["--heartbeat", "50ms"]).await;
        let mut subscriber = server.subscribe("/stream?channel=a&channel=b&event=wanted").await;
        let in_a = server.publish("a", "other", "x").await;
        let in_b = server.publish("b", "other", "x").await;
        while position(&subscriber.last_event_id, "a") != in_a || position(&subscriber.last_event_id, "b") != in_b {
            let block = subscriber.next_block().await;
            assert!(!block.contains("data"), "{block}");
        }
        // The position is sent only once.
        assert_eq!(subscriber.next_block().await, ":");
    }

    async fn an_envelope_holds_the_event_as_it_was_published(backend: Backend) {
        let server = TestServer::start_with(backend, &["--tail-events", "2"]).await;
        let hard = ["", "a\r\nb\rc\n", "{\"json\": \"é\u{2028}\u{0}\"}", "data: x\n\nid: 5"];
        for path in ["/stream?envelope=json", "/stream?envelope=json&channel=sse&channel=other&event=click"] {
            let mut live = server.subscribe(path).await;
            let opening = live.last_event_id.clone();
            let mut ids = Vec::new();
            for data in hard {
                ids.push(server.publish("sse", "click", data).await);
            }
            let mut late = server.subscribe_after(path, Some(&opening)).await;
            for subscriber in [&mut live, &mut late] {
                for (data, id) in hard.iter().zip(&ids) {
                    let event = subscriber.next_event().await;
                    assert_eq!(event.event, "click");
                    let ms = id.parse::<sse_proto::EventId>().unwrap().ms;
                    let expected = serde_json::json!({
                        "id": id, "channel": "sse", "event": "click", "data": data, "time": time_text(ms),
                    });
                    assert_eq!(serde_json::from_str::<Value>(&event.data).unwrap(), expected);
                }
            }
        }
        let mut stranger = server.subscribe_after("/stream?envelope=json", Some("5-5")).await;
        let (_, reported) = gap(&mut stranger).await;
        assert_eq!((reported["reason"].as_str(), reported["data"].as_str()), (Some("unknown"), None));
        let refused = server.get("/stream?envelope=xml").await.unwrap();
        refusal(refused, StatusCode::BAD_REQUEST, "invalid_parameter").await;
    }

    async fn a_stream_may_have_at_most_32_channels(backend: Backend) {
        let server = TestServer::start(backend).await;
        let name = |nth: usize| format!("{nth:0>64}");
        let query = |count| (0..count).map(|nth| format!("channel={}", name(nth))).collect::<Vec<_>>().join("&");
        let mut all = server.subscribe(&format!("/stream?{}", query(32))).await;
        for nth in 0..32 {
            server.publish_numbers(&name(nth), 0..10).await;
        }
        let mut per_channel = HashMap::new();
        for _ in 0..320 {
            let before = all.last_event_id.clone();
            let event = all.next_event().await;
            assert!(event.id.len() < Cursor::BYTES_MAX);
            let moved = (0..32).find(|nth| position(&event.id, &name(*nth)) != position(&before, &name(*nth))).unwrap();
            let due = per_channel.entry(moved).or_insert(0);
            assert_eq!(event.data, due.to_string());
            *due += 1;
        }
        let mut again = server.subscribe_after(&format!("/stream?{}", query(32)), Some(&all.last_event_id)).await;
        server.publish(&name(7), "click", "last").await;
        assert_eq!(again.next_event().await.data, "last");
        let refused = server.get(&format!("/stream?{}", query(33))).await.unwrap();
        assert!(refusal(refused, StatusCode::BAD_REQUEST, "invalid_parameter").await.contains("32"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_channel_does_not_delay_the_others() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &["--heartbeat", "50ms", "--tail-events", "5"]).await;
    let opening = server
        .subscribe("/stream?channel=broken&channel=fine")
        .await
        .last_event_id;
    server.publish_numbers("broken", 0..50).await;
    server.publish_numbers("fine", 0..50).await;
    redis.run("RENAME sse:{broken} aside").await;
    redis.run("SET sse:{broken} x").await;
    let mut subscriber = server
        .subscribe_after("/stream?channel=broken&channel=fine", Some(&opening))
        .await;
    assert_eq!(
        subscriber.take_data(50).await,
        (0..50).map(|number| number.to_string()).collect::<Vec<_>>()
    );
    server.publish("fine", "click", "live").await;
    assert_eq!(subscriber.next_event().await.data, "live");
    redis.run("RENAME aside sse:{broken}").await;
    assert_eq!(
        subscriber.take_data(50).await,
        (0..50).map(|number| number.to_string()).collect::<Vec<_>>()
    );
}
