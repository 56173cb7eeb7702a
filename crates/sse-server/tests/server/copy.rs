//! `sse-server copy`: a reader that resumes at the new server misses and repeats nothing, and gets the
//! gaps that the old server would have sent.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{
    KilledWhenDropped, ProgramOutput, Proxy, RedisServer, TestServer, ended, output_at_start, run,
    server_command, until,
};

/// An embedded log, and the Redis to which it is copied.
struct Move {
    old: TestServer,
    redis: RedisServer,
    directory: TempDir,
}

impl Move {
    async fn start(flags: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let old = TestServer::on_directory(&directory.path().join("log"), flags).await;
        Self {
            old,
            redis: RedisServer::start().await,
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn copy_command(&self, from: &Path) -> Command {
        copy_command(from, &self.redis.url())
    }

    async fn copy(&self) -> ProgramOutput {
        run(&mut self.copy_command(&self.path("log"))).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.old.http.request(method, self.old.at(path));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {response:?}");
        response.json().await.unwrap_or_default()
    }
}

fn copy_command(from: &Path, to: &str) -> Command {
    let mut command = server_command();
    command
        .arg("copy")
        .arg("--from")
        .arg(from)
        .args(["--to", to]);
    command
}

#[track_caller]
fn assert_output(output: &ProgramOutput, code: i32, part: &str) {
    let text = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code, Some(code), "{text}");
    assert!(text.contains(part), "no {part:?} in {text}");
}

/// What a reader gets that resumes at each position: the gap and the events, or nothing more.
async fn answers(server: &TestServer, positions: &[(String, String)]) -> Vec<Value> {
    let mut answers = Vec::new();
    for (channel, position) in positions {
        let path = format!("/events?channel={channel}&last_event_id={position}");
        let response = server.get(&path).await.unwrap();
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap_or_default();
        let stream = server
            .http
            .get(server.at(&format!("/stream?channel={channel}")));
        let stream = stream
            .header("last-event-id", position)
            .send()
            .await
            .unwrap();
        answers.push(json!({
            "at": format!("{channel} after {position}"),
            "status": status,
            "gap": body["gap"],
            "events": body["events"],
            "stream": stream.status().as_u16(),
        }));
    }
    answers
}

/// Publishes with a key; returns the response.
async fn publish_keyed(server: &TestServer, key: &str) -> Value {
    let request = server.http.post(server.at("/event/click?channel=keyed"));
    let request = request.header("idempotency-key", key).body("x");
    let response = request.header("content-type", "text/plain").send().await;
    response.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_position_of_a_stopped_log_has_the_same_answer_over_redis() {
    let mut site = Move::start(&["--history-events", "20"]).await;
    let old = &site.old;
    let mut positions: Vec<(String, String)> = Vec::new();
    let mut add = |channel: &str, position: &str| {
        positions.push((channel.to_owned(), position.to_owned()));
    };
    // Trimmed, so that only the newest 20 are kept.
    for number in 0..30 {
        let id = old.publish("trimmed", "number", &number.to_string()).await;
        add("trimmed", &id);
        add("trimmed", &format!("@{id}"));
    }
    for number in 0..3 {
        let id = old.publish("whole", "number", &number.to_string()).await;
        add("whole", &id);
        add("whole", &format!("@{id}"));
    }
    for position in ["0-0", "1-1", "9999999999999-0", "@1-1"] {
        for channel in ["trimmed", "whole", "closed", "again", "never", "made"] {
            add(channel, position);
        }
    }
    for channel in ["closed", "deleted", "again"] {
        add(channel, &old.publish(channel, "number", "first").await);
    }
    let closed = site.send(
        Method::POST,
        "/channels/closed/close",
        Some(json!({"reason": "completed"})),
    );
    add("closed", closed.await["id"].as_str().unwrap());
    for channel in ["deleted", "again"] {
        site.send(Method::DELETE, &format!("/channels/{channel}"), None)
            .await;
        // It waits for the next incarnation.
        add(
            channel,
            &old.subscribe(&format!("/stream?channel={channel}"))
                .await
                .last_event_id,
        );
    }
    add("again", &old.publish("again", "number", "second").await);
    let settings = json!({"ttl": "1h", "history_events": 5});
    let made = site
        .send(Method::PUT, "/channels/made", Some(settings))
        .await;
    let keyed = publish_keyed(old, "k1").await;
    // Text that Redis and Lua could change.
    let odd = "é\u{0}\n\"\\ \u{1f600}";
    old.publish("whole", "é", odd).await;
    let expected = answers(old, &positions).await;
    site.old.stop("TERM").await;

    let output = site.copy().await;
    assert_output(&output, 0, "the copy is complete");
    assert_output(&output, 0, "1 deletions");
    let new = TestServer::node(&site.redis, &["--history-events", "20"]).await;
    for (found, expected) in answers(&new, &positions).await.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    // A retry of a publish is the one that was copied, and new ids follow the old ones.
    let again = publish_keyed(&new, "k1").await;
    assert_eq!(again["id"], keyed["id"], "{again}");
    let fresh = new.publish("whole", "number", "4").await;
    let mut reader = new
        .subscribe_after("/stream?channel=whole", Some("0-0"))
        .await;
    let data = reader.take_data(5).await;
    assert_eq!(data, ["0", "1", "2", odd, "4"]);
    assert_eq!(reader.last_event_id, fresh);
    let described: Value = new
        .get("/channels/made")
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    for setting in ["ttl", "history_events"] {
        assert_eq!(described["settings"][setting], made["settings"][setting]);
    }
    let refused = new.try_publish("closed", "number", "x").await.unwrap();
    assert_eq!(refused.status(), StatusCode::CONFLICT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_is_continued_and_no_server_starts_before_that() {
    let mut site = Move::start(&[]).await;
    for part in 0..20 {
        site.old
            .publish_numbers("big", part * 1000..(part + 1) * 1000)
            .await;
    }
    site.old.publish("small", "number", "0").await;
    let expected = site.old.history("big").await;
    site.old.stop("TERM").await;
    let proxy = Proxy::start(site.redis.port()).await;
    proxy.delay(std::time::Duration::from_millis(20));
    let mut command = copy_command(&site.path("log"), &proxy.redis_url());
    let mut copy = KilledWhenDropped(command.spawn().unwrap());
    let copied = async || match site.redis.run("XLEN sse:{big}").await {
        redis::Value::Int(copied) => copied,
        other => panic!("{other:?}"),
    };
    until("some events are copied", async || {
        (copied().await > 0).then_some(())
    })
    .await;
    proxy.silence();
    copy.0.kill().unwrap();
    copy.0.wait().unwrap();
    assert!(copied().await < 20_000, "the copy was cut off");

    let url = site.redis.url();
    let mut node = server_command();
    node.args(["--redis-url", &url]);
    let output = output_at_start(&mut node, &site.directory).await;
    assert_output(&output, 1, "unfinished copy");
    assert_output(&site.copy().await, 0, "2 channels with 20001 events");
    let new = TestServer::node(&site.redis, &[]).await;
    assert_eq!(new.history("big").await, expected);
    assert_eq!(new.history("small").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_with_other_channels_of_the_same_names_is_left_as_it_is() {
    let mut site = Move::start(&[]).await;
    site.old.publish("a", "number", "old").await;
    let output = site.copy().await;
    assert_output(&output, 1, "a server uses the data directory");
    let mut other = TestServer::node(&site.redis, &[]).await;
    other.publish("a", "number", "other").await;
    site.old.stop("TERM").await;
    assert_output(&site.copy().await, 1, "nodes use this Redis");
    other.stop("TERM").await;
    site.redis.run("DEL sse:nodes").await;
    assert_output(&site.copy().await, 1, "no copy has made it");
    other.restart().await;
    assert_eq!(other.history("a").await[0].data, "other");
    // Another prefix is empty, and a copy that is complete can be repeated.
    for _ in 0..2 {
        let log = site.path("log");
        let mut command = site.copy_command(&log);
        let output = run(command.args(["--redis-prefix", "sse:copy:"])).await;
        assert_output(&output, 0, "1 channels with 1 events");
    }
    // A node has published, so the log is no longer the one that was copied.
    let flags = ["--redis-prefix", "sse:copy:"];
    let mut new = TestServer::node(&site.redis, &flags).await;
    new.publish("a", "number", "new").await;
    new.stop("TERM").await;
    site.redis.run("DEL sse:copy:nodes").await;
    let log = site.path("log");
    let mut command = site.copy_command(&log);
    let output = run(command.args(flags)).await;
    assert_output(&output, 1, "events that the log does not have");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_log_or_no_target_is_rejected() {
    let directory = TempDir::new().unwrap();
    let output = run(&mut copy_command(directory.path(), "redis://127.0.0.1:1")).await;
    assert_output(&output, 1, "there is no log");
    let output = run(&mut copy_command(directory.path(), "http://localhost")).await;
    assert_output(&output, 2, "redis://");
    let output = run(&mut copy_command(
        Path::new("http://localhost"),
        "redis://localhost",
    ))
    .await;
    assert_output(&output, 2, "--follow");
    let mut command = copy_command(directory.path(), "redis://localhost");
    assert_output(
        &run(command.arg("--follow")).await,
        2,
        "URL of a running server",
    );
}

/// A copy that follows a running server.
struct Following {
    child: KilledWhenDropped,
    output: PathBuf,
}

impl Following {
    fn start(site: &Move, flags: &[&str]) -> Self {
        let output = site.path("output");
        let file = File::create(&output).unwrap();
        let mut command = copy_command(Path::new(&site.old.url), &site.redis.url());
        let errors = file.try_clone().unwrap();
        let command = command
            .arg("--follow")
            .args(flags)
            .stdout(file)
            .stderr(errors);
        Self {
            child: KilledWhenDropped(command.spawn().unwrap()),
            output,
        }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }

    async fn caught_up(&self) {
        until("the copy has caught up", async || {
            self.text().contains("caught up").then_some(())
        })
        .await;
    }

    async fn ended(mut self) -> (Option<i32>, String) {
        let code = ended(&mut self.child.0).await.code();
        (code, self.text())
    }
}

/// Publishes to several channels until `stop`; returns what was acknowledged, by channel.
async fn publish_until_refused(server: &TestServer) -> Vec<Vec<String>> {
    let publish = async |channel: usize| {
        let mut acknowledged = Vec::new();
        loop {
            let data = acknowledged.len().to_string();
            let sent = server
                .try_publish(&format!("c{channel}"), "number", &data)
                .await;
            match sent {
                Ok(response) if response.status() == StatusCode::OK => acknowledged.push(data),
                Ok(_) | Err(_) => return acknowledged,
            }
        }
    };
    futures::future::join_all((0..4).map(publish)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_follows_a_server_with_publishes_until_it_stops() {
    let mut site = Move::start(&[]).await;
    site.old.publish_numbers("before", 0..1000).await;
    let data_dir = site.path("log").display().to_string();
    let following = Following::start(&site, &["--finish-from", &data_dir]);
    let mut reader = site
        .old
        .subscribe_after("/stream?channel=c0", Some("0-0"))
        .await;
    let (acknowledged, (mut seen, configured)) = {
        let publishing = publish_until_refused(&site.old);
        let switching = async {
            following.caught_up().await;
            let seen = reader.take_data(5).await;
            // What has no id is copied too.
            let ttl = Some(json!({"ttl": "2h"}));
            let configured = site.send(Method::PUT, "/channels/c0", ttl).await;
            site.send(Method::DELETE, "/channels/before", None).await;
            site.old.signal("TERM");
            (seen, configured)
        };
        tokio::join!(publishing, switching)
    };
    assert!(ended(site.old.child()).await.success());
    let (code, text) = following.ended().await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("the copy is complete"), "{text}");

    let new = TestServer::node(&site.redis, &[]).await;
    for (channel, expected) in acknowledged.iter().enumerate() {
        let found = new.history(&format!("c{channel}")).await;
        let found: Vec<&String> = found.iter().map(|event| &event.data).collect();
        // A publish whose response was lost can be stored as well.
        assert!(found.len() <= expected.len() + 1, "{channel}");
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(found, expected)| *found == expected)
        );
        assert!(
            found.len() >= expected.len(),
            "channel c{channel} misses events"
        );
    }
    let position = reader.last_event_id.clone();
    let mut resumed = new
        .subscribe_after("/stream?channel=c0", Some(&position))
        .await;
    let rest = acknowledged[0].len() - seen.len();
    seen.extend(resumed.take_data(rest).await);
    assert_eq!(seen, acknowledged[0]);
    let described: Value = new.get("/channels/c0").await.unwrap().json().await.unwrap();
    assert_eq!(described["settings"]["ttl"], configured["settings"]["ttl"]);
    let deleted = new.get("/channels/before").await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_completes_a_copy_and_without_it_the_rest_comes_from_the_directory() {
    let mut site = Move::start(&[]).await;
    site.old.publish("a", "number", "0").await;
    let following = Following::start(&site, &[]);
    following.caught_up().await;
    site.old.publish("a", "number", "1").await;
    let pid = following.child.0.id().to_string();
    let kill = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(kill.success());
    let (code, text) = following.ended().await;
    assert_eq!(code, Some(0), "{text}");
    // The server still accepts publishes.
    site.old.publish("a", "number", "2").await;
    site.old.stop("TERM").await;
    assert_output(&site.copy().await, 0, "1 events and 0 keys were copied now");
    let new = TestServer::node(&site.redis, &[]).await;
    let data: Vec<_> = new
        .history("a")
        .await
        .into_iter()
        .map(|event| event.data)
        .collect();
    assert_eq!(data, ["0", "1", "2"]);
}
