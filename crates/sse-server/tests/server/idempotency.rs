//! A publish with a key can be sent again and is stored once, however often it is sent, to any
//! node, and after any failure in between.

use std::{
    time::Duration,
    {
        cell::Cell,
        collections::{BTreeSet, HashMap},
    },
};

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{
    Backend, RedisServer, RequestBuilder, TestServer, all_at_once, logged_cause, refusal, until,
    within,
};

const KEY: &str = "idempotency-key";

/// A publish of text with a key.
fn keyed(server: &TestServer, channel: &str, key: &str, data: &str) -> RequestBuilder {
    let request = server
        .http
        .post(server.at(&format!("/event/click?channel={channel}")));
    request
        .header("content-type", "text/plain")
        .header(KEY, key)
        .body(data.to_owned())
}

fn batch(server: &TestServer, channel: &str, lines: &[&str]) -> RequestBuilder {
    let request = server
        .http
        .post(server.at(&format!("/events?channel={channel}")));
    request
        .header("content-type", "application/x-ndjson")
        .body(lines.join("\n"))
}

async fn sent(request: RequestBuilder) -> Response {
    within("an answer", request.send())
        .await
        .expect("an answer")
}

/// The response body of a request that must succeed.
async fn answer(request: RequestBuilder) -> Value {
    let response = sent(request).await;
    let status = response.status();
    let answer: Value = response.json().await.expect("JSON");
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// The id in the response to a publish.
async fn id(request: RequestBuilder) -> String {
    answer(request).await["id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

/// The data of a channel's events.
async fn stored(server: &TestServer, channel: &str) -> Vec<String> {
    server
        .history(channel)
        .await
        .into_iter()
        .map(|event| event.data)
        .collect()
}

/// Metrics: the number of published events and of deduplicated events.
async fn counted(server: &TestServer) -> [String; 2] {
    [
        server.metric("sse_events_published_total").await,
        server.metric("sse_events_deduplicated_total").await,
    ]
    .map(|count| count.to_string())
}

fn ms(id: &str) -> u64 {
    id.split_once('-')
        .and_then(|(ms, _)| ms.parse().ok())
        .expect("an id")
}

crate::on_every_broker! {
    async fn the_same_key_gets_the_first_id_and_adds_nothing(backend: Backend) {
        let server = TestServer::start(backend).await;
        let mut subscriber = server.subscribe("/stream").await;
        let first = id(keyed(&server, "sse", "k", "x")).await;
        server.publish("sse", "click", "between").await;
        for _ in 0..3 {
            assert_eq!(id(keyed(&server, "sse", "k", "x")).await, first);
        }
        let other = id(keyed(&server, "sse", "K", "x")).await;
        assert_ne!(other, first);
        assert_eq!(subscriber.take_data(3).await, ["x", "between", "x"]);
        assert_eq!(stored(&server, "sse").await, ["x", "between", "x"]);
        assert_eq!(counted(&server).await, ["3", "3"]);
    }

    async fn many_concurrent_publishes_with_one_key_store_one_event(backend: Backend) {
        let server = TestServer::start(backend).await;
        for round in 0..5 {
            let key = format!("round-{round}");
            let ids: BTreeSet<String> =
                all_at_once(0..40, |_| id(keyed(&server, "sse", &key, &key))).await.into_iter().collect();
            assert_eq!(ids.len(), 1, "{ids:?}");
        }
        assert_eq!(stored(&server, "sse").await.len(), 5);
    }

    async fn a_key_reused_for_other_content_is_a_422(backend: Backend) {
        let server = TestServer::start(backend).await;
        let first = id(keyed(&server, "sse", "k", "x")).await;
        let typed = server.http.post(server.at("/event/view")).header("content-type", "text/plain");
        for request in [
            keyed(&server, "sse", "k", "y"),
            keyed(&server, "sse", "k", ""),
            typed.header(KEY, "k").body("x"),
            server.http.post(server.at("/event/click")).header(KEY, "k"),
            server.http.get(server.at("/event/click")).header(KEY, "k"),
            batch(&server, "sse", &[r#"{"event":"click","data":"x"}"#; 2]).header(KEY, "k"),
        ] {
            let message = refusal(sent(request).await, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused").await;
            assert!(message.contains("the Idempotency-Key was used"), "{message}");
        }
        assert_eq!(id(keyed(&server, "sse", "k", "x")).await, first);
        assert_eq!(stored(&server, "sse").await, ["x"]);
    }

    async fn each_channel_has_its_own_keys(backend: Backend) {
        let server = TestServer::start(backend).await;
        let first = id(keyed(&server, "a", "k", "x")).await;
        assert_ne!(id(keyed(&server, "b", "k", "y")).await, first);
        assert_eq!((stored(&server, "a").await, stored(&server, "b").await), (vec!["x".into()], vec!["y".into()]));
    }

    async fn a_repeated_get_counts_as_the_same_content(backend: Backend) {
        let server = TestServer::start(backend).await;
        let get = || server.http.get(server.at("/event/view")).header(KEY, "k");
        let post = || server.http.post(server.at("/event/view")).header(KEY, "k");
        for _ in 0..2 {
            assert_eq!(answer(get()).await, json!({}));
        }
        let only = server.history("sse").await;
        assert_eq!(only.len(), 1);
        // A POST without a body is an event with empty data.
        refusal(sent(post()).await, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused").await;
        assert_eq!(server.history("sse").await, only);
    }

    async fn json_that_differs_only_in_white_space_is_the_same_content(backend: Backend) {
        let server = TestServer::start(backend).await;
        let post = |json: &'static str| {
            let request = server.http.post(server.at("/event/view")).header("content-type", "application/json");
            request.header(KEY, "k").body(json)
        };
        assert_eq!(id(post("{ \"a\": 1 }")).await, id(post("{\"a\":1}")).await);
        refusal(sent(post("{\"a\":2}")).await, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused").await;
    }

    async fn after_the_window_a_key_is_new(backend: Backend) {
        let server = TestServer::start_with(backend, &["--idempotency-window", "300ms"]).await;
        let first = id(keyed(&server, "sse", "k", "x")).await;
        let second = until("the window is over", async || {
            let again = id(keyed(&server, "sse", "k", "x")).await;
            (again != first).then_some(again)
        })
        .await;
        // Both times are from the log's clock, so the window was not shorter than configured.
        assert!(ms(&second) >= ms(&first) + 300, "{first}, then {second}");
        // After the window the key accepts other content too.
        let third = until("the window is over", async || {
            let response = sent(keyed(&server, "sse", "k", "y")).await;
            if response.status() == StatusCode::OK {
                return Some(response.json::<Value>().await.unwrap());
            }
            refusal(response, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused").await;
            None
        })
        .await;
        assert!(ms(third["id"].as_str().unwrap()) >= ms(&second) + 300, "{second}, then {third}");
        assert_eq!(stored(&server, "sse").await, ["x", "x", "y"]);
    }

    async fn a_key_over_the_limit_is_rejected_and_displaces_no_known_key(backend: Backend) {
        let server = TestServer::start_with(backend, &["--idempotency-keys", "3", "--idempotency-window", "1h"]).await;
        let mut ids = Vec::new();
        for key in ["a", "b", "c"] {
            ids.push(id(keyed(&server, "sse", key, key)).await);
        }
        let refused = sent(keyed(&server, "sse", "d", "d")).await;
        let retry_after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=3600).contains(&retry_after), "{retry_after}");
        let message = refusal(refused, StatusCode::SERVICE_UNAVAILABLE, "too_many_idempotency_keys").await;
        assert!(message.contains("--idempotency-keys"), "{message}");
        let lines = [r#"{"event":"a","data":1}"#, r#"{"event":"a","data":1,"key":"e"}"#];
        refusal(sent(batch(&server, "sse", &lines)).await, StatusCode::SERVICE_UNAVAILABLE, "too_many_idempotency_keys").await;
        let lines = ["f", "g", "h", "i"].map(|key| format!(r#"{{"event":"a","data":1,"key":"{key}"}}"#));
        let never = sent(batch(&server, "sse", &lines.each_ref().map(String::as_str))).await;
        let message = refusal(never, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
        assert!(message.contains("3 keys") && message.contains("--idempotency-keys"), "{message}");
        for (key, first) in ["a", "b", "c"].iter().zip(&ids) {
            assert_eq!(id(keyed(&server, "sse", key, key)).await, *first);
        }
        // Publishes without a key and publishes to other channels still work.
        server.publish("sse", "click", "without").await;
        id(keyed(&server, "other", "d", "d")).await;
        assert_eq!(stored(&server, "sse").await, ["a", "b", "c", "without"]);
    }

    async fn expired_keys_make_room(backend: Backend) {
        let server = TestServer::start_with(backend, &["--idempotency-keys", "5", "--idempotency-window", "200ms"]).await;
        for number in 0..20 {
            let key = number.to_string();
            until("a key has expired", async || {
                let response = sent(keyed(&server, "sse", &key, &key)).await;
                if response.status() == StatusCode::OK {
                    return Some(());
                }
                refusal(response, StatusCode::SERVICE_UNAVAILABLE, "too_many_idempotency_keys").await;
                None
            })
            .await;
        }
        assert_eq!(stored(&server, "sse").await, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    async fn a_header_covers_the_whole_batch(backend: Backend) {
        let server = TestServer::start(backend).await;
        let lines = [r#"{"event":"a","data":"1"}"#, r#"{"event":"b","data":{"x": 2}}"#, r#"{"event":"a","data":"1"}"#];
        let first = answer(batch(&server, "sse", &lines).header(KEY, "k")).await;
        server.publish("sse", "click", "between").await;
        let ids: Vec<String> = server.history("sse").await.into_iter().map(|event| event.id).collect();
        assert_eq!(first, json!({ "first_id": ids[0], "last_id": ids[2], "count": 3 }));
        assert_eq!(answer(batch(&server, "sse", &lines).header(KEY, "k")).await, first);
        // The same events in a JSON array.
        let array = server.http.post(server.at("/events")).header("content-type", "application/json");
        assert_eq!(answer(array.header(KEY, "k").body(format!("[{}]", lines.join(",")))).await, first);
        for other in [&lines[..2], &[lines[1], lines[0], lines[2]], &[lines[0], lines[1], r#"{"event":"a","data":"2"}"#]] {
            let response = sent(batch(&server, "sse", other).header(KEY, "k")).await;
            refusal(response, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused").await;
        }
        assert_eq!(server.history("sse").await.len(), 4);
    }

    async fn lines_with_keys_are_each_stored_once(backend: Backend) {
        let server = TestServer::start(backend).await;
        let one = id(keyed(&server, "sse", "one", "1")).await;
        let lines = [
            r#"{"event":"click","data":"1","key":"one"}"#,
            "",
            r#"{"event":"click","data":"2","key":"two"}"#,
            r#"{"event":"click","data":"without"}"#,
            r#"{"event":"click","data":"2","key":"two"}"#,
        ];
        let first = answer(batch(&server, "sse", &lines)).await;
        let kept = server.history("sse").await;
        assert_eq!(kept.iter().map(|event| &*event.data).collect::<Vec<_>>(), ["1", "2", "without"]);
        let (two, without) = (&kept[1].id, &kept[2].id);
        let expected = json!({ "first_id": one, "last_id": two, "count": 4, "ids": [one, two, without, two] });
        assert_eq!(first, expected);
        // Sent again, the batch adds only the event without a key.
        let again = answer(batch(&server, "sse", &lines)).await;
        let kept = server.history("sse").await;
        assert_eq!(kept.iter().map(|event| &*event.data).collect::<Vec<_>>(), ["1", "2", "without", "without"]);
        assert_eq!(again["ids"], json!([one, two, kept[3].id, two]));
        assert_eq!(counted(&server).await, ["4", "5"]);
    }

    async fn a_batch_with_a_reused_key_adds_no_event(backend: Backend) {
        let server = TestServer::start(backend).await;
        id(keyed(&server, "sse", "one", "1")).await;
        let good = r#"{"event":"click","data":"new","key":"new"}"#;
        for (bad, place) in [
            ([good, "", r#"{"event":"click","data":"2","key":"one"}"#], "line 3"),
            ([good, r#"{"event":"click","data":"other","key":"new"}"#, ""], "line 2"),
        ] {
            let response = sent(batch(&server, "sse", &bad)).await;
            let message = refusal(response, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused").await;
            assert!(message.contains(&format!("the key of {place} was used")), "{message}");
        }
        assert_eq!(stored(&server, "sse").await, ["1"]);
        // The keys of a rejected batch remain free.
        id(keyed(&server, "sse", "new", "something else")).await;
    }

    async fn a_key_outlives_its_event(backend: Backend) {
        let server = TestServer::start_with(backend, &["--history-events", "1"]).await;
        let first = id(keyed(&server, "sse", "k", "x")).await;
        for start in (0..1000).step_by(100) {
            server.publish_numbers("sse", start..start + 100).await;
        }
        assert!(server.history("sse").await.iter().all(|event| event.id != first));
        assert_eq!(id(keyed(&server, "sse", "k", "x")).await, first);
        refusal(sent(keyed(&server, "sse", "k", "y")).await, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused").await;
    }

    async fn a_key_survives_a_restart_of_the_server_if_events_do(backend: Backend) {
        // A log in memory starts empty, so both the key and the event are new.
        let survives = backend != Backend::Memory;
        let mut server = TestServer::start(backend).await;
        let first = id(keyed(&server, "sse", "k", "x")).await;
        server.kill_and_restart().await;
        assert_eq!(id(keyed(&server, "sse", "k", "x")).await == first, survives);
        assert_eq!(server.stop("TERM").await.code(), Some(0));
        server.restart().await;
        assert_eq!(id(keyed(&server, "sse", "k", "x")).await == first, survives);
        refusal(sent(keyed(&server, "sse", "k", "y")).await, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused").await;
        assert_eq!(stored(&server, "sse").await, ["x"]);
    }
}

#[tokio::test]
async fn an_invalid_key_is_a_400() {
    let server = TestServer::start(Backend::Memory).await;
    let long = "k".repeat(256);
    for bad in ["", "a b", &long, "\u{e9}", "a\tb"] {
        let response = sent(keyed(&server, "sse", bad, "x")).await;
        let message = refusal(response, StatusCode::BAD_REQUEST, "invalid_idempotency_key").await;
        assert!(message.contains("1 to 255 visible ASCII"), "{message}");
        let get = server.http.get(server.at("/event/click")).header(KEY, bad);
        refusal(
            sent(get).await,
            StatusCode::BAD_REQUEST,
            "invalid_idempotency_key",
        )
        .await;
        let line = json!({ "event": "click", "data": "x", "key": bad }).to_string();
        let message = refusal(
            sent(batch(&server, "sse", &[&line])).await,
            StatusCode::BAD_REQUEST,
            "invalid_batch",
        )
        .await;
        assert!(
            message.contains("line 1") && message.contains("visible ASCII"),
            "{message}"
        );
    }
    let twice = keyed(&server, "sse", "a", "x").header(KEY, "a");
    refusal(
        sent(twice).await,
        StatusCode::BAD_REQUEST,
        "invalid_idempotency_key",
    )
    .await;
    let both = batch(&server, "sse", &[r#"{"event":"a","data":1,"key":"k"}"#]).header(KEY, "k");
    let message = refusal(
        sent(both).await,
        StatusCode::BAD_REQUEST,
        "invalid_idempotency_key",
    )
    .await;
    assert!(message.contains("one kind"), "{message}");
    assert_eq!(stored(&server, "sse").await, Vec::<String>::new());
    id(keyed(&server, "sse", &"k".repeat(255), "x")).await;
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_send_a_key() {
    let server = TestServer::start_with(
        Backend::Memory,
        &["--publish-origin", "https://app.example"],
    )
    .await;
    let preflight = server
        .http
        .request(reqwest::Method::OPTIONS, server.at("/event/click"));
    let preflight = preflight
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST");
    let response =
        sent(preflight.header("access-control-request-headers", "idempotency-key")).await;
    assert_eq!(response.status(), StatusCode::OK);
}

const AT_ONCE: usize = 60;
/// The client library may wait for ever for a connection that ends while it is opened.
const GIVES_UP_AFTER: Duration = Duration::from_secs(20);

/// Publishes events with keys concurrently, and kills a process once some of them are answered,
/// more in each round. Returns the ids in the responses.
async fn interrupted(server: &TestServer, pid: u32, round: usize) -> HashMap<String, String> {
    let answered = Cell::new(0);
    let publishes = all_at_once(0..AT_ONCE, |number| {
        let (data, answered) = (format!("{round}-{number}"), &answered);
        async move {
            let request = keyed(server, "sse", &data, &data).timeout(GIVES_UP_AFTER);
            let answer: Value = request.send().await.ok()?.json().await.ok()?;
            answered.set(answered.get() + 1);
            Some((data, answer["id"].as_str()?.to_owned()))
        }
    });
    let kill = async {
        until("some answers", async || {
            (answered.get() >= round * 5).then_some(())
        })
        .await;
        let killed = std::process::Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status();
        assert!(killed.expect("kill").success());
    };
    let (outcomes, ()) = futures::future::join(publishes, kill).await;
    outcomes.into_iter().flatten().collect()
}

/// Sends all events again until they are stored. Events that had been answered get the same id.
async fn sent_again(server: &TestServer, round: usize, acknowledged: &HashMap<String, String>) {
    let again = all_at_once(0..AT_ONCE, |number| async move {
        let data = format!("{round}-{number}");
        until("the publish succeeds", async || {
            let answer: Value = keyed(server, "sse", &data, &data)
                .send()
                .await
                .ok()?
                .json()
                .await
                .ok()?;
            Some((data.clone(), answer["id"].as_str()?.to_owned()))
        })
        .await
    })
    .await;
    for (data, id) in again {
        assert_eq!(acknowledged.get(&data).unwrap_or(&id), &id, "{data}");
    }
}

/// Checks that each event was stored exactly once.
async fn assert_each_stored_once(server: &TestServer, rounds: usize) {
    let mut stored = stored(server, "sse").await;
    stored.sort_unstable();
    let all =
        (0..rounds).flat_map(|round| (0..AT_ONCE).map(move |number| format!("{round}-{number}")));
    let mut all: Vec<String> = all.collect();
    all.sort_unstable();
    assert_eq!(stored, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_server_duplicates_no_event() {
    for backend in [Backend::Embedded, Backend::Redis] {
        let mut server = TestServer::start(backend).await;
        for round in 0..8 {
            let acknowledged = interrupted(&server, server.pid(), round).await;
            server.child().wait().unwrap();
            server.restart().await;
            sent_again(&server, round, &acknowledged).await;
        }
        assert_each_stored_once(&server, 8).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_redis_duplicates_no_event() {
    let mut redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &["--redis-timeout", "500ms"]).await;
    for round in 0..5 {
        let acknowledged = interrupted(&server, redis.pid(), round).await;
        redis.kill();
        redis.restart().await;
        sent_again(&server, round, &acknowledged).await;
    }
    assert_each_stored_once(&server, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_one_redis_share_keys() {
    let redis = RedisServer::start().await;
    let nodes = [
        TestServer::node(&redis, &[]).await,
        TestServer::node(&redis, &[]).await,
    ];
    for key in ["a", "b", "c"] {
        let ids = all_at_once(0..20, |number: usize| {
            id(keyed(&nodes[number % 2], "sse", key, key))
        })
        .await;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    // A node loads the script again if Redis no longer has it.
    redis.run("SCRIPT FLUSH").await;
    id(keyed(&nodes[0], "sse", "d", "d")).await;
    refusal(
        sent(keyed(&nodes[1], "sse", "d", "e")).await,
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
    )
    .await;
    assert_eq!(stored(&nodes[1], "sse").await, ["a", "b", "c", "d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_keys_leave_nothing_in_redis() {
    let redis = RedisServer::start().await;
    // The history age determines how often the node trims Redis.
    let server = TestServer::node(
        &redis,
        &["--idempotency-window", "2s", "--history-age", "1s"],
    )
    .await;
    for key in ["a", "b"] {
        id(keyed(&server, "sse", key, key)).await;
    }
    assert_eq!(
        redis.run("ZCARD sse:{sse}:expiries").await,
        ::redis::Value::Int(2)
    );
    until("the keys expire", async || {
        let left = redis.run("EXISTS sse:{sse}:keys sse:{sse}:expiries").await;
        (left == ::redis::Value::Int(0)).then_some(())
    })
    .await;
    // These names have no TTL, because a full Redis might evict names with a TTL early.
    id(keyed(&server, "sse", "a", "b")).await;
    for name in ["sse:{sse}:keys", "sse:{sse}:expiries", "sse:{sse}"] {
        assert_eq!(
            redis.run(&format!("PTTL {name}")).await,
            ::redis::Value::Int(-1),
            "{name}"
        );
    }
}

/// Nodes with different windows leave keys that expire long after later ones, and so does a clock
/// that was ahead for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_a_long_window_does_not_keep_expired_keys() {
    let redis = RedisServer::start().await;
    let node = async |window| {
        TestServer::node(
            &redis,
            &["--idempotency-window", window, "--idempotency-keys", "3"],
        )
        .await
    };
    let (long, middling, short) = (node("1h").await, node("1m").await, node("300ms").await);
    let first = id(keyed(&long, "sse", "long", "x")).await;
    for key in ["a", "b", "c", "d"] {
        until("a key has expired", async || {
            let status = sent(keyed(&short, "sse", key, "x")).await.status();
            (status == StatusCode::OK).then_some(())
        })
        .await;
    }
    assert_eq!(id(keyed(&long, "sse", "long", "x")).await, first);
    // A client that is rejected gets the time at which a key expires.
    for (node, key) in [(&long, "1"), (&long, "2"), (&middling, "3")] {
        id(keyed(node, "full", key, "x")).await;
    }
    let full = sent(keyed(&long, "full", "4", "x")).await;
    let after: u64 = full.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(after <= 60, "{after}");
    refusal(
        full,
        StatusCode::SERVICE_UNAVAILABLE,
        "too_many_idempotency_keys",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_can_be_sent_again_with_its_key() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &["--redis-timeout", "300ms"]).await;
    server.publish("sse", "click", "first").await;
    let message = until("Redis does not answer in time", async || {
        redis.run("CLIENT PAUSE 1500 ALL").await;
        let response = sent(keyed(&server, "sse", "k", "perhaps")).await;
        let answer: Value = response.json().await.unwrap();
        // A node that has missed an answer before does not send the publish at all.
        (answer["error"]["code"] == "outcome_unknown")
            .then(|| answer["error"]["message"].to_string())
    })
    .await;
    assert!(
        message.contains("Idempotency-Key") && message.contains("sent again"),
        "{message}"
    );
    until("the publish succeeds", async || {
        let status = sent(keyed(&server, "sse", "k", "perhaps")).await.status();
        (status == StatusCode::OK).then_some(())
    })
    .await;
    // The earlier command has run by now or never will: Redis runs the commands of a connection in
    // order.
    server.publish("sse", "click", "last").await;
    assert_eq!(stored(&server, "sse").await, ["first", "perhaps", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_still_deduplicates_by_known_keys() {
    let redis = RedisServer::start().await;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let mut on_disk = TestServer::on_directory(&path, &[]).await;
    let over_redis = TestServer::node(&redis, &[]).await;
    let known = [
        id(keyed(&on_disk, "sse", "k", "x")).await,
        id(keyed(&over_redis, "sse", "k", "x")).await,
    ];
    on_disk.stop("TERM").await;
    let on_disk = TestServer::on_directory(&path, &["--disk-reserve", "900PiB"]).await;
    redis.run("CONFIG SET maxmemory 1").await;
    for (server, first) in [&on_disk, &over_redis].into_iter().zip(&known) {
        assert_eq!(id(keyed(server, "sse", "k", "x")).await, *first);
        let new = sent(keyed(server, "sse", "new", "x")).await;
        refusal(new, StatusCode::INSUFFICIENT_STORAGE, "log_full").await;
        let lines = [
            r#"{"event":"click","data":"x","key":"k"}"#,
            r#"{"event":"click","data":"y"}"#,
        ];
        let partly_new = sent(batch(server, "sse", &lines)).await;
        refusal(partly_new, StatusCode::INSUFFICIENT_STORAGE, "log_full").await;
        assert_eq!(stored(server, "sse").await, ["x"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_created_before_keys_existed_is_upgraded() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let mut server = TestServer::on_directory(&path, &[]).await;
    server.publish("sse", "click", "before").await;
    server.stop("TERM").await;
    {
        let database = redb::Database::open(path.join("events.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let tables: Vec<_> = transaction.list_tables().unwrap().collect();
        for table in tables {
            if redb::TableHandle::name(&table).starts_with("key") {
                assert!(transaction.delete_table(table).unwrap());
            }
        }
        transaction.commit().unwrap();
    }
    server.restart().await;
    let first = id(keyed(&server, "sse", "k", "x")).await;
    assert_eq!(id(keyed(&server, "sse", "k", "x")).await, first);
    assert_eq!(stored(&server, "sse").await, ["before", "x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_with_keys_is_not_removed_to_make_room() {
    let redis = RedisServer::start().await;
    let flags = [
        "--channels-max",
        "2",
        "--history-age",
        "200ms",
        "--idempotency-window",
        "1h",
    ];
    for server in [
        TestServer::start_with(Backend::Memory, &flags).await,
        TestServer::node(&redis, &flags).await,
    ] {
        let first = id(keyed(&server, "keyed", "k", "x")).await;
        server.publish("without", "click", "x").await;
        until("the channel without keys is removed", async || {
            (server
                .try_publish("new", "click", "x")
                .await
                .unwrap()
                .status()
                == StatusCode::OK)
                .then_some(())
        })
        .await;
        assert_eq!(stored(&server, "without").await, Vec::<String>::new());
        assert_eq!(id(keyed(&server, "keyed", "k", "x")).await, first);
        assert_eq!(stored(&server, "keyed").await, ["x"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_name_of_another_type_rejects_the_publish_and_stores_nothing() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    for name in ["sse:{sse}", "sse:{sse}:keys", "sse:{sse}:expiries"] {
        redis.run(&format!("SET {name} x")).await;
        let refused = sent(keyed(&server, "sse", "k", "x")).await;
        let message = refusal(
            refused,
            StatusCode::SERVICE_UNAVAILABLE,
            "broker_unavailable",
        )
        .await;
        let cause = logged_cause(&server, &message).await;
        assert!(cause.contains("WRONGTYPE"), "{name}: {message}: {cause}");
        assert!(
            !message.contains("WRONGTYPE") && !message.contains("script"),
            "{message}"
        );
        redis.run(&format!("DEL {name}")).await;
        assert_eq!(
            redis
                .run("EXISTS sse:{sse} sse:{sse}:keys sse:{sse}:expiries")
                .await,
            ::redis::Value::Int(0),
            "{name}"
        );
    }
    id(keyed(&server, "sse", "k", "x")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partly_executed_script_is_an_unknown_outcome() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    // The creation of a channel also needs the command.
    server.publish("sse", "click", "first").await;
    redis.run("ACL SETUSER sse -hset").await;
    let response = sent(keyed(&server, "sse", "k", "x")).await;
    refusal(response, StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown").await;
    assert_eq!(stored(&server, "sse").await, ["first", "x"]);
}
