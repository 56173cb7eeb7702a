//! Resume by last event id: no event is missing or repeated, or a gap reports the loss.

use reqwest::StatusCode;
use serde_json::Value;

use crate::common::{Subscriber, TestEvent, TestServer, until};

/// Publishes numbers until `stop` is set; returns how many.
async fn keep_publishing(server: &TestServer, from: usize, stop: &std::cell::Cell<bool>) -> usize {
    let mut number = from;
    while !stop.get() {
        server.publish("sse", "number", &number.to_string()).await;
        number += 1;
    }
    number
}

async fn gap(subscriber: &mut Subscriber) -> (TestEvent, Value) {
    let event = subscriber.next_event().await;
    assert_eq!(event.event, "gap");
    let data = serde_json::from_str(&event.data).expect("JSON");
    (event, data)
}

crate::on_every_broker! {
    async fn resuming_is_exact_at_every_position_during_publishing(backend: Backend) {
        let server = TestServer::start_with(backend, &["--tail-events", "20"]).await;
        let opening = server.subscribe("/stream").await.last_event_id;
        server.publish_numbers("sse", 0..50).await;
        let history = server.history("sse").await;
        let stop = std::cell::Cell::new(false);
        let publishing = keep_publishing(&server, 50, &stop);
        let resuming = async {
            let positions = std::iter::once(opening.clone()).chain(history.iter().map(|event| event.id.clone()));
            for (nth, id) in positions.enumerate() {
                let mut subscriber = server.subscribe_after("/stream", Some(&id)).await;
                // The read passes the end of the earlier history, so it crosses the seam to live
                // events.
                for number in nth..60 {
                    assert_eq!(subscriber.next_event().await.data, number.to_string(), "after {id}");
                }
            }
            stop.set(true);
        };
        futures::future::join(publishing, resuming).await;
    }

    async fn a_cut_before_the_first_event_loses_nothing(backend: Backend) {
        let server = TestServer::start(backend).await;
        for round in 0..5 {
            let cut = server.subscribe("/stream").await;
            assert!(!cut.last_event_id.is_empty());
            let id = cut.last_event_id.clone();
            drop(cut);
            server.publish("sse", "click", &format!("meanwhile {round}")).await;
            let mut again = server.subscribe_after("/stream", Some(&id)).await;
            assert_eq!(again.next_event().await.data, format!("meanwhile {round}"));
        }
    }

    async fn the_header_overrides_the_url_and_an_empty_id_counts_as_absent(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish_numbers("sse", 0..3).await;
        let ids: Vec<String> = server.history("sse").await.into_iter().map(|event| event.id).collect();
        let in_url = format!("/stream?last_event_id={}", ids[0]);
        assert_eq!(server.subscribe(&in_url).await.take_data(2).await, ["1", "2"]);
        assert_eq!(server.subscribe_after(&in_url, Some(&ids[1])).await.take_data(1).await, ["2"]);
        assert_eq!(server.subscribe_after(&in_url, Some("")).await.take_data(2).await, ["1", "2"]);
        let mut fresh = server.subscribe_after("/stream?last_event_id=", Some(" ")).await;
        server.publish("sse", "number", "3").await;
        assert_eq!(fresh.take_data(1).await, ["3"]);
    }

    async fn every_form_of_a_last_event_id_counts_as_a_resume(backend: Backend) {
        let server = TestServer::start(backend).await;
        let id = server.publish("sse", "number", "0").await;
        let resumes = async || server.metric("sse_resumes_total").await;
        drop(server.subscribe("/stream").await);
        drop(server.subscribe_after("/stream?last_event_id=", Some("")).await);
        assert!(resumes().await < 0.5);
        for (path, header, total) in [
            (format!("/stream?last_event_id={id}"), None, 1.0),
            (format!("/stream?lastEventId={id}"), None, 2.0),
            ("/stream".to_owned(), Some(id.as_str()), 3.0),
            (format!("/stream?last_event_id={id}"), Some(id.as_str()), 4.0),
        ] {
            drop(server.subscribe_after(&path, header).await);
            assert!((resumes().await - total).abs() < 0.5, "{path}");
        }
    }

    async fn a_filtered_subscriber_resumes_exactly(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut views = server.subscribe("/stream?event=view").await;
        for number in 0..10 {
            server.publish("sse", if number % 2 == 0 { "view" } else { "click" }, &number.to_string()).await;
        }
        assert_eq!(views.take_data(2).await, ["0", "2"]);
        let id = views.last_event_id.clone();
        drop(views);
        let mut again = server.subscribe_after("/stream?event=view", Some(&id)).await;
        assert_eq!(again.take_data(3).await, ["4", "6", "8"]);
    }

    async fn trimmed_events_are_reported_by_one_gap(backend: Backend) {
        let server = TestServer::start_with(backend, &["--history-events", "100", "--tail-events", "5"]).await;
        let before = server.publish("sse", "click", "first").await;
        for start in (0..1000).step_by(100) {
            server.publish_numbers("sse", start..start + 100).await;
        }
        let kept = server.history("sse").await;
        let mut subscriber = server.subscribe_after("/stream", Some(&before)).await;
        let (event, reported) = gap(&mut subscriber).await;
        assert_eq!(event.id, format!("@{}", kept[0].id));
        let expected = serde_json::json!({
            "channel": "sse", "after": before, "oldest": kept[0].id, "reason": "trimmed",
        });
        assert_eq!(reported, expected);
        for stored in &kept {
            assert_eq!(subscriber.next_event().await, *stored);
        }
        // A client that is cut right after the gap neither gets the gap again nor misses the oldest
        // event.
        let mut again = server.subscribe_after("/stream", Some(&event.id)).await;
        for stored in &kept {
            assert_eq!(again.next_event().await, *stored);
        }
    }

    async fn a_filter_does_not_drop_a_gap(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish_numbers("sse", 0..3).await;
        let mut subscriber = server.subscribe_after("/stream?event=view", Some("5-5")).await;
        let (_, reported) = gap(&mut subscriber).await;
        assert_eq!(reported["reason"], "unknown");
        server.publish("sse", "view", "seen").await;
        assert_eq!(subscriber.next_event().await.data, "seen");
    }

    async fn an_invalid_id_causes_a_gap_and_is_never_rejected(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish_numbers("sse", 0..2).await;
        let oldest = server.history("sse").await[0].id.clone();
        let long = "9".repeat(3000);
        for garbage in ["nonsense", "5", "-", "5-5-5", "other=5-5", "@", "\"}\u{7f}", &long] {
            let mut request = server.http.get(server.at("/stream"));
            request = request.header("last-event-id", reqwest::header::HeaderValue::from_bytes(garbage.as_bytes()).unwrap_or_else(|_| "\u{9}x".parse().unwrap()));
            let mut subscriber = Subscriber::new(request.send().await.unwrap());
            let (event, reported) = gap(&mut subscriber).await;
            assert_eq!((reported["reason"].as_str(), reported["oldest"].as_str()), (Some("unknown"), Some(oldest.as_str())));
            assert_eq!(event.id, format!("@{oldest}"));
            assert!(reported["after"].as_str().unwrap().len() <= 64);
            assert_eq!(subscriber.take_data(2).await, ["0", "1"]);
        }
        // The highest possible id; no id comes after it.
        let highest = format!("{}-{}", u64::MAX, u64::MAX);
        for id in [&highest, &format!("@{highest}")] {
            let mut subscriber = server.subscribe_after("/stream", Some(id)).await;
            gap(&mut subscriber).await;
            assert_eq!(subscriber.take_data(2).await, ["0", "1"]);
        }
        for until in [highest.as_str(), "99999999999999"] {
            let answer = server.get(&format!("/events?until={until}")).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            let page: Value = answer.json().await.unwrap();
            assert_eq!(page["events"].as_array().map(Vec::len), Some(2), "{page}");
        }
    }

    async fn a_quiet_or_an_aged_out_channel_has_no_gap(backend: Backend) {
        let server = TestServer::start_with(backend, &["--history-age", "300ms"]).await;
        let empty = server.subscribe("/stream?channel=empty").await.last_event_id;
        server.publish_numbers("sse", 0..20).await;
        let last = server.history("sse").await.last().unwrap().id.clone();
        until("aged out", async || (server.history("sse").await.len() <= 1).then_some(())).await;
        let mut subscriber = server.subscribe_after("/stream", Some(&last)).await;
        let mut on_empty = server.subscribe_after("/stream?channel=empty", Some(&empty)).await;
        server.publish("sse", "number", "20").await;
        server.publish("empty", "number", "0").await;
        assert_eq!(subscriber.next_event().await.data, "20");
        assert_eq!(on_empty.next_event().await.data, "0");
    }

    async fn history_as_json_pages_through_everything_and_can_be_posted_back(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish("sse", "first", "a\nb \"c\"").await;
        server.publish_numbers("sse", 1..30).await;
        let whole = server.history("sse").await;
        assert_eq!(whole.len(), 30);
        let path = format!("/events?last_event_id={}&limit=7", whole[9].id);
        let page: Value = server.get(&path).await.unwrap().json().await.unwrap();
        let ids: Vec<&str> = page["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(ids, whole[10..17].iter().map(|event| event.id.as_str()).collect::<Vec<_>>());
        assert_eq!((page["next"].as_str(), page["more"].as_bool()), (Some(whole[16].id.as_str()), Some(true)));

        let lines = server.http.get(server.at("/events")).header("accept", "application/x-ndjson").send().await.unwrap();
        assert_eq!(lines.headers()["content-type"], "application/x-ndjson");
        let lines = lines.text().await.unwrap();
        let posted = server.http.post(server.at("/events?channel=copy")).header("content-type", "application/x-ndjson");
        let answer: Value = posted.body(lines).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["count"], 30);
        let copy = server.history("copy").await;
        let content = |events: &[TestEvent]| {
            events.iter().map(|event| (event.event.clone(), event.data.clone())).collect::<Vec<_>>()
        };
        assert_eq!(content(&copy), content(&whole));
        assert_eq!((answer["first_id"].as_str(), answer["last_id"].as_str()), (Some(&*copy[0].id), Some(&*copy[29].id)));

        let gap: Value = server.get("/events?last_event_id=5-5").await.unwrap().json().await.unwrap();
        assert_eq!((gap["gap"]["reason"].as_str(), gap["events"].as_array().map(Vec::len)), (Some("unknown"), Some(30)));
    }
}
