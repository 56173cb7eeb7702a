//! Copies of the log and their restore: `sse-server backup` and `sse-server restore`.
//!
//! A copy is whole or does not exist, whatever happens to the server meanwhile. After a restore,
//! every reader that can have missed an event gets a gap.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sse_proto::{
    EventId,
    api::{Gap, GapReason, Lost},
};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::common::{
    Backend, ProgramOutput, Subscriber, TestServer, client, output_at_start, refusal, run,
    server_command, until, within,
};

/// A server whose log and copies are in directories of the test.
struct Site {
    server: TestServer,
    directory: TempDir,
}

impl Site {
    async fn start(flags: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let copies = directory.path().join("copies").display().to_string();
        let flags = [&["--backup-dir", &copies], flags].concat();
        let server = TestServer::on_directory(&directory.path().join("log"), &flags).await;
        Self { server, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn copy(&self, name: &str) -> PathBuf {
        self.path("copies").join(name)
    }

    async fn backup(&self, name: &str) -> ProgramOutput {
        run(server_command().args(["backup", &self.server.url, name])).await
    }

    async fn request_backup(&self, name: &str) -> Response {
        let route = self.server.at("/admin/backup");
        let request = self.server.http.post(route).json(&json!({"name": name}));
        request.send().await.unwrap()
    }

    /// Publishes until the guard is dropped. Returns what was acknowledged.
    fn publish_steadily(&self, channel: &'static str) -> Load {
        let is_over = Arc::new(AtomicBool::new(false));
        let (route, until) = (self.server.at("/event/load?channel="), is_over.clone());
        let task = tokio::spawn(async move {
            let http = client().build().unwrap();
            let mut acknowledged = 0;
            while !until.load(Ordering::Relaxed) {
                let request = http.post(format!("{route}{channel}"));
                let request = request.header("content-type", "text/plain");
                let response = request.body(acknowledged.to_string()).send().await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                acknowledged += 1;
            }
            acknowledged
        });
        Load { is_over, task }
    }
}

struct Load {
    is_over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Load {
    async fn stop(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn restore(copy: &Path, directory: &Path) -> ProgramOutput {
    let command = &mut server_command();
    run(command
        .arg("restore")
        .arg(copy)
        .arg("--data-dir")
        .arg(directory))
    .await
}

#[track_caller]
fn assert_output(output: &ProgramOutput, code: i32, part: &str) {
    let text = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code, Some(code), "{text}");
    assert!(text.contains(part), "no {part:?} in {text}");
}

/// Reads the next block with an event, which must be a gap.
async fn next_gap(subscriber: &mut Subscriber) -> Gap {
    let event = subscriber.next_event().await;
    assert_eq!(event.event, "gap", "{event:?}");
    serde_json::from_str(&event.data).unwrap()
}

fn id(text: &str) -> EventId {
    text.parse().unwrap()
}

/// Checks a gap that reports a loss. Returns the range.
#[track_caller]
fn lost_range(gap: &Gap) -> Lost {
    assert_eq!(gap.reason, GapReason::LostTail, "{gap:?}");
    gap.lost.expect("a range")
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_cross_a_restore_get_the_lost_range_and_no_lost_id_is_used_again() {
    let mut site = Site::start(&[]).await;
    let kept = site.server.publish("a", "number", "kept").await;
    site.server.publish("closed", "number", "last").await;
    let close = site
        .server
        .http
        .post(site.server.at("/channels/closed/close"));
    let closed = close.json(&json!({"reason": "completed"})).send().await;
    assert_eq!(closed.unwrap().status(), StatusCode::OK);
    site.server.publish("deleted", "number", "x").await;
    let delete = site.server.http.delete(site.server.at("/channels/deleted"));
    assert_eq!(delete.send().await.unwrap().status(), StatusCode::OK);
    // It waits for the next channel of this name.
    let waiting = site.server.subscribe("/stream?channel=deleted").await;
    let waiting = waiting.last_event_id.clone();
    let load = site.publish_steadily("load");
    assert_output(&site.backup("first").await, 0, "has copied its log");
    let acknowledged = load.stop().await;
    let lost_a = site.server.publish("a", "number", "lost").await;
    let lost_new = site.server.publish("new", "number", "lost").await;
    let lost_again = site.server.publish("deleted", "number", "lost").await;
    site.server.stop("TERM").await;

    let restored = site.path("restored");
    assert_output(
        &restore(&site.copy("first"), &restored).await,
        0,
        "gap record",
    );
    let server = TestServer::on_directory(&restored, &[]).await;
    let fresh = server.publish("a", "number", "fresh").await;
    assert!(id(&fresh) > id(&lost_a), "{fresh} after {lost_a}");

    // Every reader of `a` gets the range once, whether or not it has seen a lost event.
    let mut ranges = Vec::new();
    for position in [&kept, &lost_a] {
        let mut reader = server
            .subscribe_after("/stream?channel=a", Some(position))
            .await;
        ranges.push(lost_range(&next_gap(&mut reader).await));
        let event = reader.next_event().await;
        assert_eq!((&event.id, &*event.data), (&fresh, "fresh"), "{position}");
    }
    let lost = ranges[0];
    assert_eq!(lost, ranges[1]);
    for seen in [&lost_a, &lost_new, &lost_again] {
        assert!(lost.after < id(seen) && id(seen) < lost.before, "{seen}");
    }
    assert!(id(&kept) < lost.after && lost.before < id(&fresh));
    // So does a reader of a channel that the copy has not, or that was deleted.
    for (channel, position) in [
        ("new", "0-0"),
        ("new", &*lost_new),
        ("deleted", &*lost_again),
        ("deleted", &*waiting),
    ] {
        let path = format!("/stream?channel={channel}");
        let mut reader = server.subscribe_after(&path, Some(position)).await;
        let range = lost_range(&next_gap(&mut reader).await);
        assert_eq!(range, lost, "{channel} after {position}");
    }
    for channel in ["new", "deleted"] {
        let next = server.publish(channel, "number", "next").await;
        let path = format!("/stream?channel={channel}&from=oldest");
        let mut reader = server.subscribe(&path).await;
        assert_eq!(reader.next_event().await.id, next);
    }
    // The closed channel has lost nothing.
    let history = server.get("/events?channel=closed").await.unwrap();
    let history: Value = history.json().await.unwrap();
    assert_eq!(history["events"][0]["data"], "last", "{history}");
    // What was published during the copy is in it up to some event.
    let numbers: Vec<String> = server
        .history("load")
        .await
        .into_iter()
        .filter(|event| event.event == "load")
        .map(|event| event.data)
        .collect();
    let expected: Vec<String> = (0..numbers.len())
        .map(|number| number.to_string())
        .collect();
    assert_eq!(numbers, expected);
    assert!(numbers.len() <= acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_an_end_in_the_lost_range_reports_the_loss() {
    let mut site = Site::start(&[]).await;
    let kept = site.server.publish("a", "number", "kept").await;
    assert_output(&site.backup("first").await, 0, "");
    let lost_id = site.server.publish("a", "number", "lost").await;
    site.server.stop("TERM").await;
    let restored = site.path("restored");
    assert_output(&restore(&site.copy("first"), &restored).await, 0, "");
    let server = TestServer::on_directory(&restored, &[]).await;
    let path = format!("/stream?channel=a&until={lost_id}");
    let mut reader = server.subscribe_after(&path, Some(&kept)).await;
    let lost = lost_range(&next_gap(&mut reader).await);
    assert!(lost.after < id(&lost_id) && id(&lost_id) < lost.before);
    reader.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_restored_log_is_restored_with_both_ranges() {
    let mut site = Site::start(&[]).await;
    let kept = site.server.publish("a", "number", "kept").await;
    assert_output(&site.backup("first").await, 0, "");
    site.server.stop("TERM").await;
    let (second, third) = (site.path("second"), site.path("third"));
    assert_output(&restore(&site.copy("first"), &second).await, 0, "");
    let copies = site.path("copies").display().to_string();
    let mut server = TestServer::on_directory(&second, &["--backup-dir", &copies]).await;
    let between = server.publish("a", "number", "between").await;
    let backup = run(server_command().args(["backup", &server.url, "next"])).await;
    assert_output(&backup, 0, "");
    server.stop("TERM").await;
    // A restored log opens again and remembers its range.
    server.restart().await;
    server.stop("TERM").await;
    assert_output(&restore(&site.copy("next"), &third).await, 0, "");
    let server = TestServer::on_directory(&third, &[]).await;
    let mut reader = server
        .subscribe_after("/stream?channel=a", Some(&kept))
        .await;
    let first = lost_range(&next_gap(&mut reader).await);
    assert_eq!(reader.next_event().await.id, between);
    let next = lost_range(&next_gap(&mut reader).await);
    assert!(first.before < id(&between) && id(&between) <= next.after);
    assert!(next.before > first.before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_does_not_exist_and_the_next_one_takes_its_place() {
    let mut site = Site::start(&["--backup-rate", "1KiB"]).await;
    site.server.publish_numbers("a", 0..500).await;
    let command = {
        let (url, name) = (site.server.url.clone(), "killed");
        spawn_blocking(move || server_command().args(["backup", &url, name]).output())
    };
    let partial = site.copy(".partial");
    until("the copy is being made", async || {
        partial.join("events.redb").exists().then_some(())
    })
    .await;
    // One copy at a time.
    let response = site.request_backup("other").await;
    let message = refusal(response, StatusCode::CONFLICT, "backup_conflict").await;
    assert!(message.contains("killed"), "{message}");
    assert_output(&site.backup("other").await, 1, "backup_conflict");
    site.server.publish("a", "number", "meanwhile").await;
    site.server.kill_and_restart().await;
    let output = within("the command ends", command).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let sentence = String::from_utf8(output.stdout).unwrap();
    assert!(sentence.contains("not known"), "{sentence}");
    assert!(partial.exists() && !site.copy("killed").exists());
    assert_eq!(site.server.history("a").await.len(), 501);
    // The file of the partial copy is no copy.
    let output = restore(&partial, &site.path("restored")).await;
    assert_output(&output, 1, "nothing was restored");
    assert_eq!(
        site.request_backup("next").await.status(),
        StatusCode::ACCEPTED
    );
    // A server that stops gives the copy up, and does not wait for it.
    assert!(site.server.stop("TERM").await.success());
    assert!(!partial.exists() && !site.copy("next").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_a_name_that_is_taken_are_reported() {
    let site = Site::start(&[]).await;
    site.server.publish("a", "number", "1").await;
    assert_output(&site.backup("taken").await, 0, "has copied");
    assert_output(&site.backup("taken").await, 1, "choose another name");
    let status = site.server.get("/admin/backup").await.unwrap();
    let status: Value = status.json().await.unwrap();
    assert_eq!(
        (&status["name"], &status["state"]),
        (&json!("taken"), &json!("done"))
    );
    let full = Site::start(&["--disk-reserve", "900PiB"]).await;
    assert_output(&full.backup("first").await, 1, "--disk-reserve");
    assert!(!full.copy("first").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_copies_says_why() {
    let on_disk = TestServer::start(Backend::Embedded).await;
    let in_memory =
        TestServer::start_with(Backend::Memory, &["--backup-dir", "/nonexistent"]).await;
    let redis = TestServer::start(Backend::Redis).await;
    for (server, why) in [
        (&on_disk, "--backup-dir"),
        (&in_memory, "--memory"),
        (&redis, "back up Redis"),
    ] {
        let output = run(server_command().args(["backup", &server.url, "first"])).await;
        assert_output(&output, 1, "404 no_backup");
        assert_output(&output, 1, why);
        let status = server.get("/admin/backup").await.unwrap();
        refusal(status, StatusCode::NOT_FOUND, "no_backup").await;
    }
    for name in ["../first", ".first", ""] {
        let output = run(server_command().args(["backup", &on_disk.url, name])).await;
        assert_output(&output, 2, "begins with a letter");
        let route = on_disk.http.post(on_disk.at("/admin/backup"));
        let response = route.json(&json!({"name": name})).send().await.unwrap();
        refusal(response, StatusCode::BAD_REQUEST, "invalid_request").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_changes_nothing_if_the_directory_or_the_copy_is_wrong() {
    let mut site = Site::start(&[]).await;
    site.server.publish_numbers("a", 0..100).await;
    assert_output(&site.backup("first").await, 0, "has copied");
    let (copy, log, empty) = (site.copy("first"), site.path("log"), site.path("empty"));
    assert_output(&restore(&copy, &log).await, 1, "is in use");
    assert_eq!(site.server.history("a").await.len(), 100);
    site.server.stop("TERM").await;
    assert_output(&restore(&copy, &log).await, 1, "a restore replaces none");
    assert_output(&restore(&log, &empty).await, 1, "is no copy");
    assert_output(
        &restore(&site.path("none"), &empty).await,
        1,
        "cannot restore",
    );
    let output = run(server_command().args(["--memory", "restore", "none"])).await;
    assert_output(&output, 2, "memory");
    // A server does not start on a copy, because readers would not learn what is missing.
    let copied = copy.display().to_string();
    let mut command = server_command();
    command.args(["--data-dir", &copied]);
    let output = output_at_start(&mut command, &site.directory).await;
    assert_output(&output, 1, "sse-server restore");

    let whole = fs::read(copy.join("events.redb")).unwrap();
    let wrong = site.path("wrong");
    let mut flipped = whole.clone();
    let data = b"number";
    // Pages that are no longer used can have the data too.
    for at in 0..whole.len() - data.len() {
        if whole[at..].starts_with(data) {
            flipped[at] ^= 1;
        }
    }
    let half = &whole[..whole.len() / 2];
    for bytes in [half, &flipped, b"", b"nothing of the kind"] {
        fs::write(&wrong, bytes).unwrap();
        assert_output(&restore(&wrong, &empty).await, 1, "nothing was restored");
        assert_eq!(
            fs::read_dir(&empty).unwrap().count(),
            0,
            "{} bytes",
            bytes.len()
        );
    }
    fs::write(&wrong, &whole).unwrap();
    assert_output(&restore(&wrong, &empty).await, 0, "restored");
}
