//! Channels over HTTP: lists, settings, conditions, ends and deletions. Each stream gets the end of a
//! channel once, after its last event, and a client that reconnects there gets a 204.

use std::{fs, time::Duration};

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Backend, Subscriber, TestEvent, TestServer, refusal, until};

const BROKERS: [Backend; 3] = [Backend::Memory, Backend::Embedded, Backend::Redis];

async fn send(server: &TestServer, method: Method, path: &str, body: Value) -> Response {
    let request = server.http.request(method, server.at(path)).json(&body);
    request.send().await.unwrap()
}

/// Publishes with parameters and headers.
async fn post(server: &TestServer, query: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = server
        .http
        .post(server.at(&format!("/event/click?{query}")));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.header("content-type", "text/plain").body("x");
    request.send().await.unwrap()
}

async fn close(server: &TestServer, channel: &str, reason: &str) -> Response {
    let path = format!("/channels/{channel}/close");
    send(server, Method::POST, &path, json!({ "reason": reason })).await
}

async fn json_of(response: Response) -> Value {
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn etag(response: &Response) -> String {
    response.headers()["etag"].to_str().unwrap().to_owned()
}

/// The types and data of everything until the stream ends.
async fn rest(subscriber: &mut Subscriber) -> Vec<TestEvent> {
    let mut events = Vec::new();
    while let Some(block) = subscriber.try_next_block().await {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name));
            line.map(ToOwned::to_owned)
        };
        if let (Some(event), Some(data)) = (field("event: "), field("data: ")) {
            let id = field("id: ").unwrap_or_default();
            events.push(TestEvent { id, event, data });
        }
    }
    events
}

fn kinds(events: &[TestEvent]) -> Vec<&str> {
    events.iter().map(|event| &*event.event).collect()
}

/// The status of a stream that resumes.
async fn resumed(server: &TestServer, path: &str, id: &str) -> StatusCode {
    let request = server.http.get(server.at(path)).header("last-event-id", id);
    request.send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn live_and_late_subscribers_get_all_events_and_then_the_end() {
    for backend in BROKERS {
        let server = TestServer::start(backend).await;
        let mut live = server.subscribe("/stream?channel=a").await;
        let mut filtered = server
            .subscribe("/stream?channel=a&event=other&envelope=json")
            .await;
        let first = server.publish("a", "click", "1").await;
        let closed = json_of(post(&server, "channel=a&close=completed", &[]).await).await;
        let (last, end) = (
            closed["id"].as_str().unwrap(),
            closed["end"].as_str().unwrap(),
        );
        let data = format!(r#"{{"channel":"a","reason":"completed","last":"{last}"}}"#);
        let expected = TestEvent {
            id: end.to_owned(),
            event: "end".to_owned(),
            data,
        };
        let events = rest(&mut live).await;
        assert_eq!(
            (kinds(&events), &events[2]),
            (vec!["click", "click", "end"], &expected)
        );
        assert_eq!(rest(&mut filtered).await, std::slice::from_ref(&expected));
        for (path, count) in [
            ("/stream?channel=a&from=oldest", 3),
            ("/stream?channel=a", 1),
            ("/stream?channel=a&last=0", 1),
            ("/stream?channel=a&last=1", 2),
            ("/stream?channel=a&since=2100-01-01T00:00:00Z", 1),
            ("/stream?channel=a&from=oldest&event=none", 1),
            (
                "/stream?channel=a&from=oldest&until=2100-01-01T00:00:00Z",
                3,
            ),
        ] {
            let events = rest(&mut server.subscribe(path).await).await;
            assert_eq!(
                (events.len(), events.last()),
                (count, Some(&expected)),
                "{path}"
            );
        }
        let mut resumed_first = server
            .subscribe_after("/stream?channel=a", Some(&first))
            .await;
        assert_eq!(kinds(&rest(&mut resumed_first).await), ["click", "end"]);
        assert_eq!(
            resumed(&server, "/stream?channel=a", end).await,
            StatusCode::NO_CONTENT
        );
        assert_eq!(
            resumed(&server, "/stream?channel=a", last).await,
            StatusCode::OK
        );
        // An earlier end of the stream excludes the end of the channel.
        let path = format!("/stream?channel=a&from=oldest&until={first}");
        assert_eq!(
            kinds(&rest(&mut server.subscribe(&path).await).await),
            ["click"]
        );
        let history = json_of(server.get("/events?channel=a&limit=2").await.unwrap()).await;
        assert_eq!(
            (
                history["events"].as_array().unwrap().len(),
                &history["more"]
            ),
            (2, &json!(true))
        );
        let history = server.history("a").await;
        assert_eq!(
            (kinds(&history), &history[2]),
            (vec!["click", "click", "end"], &expected)
        );
        let error = refusal(
            post(&server, "channel=a", &[]).await,
            StatusCode::CONFLICT,
            "channel_closed",
        )
        .await;
        assert!(error.contains("completed"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_several_channels_ends_with_the_last_of_them() {
    for backend in BROKERS {
        let server = TestServer::start(backend).await;
        for channel in ["a", "b"] {
            server.publish(channel, "click", "0").await;
        }
        let path = "/stream?channel=a&channel=b&from=oldest";
        let mut stream = server.subscribe(path).await;
        let seen = [stream.next_event().await, stream.next_event().await];
        assert_eq!(kinds(&seen), ["click", "click"]);
        json_of(close(&server, "a", "done").await).await;
        let end_of_a = stream.next_event().await;
        assert!(end_of_a.event == "end" && end_of_a.data.contains(r#""channel":"a""#));
        server.publish("b", "click", "1").await;
        assert_eq!(stream.next_event().await.event, "click");
        // The end of `a` is not sent again after a reconnect.
        let cursor = stream.last_event_id.clone();
        let mut again = server.subscribe_after(path, Some(&cursor)).await;
        json_of(close(&server, "b", "done").await).await;
        for stream in [&mut stream, &mut again] {
            let events = rest(stream).await;
            assert_eq!(kinds(&events), ["end"]);
            assert!(events[0].data.contains(r#""channel":"b""#));
        }
        assert_eq!(
            resumed(&server, path, &stream.last_event_id).await,
            StatusCode::NO_CONTENT
        );
        let mut late = server.subscribe(path).await;
        let mut events = kinds(&rest(&mut late).await).join(" ");
        events = events.replace("click ", "");
        assert_eq!(events, "end end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_keep_two_writers_apart() {
    for backend in BROKERS {
        let server = TestServer::start(backend).await;
        let first = post(&server, "channel=a", &[("if-none-match", "*")]).await;
        let tag = etag(&first);
        let id = json_of(first).await["id"].as_str().unwrap().to_owned();
        assert_eq!(tag, format!("\"{id}\""));
        for headers in [("if-none-match", "*"), ("if-match", "\"1-0\"")] {
            let refused = post(&server, "channel=a", &[headers]).await;
            assert_eq!(etag(&refused), tag);
            let message =
                refusal(refused, StatusCode::PRECONDITION_FAILED, "condition_failed").await;
            assert!(message.contains(&id), "{message}");
        }
        let next = post(&server, "channel=a", &[("if-match", &tag)]).await;
        let newest = etag(&next);
        let described = server
            .http
            .head(server.at("/channels/a"))
            .send()
            .await
            .unwrap();
        assert_eq!(
            (next.status(), etag(&described)),
            (StatusCode::OK, newest.clone())
        );
        let batch = server
            .http
            .post(server.at("/events?channel=a&close=completed"));
        let batch = batch
            .header("if-match", newest)
            .header("content-type", "application/x-ndjson");
        let batch = batch.body("{\"event\":\"a\",\"data\":1}\n{\"event\":\"a\",\"data\":2}");
        let closed = json_of(batch.send().await.unwrap()).await;
        assert!(
            closed["end"].is_string() && closed["count"] == 2,
            "{closed}"
        );
        for bad in ["W/\"1-0\"", "\"1-0\", \"2-0\"", "*", "1-0"] {
            let refused = post(&server, "channel=b", &[("if-match", bad)]).await;
            refusal(refused, StatusCode::BAD_REQUEST, "invalid_header").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_identifies_the_end_as_well() {
    let server = TestServer::start(Backend::Memory).await;
    let key = [("idempotency-key", "\"k\"")];
    let query = "channel=a&close=completed";
    let first = json_of(post(&server, query, &key).await).await;
    assert_eq!(json_of(post(&server, query, &key).await).await, first);
    for other in ["channel=a", "channel=a&close=failed"] {
        let refused = post(&server, other, &key).await;
        refusal(
            refused,
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
        )
        .await;
    }
    let again = json_of(close(&server, "a", "completed").await).await;
    assert_eq!(again["id"], first["end"]);
    refusal(
        close(&server, "a", "failed").await,
        StatusCode::CONFLICT,
        "channel_closed",
    )
    .await;
    for bad in ["Done", "deleted", ""] {
        refusal(
            close(&server, "b", bad).await,
            StatusCode::BAD_REQUEST,
            "invalid_request",
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_ends_streams_and_is_reported_to_those_that_resume() {
    for backend in BROKERS {
        let server = TestServer::start(backend).await;
        let first = server.publish("a", "click", "1").await;
        server.publish("a", "click", "2").await;
        let mut live = server.subscribe("/stream?channel=a").await;
        let deleted = json_of(send(&server, Method::DELETE, "/channels/a", json!({})).await).await;
        let end = deleted["id"].as_str().unwrap();
        let events = rest(&mut live).await;
        assert_eq!(kinds(&events), ["end"]);
        assert!(events[0].id == end && events[0].data.contains(r#""reason":"deleted""#));
        assert_eq!(
            resumed(&server, "/stream?channel=a", end).await,
            StatusCode::NO_CONTENT
        );
        let mut late = server
            .subscribe_after("/stream?channel=a", Some(&first))
            .await;
        let events = rest(&mut late).await;
        assert_eq!(kinds(&events), ["gap", "end"]);
        assert!(
            events[0].data.contains(r#""reason":"deleted""#),
            "{events:?}"
        );
        let response = server.get("/channels/a").await.unwrap();
        refusal(response, StatusCode::NOT_FOUND, "no_such_channel").await;
        // A subscriber that waits for the next incarnation gets it.
        let mut waiting = server.subscribe("/stream?channel=a").await;
        let new = server.publish("a", "click", "3").await;
        assert_eq!(waiting.next_event().await.id, new);
        let mut late = server
            .subscribe_after("/stream?channel=a", Some(&first))
            .await;
        assert_eq!(late.next_event().await.event, "gap");
        assert_eq!(late.next_event().await.id, new);
        let again = send(&server, Method::DELETE, "/channels/none", json!({})).await;
        refusal(again, StatusCode::NOT_FOUND, "no_such_channel").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_configured_described_and_listed() {
    for backend in BROKERS {
        let server = TestServer::start(backend).await;
        let put = async |path: &str, body| send(&server, Method::PUT, path, body).await;
        let created = put("/channels/a.1", json!({"ttl": "2h", "history_events": 2})).await;
        assert_eq!(created.status(), StatusCode::CREATED);
        let again = put("/channels/a.1", json!({"ttl": "2h", "history_events": 2})).await;
        assert_eq!(again.status(), StatusCode::OK);
        server.publish_numbers("a.1", 0..5).await;
        post(&server, "channel=a.2&ttl=5s", &[]).await;
        post(&server, "channel=a.2&ttl=50s", &[]).await;
        let _stream = server.subscribe("/stream?channel=a.1").await;
        // A stream is listed once its socket is with its thread.
        let described = until("the stream is counted", async || {
            let described = json_of(server.get("/channels/a.1").await.unwrap()).await;
            (described["streams"] == 1).then_some(described)
        })
        .await;
        assert_eq!(
            (
                &described["state"],
                &described["events"],
                &described["streams"]
            ),
            (&json!("open"), &json!(2), &json!(1)),
            "{described}"
        );
        assert_eq!(
            described["settings"]["ttl"],
            json!({"value": "2h", "source": "channel"})
        );
        assert_eq!(
            described["settings"]["ttl_closed"],
            json!({"value": null, "source": "flags"})
        );
        assert!(described["expires"].is_string());
        assert_eq!(described["bytes"].is_u64(), backend != Backend::Redis);
        let listed = json_of(server.get("/channels?prefix=a.&limit=1").await.unwrap()).await;
        assert_eq!(
            (&listed["next"], &listed["more"]),
            (&json!("a.1"), &json!(true))
        );
        let listed = json_of(server.get("/channels?prefix=a.&after=a.1").await.unwrap()).await;
        assert_eq!(
            (
                &listed["channels"][0]["channel"],
                &listed["channels"][0]["settings"]["ttl"]["value"]
            ),
            (&json!("a.2"), &json!("5s"))
        );
        assert_eq!(
            (&listed["more"], &listed["next"]),
            (&json!(false), &Value::Null)
        );
        for (path, body) in [
            ("/channels/a", json!({"ttl": "0s"})),
            ("/channels/a", json!({"nonsense": 1})),
            ("/channels/..", json!({})),
        ] {
            let status = put(path, body).await.status();
            assert!(status.is_client_error(), "{path}: {status}");
        }
        refusal(
            put("/channels/a%20b", json!({})).await,
            StatusCode::BAD_REQUEST,
            "invalid_channel",
        )
        .await;
        let refused = post(&server, "channel=a&ttl=x", &[]).await;
        refusal(refused, StatusCode::BAD_REQUEST, "invalid_parameter").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_come_from_the_configuration_and_can_be_replaced() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sse.toml");
    fs::write(
        &path,
        "[[channel]]\nmatch = \"runs.*\"\nttl_closed = \"300ms\"\nmax = { ttl = \"1h\" }\n\
         headers = { \"X-Kind\" = \"run\" }\n\
         [[channel]]\nmatch = \"jobs.*\"\ncreate = \"explicit\"\n",
    )
    .unwrap();
    let config = path.display().to_string();
    let server = TestServer::start_with(Backend::Embedded, &["--config", &config]).await;
    let refused = post(&server, "channel=jobs.1", &[]).await;
    refusal(refused, StatusCode::NOT_FOUND, "no_such_channel").await;
    let created = send(&server, Method::PUT, "/channels/jobs.1", json!({})).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    json_of(post(&server, "channel=jobs.1", &[]).await).await;
    let refused = post(&server, "channel=runs.1&ttl=2h", &[]).await;
    let message = refusal(refused, StatusCode::BAD_REQUEST, "invalid_request").await;
    assert!(message.contains("1h"), "{message}");
    json_of(post(&server, "channel=runs.1&close=completed", &[]).await).await;
    let stream = server
        .get("/stream?channel=runs.1&from=oldest")
        .await
        .unwrap();
    assert_eq!(stream.headers()["x-kind"], "run");
    until("the run is deleted", async || {
        let status = server.get("/channels/runs.1").await.unwrap().status();
        (status == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    fs::write(&path, "[[channel]]\nmatch = \"*\"\nhistory_events = 1\n").unwrap();
    server.signal("HUP");
    until("the new classes apply", async || {
        // Before that, only PUT creates the channel.
        if post(&server, "channel=jobs.2", &[]).await.status() != StatusCode::OK {
            return None;
        }
        let described = json_of(server.get("/channels/jobs.2").await.unwrap()).await;
        (described["settings"]["history_events"]["source"] == "class").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_an_end_is_there_with_its_last_event_or_not_at_all() {
    kill_during_ends(5).await;
}

/// The same at many more moments; only `scripts/test --full` runs it.
mod full {
    #[tokio::test(flavor = "multi_thread")]
    async fn after_a_kill_at_any_moment_an_end_is_whole() {
        super::kill_during_ends(200).await;
    }
}

async fn kill_during_ends(rounds: u64) {
    let mut server = TestServer::start(Backend::Embedded).await;
    for round in 0..rounds {
        let (closed, deleted) = (format!("c{round}"), format!("d{round}"));
        server.publish(&deleted, "click", "1").await;
        let query = format!("channel={closed}&close=completed");
        let path = format!("/channels/{deleted}");
        let requests = async {
            tokio::join!(
                post(&server, &query, &[]),
                send(&server, Method::DELETE, &path, json!({}))
            )
        };
        // Some rounds are killed before the responses, and some after.
        let cut = Duration::from_micros(300 * round % 4000);
        let _ = tokio::time::timeout(cut, requests).await;
        server.kill_and_restart().await;
        let history = server.history(&closed).await;
        let kinds = kinds(&history);
        assert!(
            kinds.is_empty() || kinds == ["click", "end"],
            "{round}: {kinds:?}"
        );
        let history = server.history(&deleted).await;
        let described = server.get(&path).await.unwrap().status();
        let is_there = described == StatusCode::OK;
        assert_eq!(history.len(), usize::from(is_there), "{round}: {history:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_redis_a_channel_has_no_limit_of_bytes() {
    let server = TestServer::start(Backend::Redis).await;
    let bytes = send(
        &server,
        Method::PUT,
        "/channels/a",
        json!({"history_bytes": 5}),
    )
    .await;
    refusal(bytes, StatusCode::BAD_REQUEST, "invalid_request").await;
    server.publish("a", "click", "1").await;
}

/// The page whose examples are run.
const PAGE: &str = include_str!("../../../../docs/http-api.md");

/// Returns whether `text` has the form of `pattern`, in which `…` is any text.
fn has_form(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut last = "";
    for part in parts {
        last = part;
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    last.is_empty() || rest.is_empty() || text.ends_with(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_docs_do_what_they_show() {
    let server = TestServer::start(Backend::Embedded).await;
    let mut count = 0;
    for block in PAGE.split("<!-- a test runs this -->\n```sh\n").skip(1) {
        let (block, _) = block.split_once("\n```").unwrap();
        for line in block.lines() {
            let (command, expected) = line.split_once("  # ").unwrap();
            let command = command.replace("http://127.0.0.1:5000", &server.url);
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &command]);
            let output = tokio::task::block_in_place(|| shell.output()).unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let text = text.replace(['\r', '\n'], "");
            assert!(
                has_form(&text, expected.trim()),
                "{command}\n{text}\n{expected}"
            );
            count += 1;
        }
    }
    assert!(count >= 10, "{count} examples");
}
