//! Start parameters of a stream: the oldest event, a time, or the newest `n` events.

use std::cell::Cell;

use reqwest::StatusCode;
use serde_json::Value;
use sse_proto::{EventId, units::time_text};

use crate::common::{RedisServer, Subscriber, TestServer, refusal, until, within};

fn ms(id: &str) -> u64 {
    id.parse::<EventId>().unwrap().ms
}

/// Publishes numbers one by one until `stop` is set.
async fn keep_publishing(server: &TestServer, from: usize, stop: &Cell<bool>) {
    for number in from.. {
        if stop.get() {
            return;
        }
        server.publish("sse", "number", &number.to_string()).await;
    }
}

async fn events(server: &TestServer, query: &str) -> Value {
    let answer = server.get(&format!("/events?{query}")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{query}");
    answer.json().await.unwrap()
}

fn data_of(answer: &Value) -> Vec<&str> {
    answer["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["data"].as_str().unwrap())
        .collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

crate::on_every_broker! {
    async fn from_oldest_sends_all_history_and_then_new_events(backend: Backend) {
        let server = TestServer::start_with(backend, &["--tail-events", "5"]).await;
        let mut early = server.subscribe("/stream?from=oldest").await;
        server.publish_numbers("sse", 0..300).await;
        let mut late = server.subscribe("/stream?from=oldest").await;
        assert!(late.last_event_id.starts_with('@'), "{}", late.last_event_id);
        server.publish("sse", "number", "300").await;
        for subscriber in [&mut early, &mut late] {
            assert_eq!(subscriber.take_data(301).await, numbers(0..301));
        }
        assert_eq!(data_of(&events(&server, "from=oldest&limit=2").await), ["0", "1"]);
    }

    async fn last_n_sends_the_newest_n_and_then_new_events_during_publishing(backend: Backend) {
        let server = TestServer::start_with(backend, &["--tail-events", "5"]).await;
        server.publish_numbers("sse", 0..50).await;
        let stop = Cell::new(false);
        let subscribing = async {
            for last in [0, 1, 7, 49, 50, 60, 200] {
                let mut subscriber = server.subscribe(&format!("/stream?last={last}")).await;
                let opening = subscriber.last_event_id.clone();
                let data = subscriber.take_data(20).await;
                let first: usize = data[0].parse().unwrap();
                assert_eq!(data, numbers(first..first + 20), "last={last}");
                // Exactly this number of events is between the start and the end of the earlier
                // history.
                let before: Value = events(&server, &format!("last_event_id={opening}&limit=10000")).await;
                assert!(before["gap"].is_null() && data_of(&before).len() >= last.min(first + 20), "last={last}");
            }
            stop.set(true);
        };
        futures::future::join(keep_publishing(&server, 50, &stop), subscribing).await;
        let count = server.history("sse").await.len();
        for last in [1, 7, count - 1, count, count + 5] {
            let mut subscriber = server.subscribe(&format!("/stream?last={last}")).await;
            let first = count.saturating_sub(last);
            assert_eq!(subscriber.take_data(count - first).await, numbers(first..count), "last={last}");
            let answer = events(&server, &format!("last={last}")).await;
            assert_eq!(data_of(&answer), numbers(first..count));
            assert_eq!(answer["more"], false);
        }
    }

    async fn last_n_counts_only_events_that_match_the_filter(backend: Backend) {
        let server = TestServer::start_with(backend, &["--tail-events", "5"]).await;
        let line = |number: usize| {
            let kind = if number.is_multiple_of(700) { "rare" } else { "number" };
            format!(r#"{{"event":"{kind}","data":"{number}"}}"#)
        };
        let lines: Vec<String> = (0..3500).map(line).collect();
        assert_eq!(server.try_publish_batch("sse", lines.join("\n")).await.unwrap().status(), StatusCode::OK);
        for (last, expected) in [(2, vec!["2100", "2800"]), (9, vec!["0", "700", "1400", "2100", "2800"])] {
            let mut rare = server.subscribe(&format!("/stream?event=rare&last={last}")).await;
            assert_eq!(rare.take_data(expected.len()).await, expected);
            assert_eq!(data_of(&events(&server, &format!("event=rare&last={last}")).await), expected);
        }
        let mut none = server.subscribe("/stream?event=none&last=3").await;
        server.publish("sse", "none", "at last").await;
        assert_eq!(none.next_event().await.data, "at last");
    }

    async fn last_n_counts_back_from_the_requested_end(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish_numbers("sse", 0..40).await;
        server.publish("sse", "rare", "40").await;
        let all = server.history("sse").await;
        for (query, expected) in [
            (format!("last=1&until={}", all[20].id), 20..21),
            (format!("last=3&until={}", all[20].id), 18..21),
            (format!("last=3&event=number&until={}", all[40].id), 37..40),
            (format!("last=99&until={}", all[2].id), 0..3),
            ("last=2&until=99999999999999".to_owned(), 39..41),
            ("last=2&until=0-1".to_owned(), 0..0),
            (format!("last=2&event=rare&until={}", all[39].id), 0..0),
        ] {
            let page = events(&server, &query).await;
            assert_eq!(data_of(&page), numbers(expected.clone()), "{query}");
            assert!(page["gap"].is_null(), "{query}: {page}");
            if query.contains("until=99") {
                continue; // such a stream does not end
            }
            let stream = server.get(&format!("/stream?{query}")).await.unwrap();
            let text = within("the end of the stream", stream.text()).await.unwrap();
            let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            assert_eq!(data, numbers(expected), "{query}");
        }
    }

    async fn filtered_pages_of_history_join_without_a_hole(backend: Backend) {
        let server = TestServer::start(backend).await;
        let kind = |number: usize| match number {
            _ if number.is_multiple_of(900) => "rare",
            _ if number.is_multiple_of(2) => "even",
            _ => "odd",
        };
        let lines = (0..4000).map(|number| format!(r#"{{"event":"{}","data":"{number}"}}"#, kind(number)));
        let response = server.try_publish_batch("sse", lines.collect::<Vec<_>>().join("\n")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        for (query, kinds) in [("event=rare", &["rare"][..]), ("event=even&event=rare", &["even", "rare"]), ("event=x", &[])] {
            let expected: Vec<String> =
                (0..4000).filter(|number| kinds.contains(&kind(*number))).map(|number| number.to_string()).collect();
            for limit in [1, 2, 23, 700, 10_000] {
                if expected.len() > 100 * limit {
                    continue;
                }
                let (mut got, mut path) = (Vec::new(), format!("{query}&limit={limit}"));
                loop {
                    let page = events(&server, &path).await;
                    let data = data_of(&page);
                    assert!(data.len() <= limit && page["gap"].is_null(), "{path}: {page}");
                    got.extend(data.into_iter().map(ToOwned::to_owned));
                    if page["more"] == false {
                        break;
                    }
                    path = format!("{query}&limit={limit}&last_event_id={}", page["next"].as_str().unwrap());
                }
                assert_eq!(got, expected, "{query} by {limit}");
            }
        }
        // With an end, and as lines.
        let all = server.history("sse").await;
        let answer = events(&server, &format!("event=rare&until={}", all[1800].id)).await;
        assert_eq!(data_of(&answer), ["0", "900", "1800"]);
        assert_eq!(answer["more"], false);
        let lines = server.http.get(server.at("/events?event=rare&limit=2")).header("accept", "application/x-ndjson");
        assert_eq!(lines.send().await.unwrap().text().await.unwrap().lines().count(), 2);
    }

    async fn since_sends_events_from_that_time_on(backend: Backend) {
        let server = TestServer::start(backend).await;
        let first = server.publish("sse", "number", "0").await;
        // The second event is in a later millisecond of the log's clock.
        let second = until("another millisecond", async || {
            let id = server.publish("sse", "number", "1").await;
            (ms(&id) > ms(&first)).then_some(id)
        })
        .await;
        let all: Vec<_> = server.history("sse").await;
        let late = all.iter().filter(|event| ms(&event.id) >= ms(&second)).count();
        let forms = |ms: u64| [ms.to_string(), time_text(ms), time_text(ms).replace('Z', "+00:00")];
        for since in forms(ms(&second)) {
            let mut subscriber = server.subscribe(&format!("/stream?since={since}")).await;
            assert_eq!(subscriber.next_event().await.id, all[all.len() - late].id, "{since}");
        }
        for since in forms(ms(&first)).into_iter().chain(["10m", "1d", "100000000", "1960-01-01T00:00:00Z"].map(ToOwned::to_owned)) {
            let mut subscriber = server.subscribe(&format!("/stream?since={since}")).await;
            assert_eq!(subscriber.next_event().await.id, first, "{since}");
            assert_eq!(events(&server, &format!("since={since}")).await["events"].as_array().unwrap().len(), all.len());
        }
        for since in ["0s".to_owned(), time_text(ms(&second) + 600_000)] {
            let before = server.history("sse").await.len();
            let mut subscriber = server.subscribe(&format!("/stream?since={since}")).await;
            let data = format!("new {before}");
            server.publish("sse", "number", &data).await;
            assert_eq!(subscriber.next_event().await.data, data, "{since}");
        }
    }

    async fn since_before_trimmed_events_is_a_gap_and_since_the_oldest_is_not(backend: Backend) {
        let server = TestServer::start_with(backend, &["--history-events", "100"]).await;
        let first = server.publish("sse", "number", "first").await;
        for start in (0..1000).step_by(100) {
            server.publish_numbers("sse", start..start + 100).await;
        }
        let kept = server.history("sse").await;
        let oldest = &kept[0].id;
        for since in [ms(&first).to_string(), "1d".to_owned(), "100000000.5".to_owned()] {
            let mut cut = server.subscribe(&format!("/stream?since={since}")).await;
            let opening = cut.last_event_id.clone();
            let answer = events(&server, &format!("since={since}&limit=1")).await;
            assert_eq!((answer["gap"]["reason"].as_str(), answer["gap"]["oldest"].as_str()), (Some("trimmed"), Some(&**oldest)));
            // A client that is cut before the gap gets the gap again.
            let mut again = server.subscribe_after("/stream?since=0s", Some(&opening)).await;
            for subscriber in [&mut cut, &mut again] {
                let gap = subscriber.next_event().await;
                let reported: Value = serde_json::from_str(&gap.data).unwrap();
                assert_eq!((gap.event.as_str(), reported["reason"].as_str()), ("gap", Some("trimmed")));
                assert_eq!((reported["after"].as_str(), reported["oldest"].as_str()), (Some(&*opening), Some(&**oldest)));
                assert_eq!(subscriber.next_event().await.id, *oldest);
            }
        }
        // The millisecond after the oldest event, if there is one, is later than all trimmed
        // events.
        if let Some(later) = kept.iter().find(|event| ms(&event.id) > ms(oldest)) {
            let mut subscriber = server.subscribe(&format!("/stream?since={}", ms(&later.id))).await;
            assert_eq!(subscriber.next_event().await.id, later.id);
        }
        let mut newest = server.subscribe("/stream?from=oldest").await;
        assert_eq!(newest.next_event().await.id, *oldest);
    }

    async fn since_is_not_a_gap_if_nothing_was_trimmed(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut empty = server.subscribe("/stream?channel=empty&since=1d").await;
        server.publish_numbers("sse", 0..3).await;
        let mut subscriber = server.subscribe("/stream?since=1d").await;
        assert_eq!(subscriber.take_data(3).await, ["0", "1", "2"]);
        server.publish("empty", "number", "0").await;
        assert_eq!(empty.next_event().await.data, "0");
        assert!(events(&server, "since=1d").await["gap"].is_null());
    }

    async fn a_url_has_at_most_one_start_and_the_header_overrides_it(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish_numbers("sse", 0..5).await;
        let ids: Vec<String> = server.history("sse").await.into_iter().map(|event| event.id).collect();
        for path in ["/stream", "/events"] {
            for two in ["last=1&since=5m", "from=oldest&last=1", "since=5m&from=oldest", "last_event_id=1-0&last=1"] {
                let refused = server.get(&format!("{path}?{two}")).await.unwrap();
                let message = refusal(refused, StatusCode::BAD_REQUEST, "invalid_parameter").await;
                assert!(message.contains("give one of them"), "{message}");
            }
            for (bad, named) in [("last=10001", "10000"), ("from=newest", "oldest"), ("since=soon", "10m"), ("since=0", "from=oldest"), ("until=10m", "2026"), ("until=10", "\"10\" is not a time, like 2026"), ("until=0", "\"0\" is not a time, like 2026")] {
                let answer = server.get(&format!("{path}?{bad}")).await.unwrap();
                let message = refusal(answer, StatusCode::BAD_REQUEST, "invalid_parameter").await;
                assert!(message.contains(named), "{message}");
            }
        }
        for start in ["from=oldest", "since=1d", "last=4", &format!("last_event_id={}", ids[0])] {
            let path = format!("/stream?{start}");
            assert_eq!(server.subscribe_after(&path, Some(&ids[2])).await.take_data(2).await, ["3", "4"]);
            let polyfill = format!("{path}&lastEventId={}", ids[3]);
            assert_eq!(server.subscribe(&polyfill).await.take_data(1).await, ["4"]);
            assert_eq!(server.subscribe_after(&polyfill, Some(&ids[2])).await.take_data(2).await, ["3", "4"]);
            let history = server.http.get(server.at(&format!("/events?{start}"))).header("last-event-id", &ids[2]);
            let history: Value = history.send().await.unwrap().json().await.unwrap();
            assert_eq!(data_of(&history), ["3", "4"]);
        }
    }

    async fn pages_of_history_continue_from_any_start(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish_numbers("sse", 0..40).await;
        for (start, first) in [("from=oldest", 0), ("last=25", 15), ("since=1d", 0)] {
            let mut page = events(&server, &format!("{start}&limit=7")).await;
            let mut data: Vec<String> = data_of(&page).into_iter().map(ToOwned::to_owned).collect();
            while page["more"] == true {
                page = events(&server, &format!("last_event_id={}&limit=7", page["next"].as_str().unwrap())).await;
                assert!(page["gap"].is_null());
                data.extend(data_of(&page).into_iter().map(ToOwned::to_owned));
            }
            assert_eq!(data, numbers(first..40), "{start}");
        }
    }

    async fn links_to_the_next_page_lead_through_all_lines(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish_numbers("sse", 0..30).await;
        let oldest = server.history("sse").await[0].id.clone();
        let rare = server.publish("sse", "rare & <odd>", "30").await;
        // More than one page of events that the filter drops.
        server.publish("far", "number", "0").await;
        for _ in 0..5 {
            server.publish("far", "other", &"x".repeat(1 << 20)).await;
        }
        let last = server.publish("far", "number", "1").await;
        for (start, expected, has_empty_pages) in [
            ("from=oldest&limit=7", 0..31, false),
            ("last=25&limit=10&event=number", 5..30, false),
            (&format!("last_event_id={oldest}&limit=29&until={rare}"), 1..31, false),
            ("event=rare%20%26%20%3Codd%3E&limit=1", 30..31, false),
            (&format!("channel=far&event=none&event=number&until={last}"), 0..2, false),
            ("channel=far&event=none", 0..0, true),
        ] {
            let (mut got, mut empty_pages) = (Vec::new(), 0);
            let mut next = Some(format!("/events?{start}"));
            while let Some(page) = next {
                let request = server.http.get(server.at(&page)).header("accept", "application/x-ndjson");
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK, "{page}");
                next = next_page(&answer);
                let text = answer.text().await.unwrap();
                empty_pages += usize::from(text.is_empty() && next.is_some());
                let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
                got.extend(lines.map(|line| line["data"].as_str().unwrap().to_owned()));
                assert!(got.len() <= expected.len() && empty_pages < 10, "{start}: no end: {got:?}");
            }
            assert_eq!(got, numbers(expected), "{start}");
            assert_eq!(empty_pages > 0, has_empty_pages, "{start}: {empty_pages} empty pages");
        }
        // JSON has the same link, and no link if nothing is left.
        let answer = server.get("/events?limit=30").await.unwrap();
        assert!(next_page(&answer).unwrap().starts_with("/events?limit=30&last_event_id="));
        let link = answer.headers()["link"].to_str().unwrap();
        // Behind a proxy the path may have a prefix that the server does not see.
        assert!(link.starts_with("<?limit=30&"), "{link}");
        let answer = server.get("/events").await.unwrap();
        assert_eq!(next_page(&answer), None);
    }
}

/// The path and query of the next page, to which the `Link` header leads from the requested URL.
fn next_page(answer: &reqwest::Response) -> Option<String> {
    let link = answer.headers().get("link")?.to_str().unwrap();
    let target = link
        .strip_prefix('<')
        .unwrap()
        .strip_suffix(">; rel=\"next\"")
        .unwrap();
    let next = answer.url().join(target).unwrap();
    Some(format!("{}?{}", next.path(), next.query().unwrap()))
}

/// The next block with an id.
async fn next_id(subscriber: &mut Subscriber) -> String {
    loop {
        if subscriber.next_block().await.contains("id: ") {
            return subscriber.last_event_id.clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_opened_without_redis_waits_for_its_start_and_misses_nothing() {
    let mut redis = RedisServer::start().await;
    let server =
        TestServer::node(&redis, &["--heartbeat", "50ms", "--redis-timeout", "500ms"]).await;
    server.publish_numbers("sse", 0..20).await;
    redis.kill();
    let mut waiting = Vec::new();
    for start in [
        "last=5",
        "from=oldest",
        "since=1d",
        "last=5&channel=sse&channel=other",
    ] {
        waiting.push((start, server.subscribe(&format!("/stream?{start}")).await));
    }
    redis.restart().await;
    for (start, subscriber) in &mut waiting {
        let first = if start.contains("last=5") { 15 } else { 0 };
        let id = next_id(subscriber).await;
        assert_eq!(id.contains("other="), start.contains("other"), "{id}");
        assert_eq!(
            subscriber.take_data(20 - first).await,
            numbers(first..20),
            "{start}"
        );
    }
}
