//! `GET /events` for several channels: one order, one cursor, and a way on to their stream.

use std::cell::Cell;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::common::{Subscriber, TestServer, refusal};

const CHANNELS: &str = "channel=slow&channel=fast&channel=rare";

async fn page(server: &TestServer, query: &str) -> Value {
    let response = server.get(&format!("/events?{query}")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{query}");
    response.json().await.unwrap()
}

/// The events of a page: the channel and the data of each.
fn data(page: &Value) -> Vec<(&str, &str)> {
    let events = page["events"].as_array().unwrap().iter();
    events
        .map(|event| {
            (
                event["channel"].as_str().unwrap(),
                event["data"].as_str().unwrap(),
            )
        })
        .collect()
}

/// The same, without the order: over Redis, channels share no order within a millisecond.
fn sorted_data(page: &Value) -> Vec<(&str, &str)> {
    let mut data = data(page);
    data.sort_unstable();
    data
}

/// The ids and the channels of a page, in its order.
fn keys(page: &Value) -> Vec<(sse_proto::EventId, String)> {
    let key = |event: &Value| {
        let text = |name: &str| event[name].as_str().unwrap();
        (text("id").parse().unwrap(), text("channel").to_owned())
    };
    page["events"].as_array().unwrap().iter().map(key).collect()
}

/// Publishes to three channels at different rates until `stop` is set.
async fn publish_to_three(server: &TestServer, stop: &Cell<bool>) -> [usize; 3] {
    let mut counts = [0; 3];
    for round in 0.. {
        if stop.get() {
            break;
        }
        for (nth, (channel, every)) in [("fast", 1), ("rare", 9), ("slow", 3)].iter().enumerate() {
            if round % every == 0 {
                server
                    .publish(channel, "number", &counts[nth].to_string())
                    .await;
                counts[nth] += 1;
            }
        }
    }
    counts
}

/// What a client has seen: the next number of each channel.
#[derive(Default)]
struct Seen([usize; 3]);

impl Seen {
    fn add(&mut self, channel: &str, number: &str) {
        let channels = ["fast", "rare", "slow"];
        let nth = channels.iter().position(|name| *name == channel).unwrap();
        assert_eq!(number, self.0[nth].to_string(), "{channel}");
        self.0[nth] += 1;
    }

    /// Adds the next event of a stream with envelopes.
    async fn add_next_of(&mut self, stream: &mut Subscriber) {
        let event = stream.next_event().await;
        assert_ne!(event.event, "gap", "{event:?}");
        let envelope: Value = serde_json::from_str(&event.data).unwrap();
        let text = |key: &str| envelope[key].as_str().unwrap();
        self.add(text("channel"), text("data"));
    }
}

crate::on_every_broker! {
    async fn pages_and_then_the_stream_have_every_event_once_during_publishing(backend: Backend) {
        let server = TestServer::start_with(backend, &["--tail-events", "16"]).await;
        let (stop, mut seen) = (Cell::new(false), Seen::default());
        let reading = async {
            let mut query = format!("{CHANNELS}&limit=7");
            // More pages than the events of the beginning fill, so that reading meets publishing.
            for _ in 0..40 {
                let page = page(&server, &query).await;
                for (channel, number) in data(&page) {
                    seen.add(channel, number);
                }
                query = format!("{CHANNELS}&limit=7&last_event_id={}", page["next"].as_str().unwrap());
            }
            let path = format!("/stream?{}&envelope=json", query.replace("&limit=7", ""));
            let mut stream = server.subscribe(&path).await;
            for _ in 0..50 {
                seen.add_next_of(&mut stream).await;
            }
            stop.set(true);
            (stream, seen)
        };
        let (counts, (mut stream, mut seen)) = futures::future::join(publish_to_three(&server, &stop), reading).await;
        while seen.0 != counts {
            seen.add_next_of(&mut stream).await;
        }
    }

    async fn events_are_in_the_order_of_their_ids_and_pages_do_not_change_it(backend: Backend) {
        let server = TestServer::start(backend).await;
        for round in 0..10 {
            for channel in ["b", "a", "c"] {
                server.publish_numbers(channel, round..round + 2).await;
            }
        }
        let all = "channel=c&channel=a&channel=b&channel=a";
        let whole = page(&server, all).await;
        let mut sorted = keys(&whole);
        assert_eq!(sorted.len(), 60);
        sorted.sort();
        assert_eq!(keys(&whole), sorted);
        assert_eq!(
            (&whole["channels"], &whole["more"], whole["gaps"].is_null(), whole["channel"].is_null()),
            (&json!(["a", "b", "c"]), &json!(false), true, true)
        );
        for limit in [1, 7, 59, 60] {
            let (mut found, mut query) = (Vec::new(), format!("{all}&limit={limit}"));
            loop {
                let page = page(&server, &query).await;
                found.extend(keys(&page));
                if page["more"] == false {
                    break;
                }
                assert_eq!(keys(&page).len(), limit);
                query = format!("{all}&limit={limit}&last_event_id={}", page["next"].as_str().unwrap());
            }
            assert_eq!(found, sorted, "limit={limit}");
        }
    }

    async fn a_start_an_end_and_a_filter_apply_to_each_channel(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut ids = Vec::new();
        for number in 0..4 {
            for channel in ["a", "b"] {
                let kind = if number % 2 == 0 { "even" } else { "odd" };
                ids.push(server.publish(channel, kind, &number.to_string()).await);
            }
        }
        let both = "channel=a&channel=b";
        let newest = page(&server, &format!("{both}&last=1")).await;
        assert_eq!(sorted_data(&newest), [("a", "3"), ("b", "3")]);
        let even = page(&server, &format!("{both}&last=1&event=even")).await;
        assert_eq!(sorted_data(&even), [("a", "2"), ("b", "2")]);
        let none = page(&server, &format!("{both}&last=0")).await;
        assert_eq!((data(&none), none["next"].as_str()), (vec![], newest["next"].as_str()));
        let until = page(&server, &format!("{both}&from=oldest&until={}", ids[2])).await;
        let expected: Vec<_> = keys(&page(&server, both).await)
            .into_iter()
            .filter(|(id, _)| *id <= ids[2].parse().unwrap())
            .collect();
        assert_eq!(keys(&until), expected);
        let since = page(&server, &format!("{both}&since=1h")).await;
        assert_eq!(data(&since).len(), 8);
        // A channel that the cursor does not contain starts now, as on a stream.
        let partial = page(&server, &format!("{both}&last_event_id=a={}", ids[4])).await;
        assert_eq!(data(&partial), [("a", "3")]);
    }

    async fn each_channel_has_its_own_gap(backend: Backend) {
        let server = TestServer::start_with(backend, &["--history-events", "100"]).await;
        let first = page(&server, "channel=busy&channel=quiet").await;
        let cursor = first["next"].as_str().unwrap();
        server.publish("quiet", "click", "kept").await;
        for start in (0..1000).step_by(100) {
            server.publish_numbers("busy", start..start + 100).await;
        }
        let path = format!("channel=busy&channel=quiet&last_event_id={cursor}&limit=1");
        let after = page(&server, &path).await;
        let gaps = after["gaps"].as_array().unwrap();
        assert_eq!(gaps.len(), 1, "{after}");
        let oldest = server.history("busy").await.swap_remove(0).id;
        assert_eq!((gaps[0]["channel"].as_str(), gaps[0]["reason"].as_str()), (Some("busy"), Some("trimmed")));
        assert_eq!(gaps[0]["oldest"].as_str(), Some(oldest.as_str()));
        assert_eq!(data(&after), [("quiet", "kept")]);
        let next = after["next"].as_str().unwrap();
        assert!(next.starts_with(&format!("busy=@{oldest},")), "{next}");
        let rest = page(&server, &format!("channel=busy&channel=quiet&last_event_id={next}")).await;
        assert!(rest["gaps"].is_null(), "the gap is reported once");
        assert_eq!(keys(&rest)[0].0.to_string(), oldest);
    }

    async fn an_id_that_names_no_channel_is_a_gap_in_each(backend: Backend) {
        let server = TestServer::start(backend).await;
        let id = server.publish("a", "click", "x").await;
        for cursor in [id.as_str(), "garbage"] {
            let answer = page(&server, &format!("channel=a&channel=b&last_event_id={cursor}")).await;
            let gaps = answer["gaps"].as_array().unwrap();
            assert_eq!(gaps.len(), 2);
            for (gap, channel) in gaps.iter().zip(["a", "b"]) {
                assert_eq!((&gap["channel"], &gap["reason"], &gap["after"]), (&json!(channel), &json!("unknown"), &json!(cursor)));
            }
            assert_eq!(data(&answer), [("a", "x")]);
        }
    }

    async fn lines_name_their_channel_and_the_link_leads_on(backend: Backend) {
        let server = TestServer::start(backend).await;
        for number in 0..3 {
            server.publish("a", "click", &number.to_string()).await;
            server.publish("b", "click", &number.to_string()).await;
        }
        let (mut lines, mut query) = (Vec::new(), "?channel=a&channel=b&limit=4&last_event_id=x".to_owned());
        loop {
            let request = server.http.get(server.at(&format!("/events{query}"))).header("accept", "application/x-ndjson");
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["content-type"], "application/x-ndjson");
            let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
            lines.extend(response.text().await.unwrap().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
            let Some(link) = link else { break };
            let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
            target.unwrap().clone_into(&mut query);
        }
        let (gaps, events) = lines.split_at(2);
        for (gap, channel) in gaps.iter().zip(["a", "b"]) {
            assert_eq!((&gap["event"], &gap["channel"]), (&json!("gap"), &json!(channel)));
        }
        let events = json!({ "events": events });
        assert_eq!(sorted_data(&events), [("a", "0"), ("a", "1"), ("a", "2"), ("b", "0"), ("b", "1"), ("b", "2")]);
        let event = lines[2].to_string();
        let copied = server.try_publish_batch("copy", event).await.unwrap();
        assert_eq!(copied.status(), StatusCode::OK, "a line can be posted");
    }

    async fn one_channel_has_the_answer_that_it_had(backend: Backend) {
        let server = TestServer::start(backend).await;
        let id = server.publish("a", "click", "x").await;
        let time = sse_proto::units::time_text(id.parse::<sse_proto::EventId>().unwrap().ms);
        let event = format!(r#"{{"id":"{id}","event":"click","data":"x","time":"{time}"}}"#);
        let expected = format!(r#"{{"channel":"a","events":[{event}],"next":"{id}","more":false}}"#);
        for query in ["channel=a", "channel=a&channel=a"] {
            let answer = server.get(&format!("/events?{query}")).await.unwrap();
            assert_eq!(answer.text().await.unwrap(), expected);
        }
    }

    async fn as_many_channels_as_on_a_stream_can_be_read(backend: Backend) {
        let server = TestServer::start(backend).await;
        let channels = |count: usize| (0..count).map(|nth| format!("channel=c{nth:02}")).collect::<Vec<_>>().join("&");
        server.publish("c07", "click", "x").await;
        let answer = page(&server, &channels(32)).await;
        assert_eq!(data(&answer), [("c07", "x")]);
        let cursor = answer["next"].as_str().unwrap();
        let mut stream = server.subscribe_after(&format!("/stream?{}", channels(32)), Some(cursor)).await;
        server.publish("c31", "click", "y").await;
        assert_eq!(stream.next_event().await.data, "y");
        let answer = server.get(&format!("/events?{}", channels(33))).await.unwrap();
        refusal(answer, StatusCode::BAD_REQUEST, "invalid_parameter").await;
    }
}
