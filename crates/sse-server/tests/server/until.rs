//! A stream with `until` ends once no further event can appear before that end, and a client that
//! reconnects gets a 204.

use std::cell::Cell;

use reqwest::StatusCode;
use serde_json::Value;
use sse_proto::{EventId, units::time_text};

use crate::common::{Subscriber, TestEvent, TestServer};

fn id(event: &TestEvent) -> EventId {
    event.id.parse().unwrap()
}

/// Returns all events until the stream ends.
async fn rest(subscriber: &mut Subscriber) -> Vec<TestEvent> {
    let mut events = Vec::new();
    while let Some(block) = subscriber.try_next_block().await {
        let field = |name: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        if let (Some(id), Some(event), Some(data)) = (field("id"), field("event"), field("data")) {
            events.push(TestEvent {
                id: id.to_owned(),
                event: event.to_owned(),
                data: data.to_owned(),
            });
        }
    }
    events
}

/// Follows a URL as an `EventSource` does, until the server responds with 204; returns all events.
///
/// The 204 comes on the second connection, or later if the log did not answer in time.
async fn follow(server: &TestServer, path: &str) -> Vec<TestEvent> {
    let (mut events, mut last_event_id) = (Vec::new(), String::new());
    for _ in 0..10 {
        let request = server
            .http
            .get(server.at(path))
            .header("last-event-id", &last_event_id);
        let answer = request.send().await.unwrap();
        if answer.status() == StatusCode::NO_CONTENT {
            return events;
        }
        assert_eq!(answer.status(), StatusCode::OK);
        let mut subscriber = Subscriber::new(answer);
        events.extend(rest(&mut subscriber).await);
        last_event_id = subscriber.last_event_id;
    }
    panic!("{path}: no 204; last id {last_event_id}");
}

/// The time in `ms` milliseconds, by the clock that all servers of a test share.
fn in_ms(ms: u64) -> u64 {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    u64::try_from(since_epoch.as_millis()).unwrap() + ms
}

async fn publish_until(server: &TestServer, channel: &str, stop: &Cell<bool>) {
    for number in 0.. {
        if stop.get() {
            return;
        }
        server.publish(channel, "number", &number.to_string()).await;
    }
}

crate::on_every_broker! {
    async fn a_stream_until_an_id_sends_all_events_up_to_it_and_ends(backend: Backend) {
        let server = TestServer::start_with(backend, &["--tail-events", "5"]).await;
        server.publish_numbers("sse", 0..600).await;
        let all = server.history("sse").await;
        for nth in [0, 1, 300, 598, 599] {
            let events = follow(&server, &format!("/stream?from=oldest&until={}", all[nth].id)).await;
            assert_eq!(events, all[..=nth]);
            let answer: Value = server.get(&format!("/events?until={}", all[nth].id)).await.unwrap().json().await.unwrap();
            assert_eq!((answer["events"].as_array().map(Vec::len), answer["more"].as_bool()), (Some(nth + 1), Some(false)));
        }
        // Ends between two events, with a filter that no event passes, and before all events.
        for (query, count) in [(format!("{}-999", id(&all[9]).ms), None), ("0-1".to_owned(), Some(0)), ("0-0".to_owned(), Some(0))] {
            let events = follow(&server, &format!("/stream?from=oldest&until={query}")).await;
            assert!(count.is_none_or(|count| events.len() == count), "{query}: {}", events.len());
        }
        let events = follow(&server, &format!("/stream?event=none&last=5&until={}", all[599].id)).await;
        assert_eq!(events, []);
        let events = follow(&server, &format!("/stream?event=none&from=oldest&until={}", all[300].id)).await;
        assert_eq!(events, []);
        let reply: Value = server.get("/events?limit=9&until=0-0").await.unwrap().json().await.unwrap();
        assert_eq!((reply["events"].as_array().map(Vec::len), reply["more"].as_bool()), (Some(0), Some(false)));
    }

    async fn no_event_before_the_end_is_published_after_the_stream_ended(backend: Backend) {
        let server = TestServer::start_with(backend, &["--tail-events", "20"]).await;
        let bound = in_ms(400);
        let path = format!("/stream?channel=busy&from=oldest&until={}", time_text(bound));
        let stop = Cell::new(false);
        let following = async {
            let seen = futures::future::join_all((0..5).map(|_| follow(&server, &path))).await;
            stop.set(true);
            seen
        };
        let ((), seen) = futures::future::join(publish_until(&server, "busy", &stop), following).await;
        let all = server.history("busy").await;
        let within: Vec<TestEvent> = all.iter().filter(|event| id(event).ms <= bound).cloned().collect();
        assert!(!within.is_empty());
        for events in seen {
            assert_eq!(events, within);
        }
    }

    async fn on_quiet_channels_the_clock_ends_the_stream(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish("some", "number", "0").await;
        let bound = in_ms(300);
        for path in ["/stream?channel=none", "/stream?channel=some", "/stream?channel=some&channel=none&last=3"] {
            let events = follow(&server, &format!("{path}&until={bound}")).await;
            assert_eq!(events.len(), usize::from(path.contains("last")), "{path}");
        }
        // If the end is long past, the first connection already gets a 204.
        let answer = server.get(&format!("/stream?channel=some&until={bound}")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(server.get("/stream?channel=some&until=5-5").await.unwrap().status(), StatusCode::NO_CONTENT);
        let mut to_come = server.subscribe(&format!("/stream?channel=some&until={}", in_ms(600_000))).await;
        server.publish("some", "number", "1").await;
        assert_eq!(to_come.next_event().await.data, "1");
    }

    async fn several_channels_end_when_each_has_ended(backend: Backend) {
        let server = TestServer::start_with(backend, &["--tail-events", "5"]).await;
        server.publish_numbers("a", 0..30).await;
        server.publish_numbers("b", 0..200).await;
        server.publish_numbers("a", 30..60).await;
        let (a, b) = (server.history("a").await, server.history("b").await);
        let bound = id(&b[150]);
        let path = format!("/stream?channel=a&channel=b&from=oldest&until={bound}");
        let events = follow(&server, &path).await;
        let within = |events: &[TestEvent]| events.iter().filter(|event| id(event) <= bound).count();
        assert_eq!(events.len(), within(&a) + within(&b));
    }

    async fn a_gap_is_sent_before_the_end(backend: Backend) {
        let server = TestServer::start(backend).await;
        server.publish_numbers("sse", 0..5).await;
        let all = server.history("sse").await;
        let path = format!("/stream?until={}", all[1].id);
        for stranger in ["5-5", "garbage"] {
            let mut subscriber = server.subscribe_after(&path, Some(stranger)).await;
            let events = rest(&mut subscriber).await;
            let kinds: Vec<&str> = events.iter().map(|event| event.event.as_str()).collect();
            assert_eq!(kinds, ["gap", "number", "number"]);
            let again = server.http.get(server.at(&path)).header("last-event-id", &subscriber.last_event_id);
            assert_eq!(again.send().await.unwrap().status(), StatusCode::NO_CONTENT);
        }
        // All kept events are after the end.
        let mut beyond = server.subscribe_after("/stream?until=5-5", Some("5-4")).await;
        let events = rest(&mut beyond).await;
        assert_eq!(events.iter().map(|event| event.event.as_str()).collect::<Vec<_>>(), ["gap"]);
        let again = server.http.get(server.at("/stream?until=5-5")).header("last-event-id", &beyond.last_event_id);
        assert_eq!(again.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_a_log_declared_over_stays_over_after_a_restart() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut server = TestServer::on_directory(&directory.path().join("log"), &[]).await;
    let first = server.publish("sse", "number", "0").await;
    let bound = EventId::new(in_ms(0), 5);
    let events = follow(&server, &format!("/stream?from=oldest&until={bound}")).await;
    assert_eq!(events.len(), 1);
    server.kill_and_restart().await;
    let next = server.publish("sse", "number", "1").await;
    assert!(next.parse::<EventId>().unwrap() > bound && first < next);
}

/// Counts how often the file of the log changes while streams end in the past.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_in_the_past_writes_nothing_to_the_log() {
    let directory = tempfile::TempDir::new().unwrap();
    let server = TestServer::on_directory(directory.path(), &[]).await;
    server.publish("sse", "click", "x").await;
    let content = || {
        let files = std::fs::read_dir(directory.path()).unwrap();
        let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.collect::<Vec<_>>()
    };
    let (mut before, mut changes) = (content(), 0);
    for _ in 0..50 {
        let path = format!("/stream?until={}", in_ms(0) - 1);
        let response = server.get(&path).await.unwrap();
        assert!(response.status().is_success());
        drop(response);
        let after = content();
        changes += usize::from(after != before);
        before = after;
    }
    // The clock is saved by a sweep, every ten seconds.
    assert!(changes <= 2, "{changes} changes");
}
