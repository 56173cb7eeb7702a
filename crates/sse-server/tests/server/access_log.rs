//! The access log: its lines, its bytes, and what happens if it cannot be written.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{
    Backend, KilledWhenDropped, RawConnection, RedisServer, STAYS_ATTACHED, TestServer, ended,
    free_port, only_response, server_command, skip, until,
};

/// An access log of JSON lines, in a directory of its own.
struct AccessLogFile {
    _directory: TempDir,
    path: PathBuf,
}

impl AccessLogFile {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("access.log");
        Self {
            _directory: directory,
            path,
        }
    }

    /// The flags of a server that writes this log, and `flags`.
    fn flags<'a>(&'a self, flags: &[&'a str]) -> Vec<&'a str> {
        let path = self.path.to_str().unwrap();
        [&["--access-log", path, "--log-format", "json"], flags].concat()
    }

    async fn server(&self, flags: &[&str]) -> TestServer {
        TestServer::start_with(Backend::Memory, &self.flags(flags)).await
    }

    /// The lines about requests whose path begins with `path`.
    fn lines_about(&self, path: &str) -> Vec<Value> {
        json_lines(&fs::read_to_string(&self.path).unwrap())
            .filter(|line| line["path"].as_str().unwrap().starts_with(path))
            .collect()
    }

    /// Waits for `count` lines about `path`, and returns them.
    async fn wait_for(&self, path: &str, count: usize) -> Vec<Value> {
        until(path, async || {
            let lines = self.lines_about(path);
            (lines.len() >= count).then_some(lines)
        })
        .await
    }
}

/// Every line of `text`, the last of which may be incomplete.
fn json_lines(text: &str) -> impl Iterator<Item = Value> {
    let lines = text.split_inclusive('\n');
    let lines = lines.filter_map(|line| line.strip_suffix('\n'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
}

/// The fields of a line that do not depend on time.
fn facts(line: &Value) -> (&str, &str, u64, u64, Option<&str>) {
    assert_eq!(line["address"], "127.0.0.1", "{line}");
    assert!(line["duration"].as_f64().unwrap() >= 0.0, "{line}");
    (
        line["kind"].as_str().unwrap(),
        line["method"].as_str().unwrap(),
        line["status"].as_u64().unwrap(),
        line["bytes"].as_u64().unwrap(),
        line["reason"].as_str(),
    )
}

/// A request as bytes, after which the server closes the connection.
fn raw_request(line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\
         {headers}\r\n{body}"
    )
}

#[tokio::test]
async fn each_request_has_one_line_with_the_bytes_of_its_body() {
    let log = AccessLogFile::new();
    let server = log.server(&["--event-bytes-max", "100"]).await;
    let large = "x".repeat(101);
    let text = "Content-Type: text/plain\r\n";
    let requests = [
        ("POST /event/a", text, "x", 200),
        ("POST /event/b", text, &large, 413),
        ("GET /nothing?password=hunter2", "", "", 404),
        ("DELETE /events?limit=5", "", "", 405),
        ("GET /events?limit=7", "Last-Event-ID: 5-0\r\n", "", 200),
        ("GET /metrics", "", "", 200),
        ("OPTIONS /health/ready", "", "", 204),
    ];
    for (request, headers, body, status) in requests {
        let (method, target) = request.split_once(' ').unwrap();
        let shown = target.replace("hunter2", "***");
        let request = raw_request(request, headers, body);
        let (head, body) = only_response(&server, &request).await;
        assert_eq!(head.status, status, "{request}");
        let lines = log.wait_for(&shown, 1).await;
        let bytes = body.len() as u64;
        assert_eq!(
            facts(&lines[0]),
            ("request", method, status.into(), bytes, None)
        );
        let id = headers.contains("Last-Event-ID").then_some("5-0");
        assert_eq!(lines[0]["last_id"].as_str(), id);
        assert_eq!(log.lines_about(&shown).len(), 1, "{lines:?}");
    }
    assert!(!fs::read_to_string(&log.path).unwrap().contains("hunter2"));
}

#[tokio::test]
async fn a_response_without_its_body_and_a_rejected_expectation_have_a_line() {
    let log = AccessLogFile::new();
    let server = log.server(&["--event-bytes-max", "100"]).await;
    let head = server
        .http
        .head(server.at("/metrics"))
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    let lines = log.wait_for("/metrics", 1).await;
    assert_eq!(facts(&lines[0]), ("request", "HEAD", 200, 0, None));

    let request = "POST /event/large HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
                   Content-Length: 101\r\nConnection: close\r\n\r\n";
    let (head, body) = only_response(&server, request).await;
    assert_eq!(head.status, 413);
    let lines = log.wait_for("/event/large", 1).await;
    let bytes = body.len() as u64;
    assert_eq!(facts(&lines[0]), ("request", "POST", 413, bytes, None));
}

#[tokio::test]
async fn a_client_that_leaves_before_its_response_has_a_line() {
    let log = AccessLogFile::new();
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &log.flags(&[])).await;
    redis.run("CLIENT PAUSE 50000 ALL").await;
    let request = raw_request("POST /event/lost", "Content-Type: text/plain\r\n", "x");
    // A client that leaves at once may be gone before the server has read its request.
    let client = RefCell::new(None);
    let lines = until("a line", async || {
        let next = RawConnection::send(&server, &request).await;
        drop(client.replace(Some(next)));
        Some(log.lines_about("/event/lost")).filter(|lines| !lines.is_empty())
    })
    .await;
    let expected = ("request", "POST", 499, 0, Some("no_response"));
    assert_eq!(facts(&lines[0]), expected);
}

/// Checks the two lines of a stream of which the client received `body`.
async fn assert_stream(log: &AccessLogFile, path: &str, body: &str, reason: &str) {
    let lines = log.wait_for(path, 2).await;
    let bytes = body.len() as u64;
    assert_eq!(facts(&lines[0]), ("stream_start", "GET", 200, 0, None));
    assert_eq!(
        facts(&lines[1]),
        ("stream_end", "GET", 200, bytes, Some(reason))
    );
    let mut ids = body.lines().filter_map(|line| line.strip_prefix("id: "));
    assert_eq!(lines[0]["last_id"], Value::Null);
    assert_eq!(lines[1]["last_id"].as_str(), ids.next_back(), "{body}");
    assert_eq!(lines[0]["path"], lines[1]["path"]);
    assert_eq!(log.lines_about(path).len(), 2);
}

#[tokio::test]
async fn a_stream_has_a_line_when_it_begins_and_one_when_its_client_leaves() {
    let log = AccessLogFile::new();
    let server = log.server(&[]).await;
    for (channel, version) in [("a", "1.1"), ("b", "1.0")] {
        let path = format!("/stream?channel={channel}");
        let request = format!("GET {path} HTTP/{version}\r\nHost: localhost\r\n\r\n");
        let mut client = RawConnection::send(&server, &request).await;
        let head = client.head().await;
        client.body_until(&head, "\n\n").await;
        let begun = log.wait_for(&path, 1).await;
        assert_eq!(facts(&begun[0]), ("stream_start", "GET", 200, 0, None));
        for data in ["first", &"x".repeat(100_000), "last"] {
            server.publish(channel, "click", data).await;
        }
        let body = client.body_until(&head, "data: last\n\n").await;
        drop(client);
        assert_stream(&log, &path, &body, "client").await;
        assert_eq!(begun[0]["protocol"], format!("HTTP/{version}"));
    }
}

#[tokio::test]
async fn the_last_line_of_a_stream_names_its_end_and_its_last_id() {
    let log = AccessLogFile::new();
    let mut server = log.server(&[]).await;
    for channel in ["a", "b"] {
        server.publish_numbers(channel, 0..1000).await;
    }
    let newest = server.publish("b", "click", "x").await;
    let until = "/stream?channel=a&channel=b&from=oldest&until=";
    let request = format!("GET {until}{newest} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut client = RawConnection::send(&server, &request).await;
    let head = client.head().await;
    let body = client.body_to_the_close(&head).await;
    assert_stream(&log, until, &body, "until_reached").await;
    assert!(
        log.lines_about(until)[1]["last_id"]
            .as_str()
            .unwrap()
            .contains(&newest)
    );

    // The position moves past an event that the client does not want.
    let path = "/stream?channel=b&from=oldest&event=none&until=";
    let request = format!("GET {path}{newest} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut client = RawConnection::send(&server, &request).await;
    let head = client.head().await;
    let body = client.body_to_the_close(&head).await;
    assert_stream(&log, path, &body, "until_reached").await;

    let request = "GET /stream?channel=c HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = RawConnection::send(&server, request).await;
    let head = client.head().await;
    client.body_until(&head, "\n\n").await;
    let stopping = async { assert!(server.stop("TERM").await.success()) };
    let (body, ()) = futures::future::join(client.body_to_the_close(&head), stopping).await;
    assert_stream(&log, "/stream?channel=c", &body, "shutdown").await;
}

#[tokio::test]
async fn bytes_that_a_blocked_client_was_not_sent_do_not_count() {
    if STAYS_ATTACHED {
        return skip("actix does not report how much of its buffer the socket has accepted");
    }
    let log = AccessLogFile::new();
    let mut server = log.server(&["--event-bytes-max", "4MiB"]).await;
    // Without chunks, every byte is one of the body.
    let request = "GET /stream?channel=a HTTP/1.0\r\n\r\n";
    let mut client = RawConnection::send(&server, request).await;
    let head = client.head().await;
    client.body_until(&head, "\n\n").await;
    let large = "x".repeat(4 << 20);
    server.publish("a", "large", &large).await;
    until("the event is handed over", async || {
        (server.metric("sse_sent_bytes_total").await > 4e6).then_some(())
    })
    .await;
    assert!(server.stop("TERM").await.success());
    let body = client.body_to_the_close(&head).await;
    assert!(body.len() < large.len(), "the client was never blocked");
    let end = &log.wait_for("/stream", 2).await[1];
    let bytes = body.len() as u64;
    assert_eq!(
        facts(end),
        ("stream_end", "GET", 200, bytes, Some("shutdown"))
    );
}

#[tokio::test]
async fn a_rejected_stream_has_one_line_with_the_reason() {
    let log = AccessLogFile::new();
    let server = log.server(&["--streams-max", "1"]).await;
    let first = server.subscribe("/stream?channel=a").await;
    let request = "GET /stream?channel=b HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (_, body) = only_response(&server, request).await;
    let lines = log.wait_for("/stream?channel=b", 1).await;
    let bytes = body.len() as u64;
    assert_eq!(
        facts(&lines[0]),
        ("request", "GET", 200, bytes, Some("limit"))
    );

    // A stream that is over before it begins is a request without a body.
    drop(first);
    let id = server.publish("c", "click", "x").await;
    let path = format!("/stream?channel=c&last_event_id={id}&until={id}");
    let no_content = async || {
        let status = server.get(&path).await.unwrap().status();
        (status == StatusCode::NO_CONTENT).then_some(())
    };
    until("the end of the log is settled", no_content).await;
    let is_logged = || {
        let lines = log.lines_about(&path);
        let end = lines.last()?;
        (facts(end) == ("request", "GET", 204, 0, None)).then_some(())
    };
    until("the line of the 204", async || is_logged()).await;
}

#[tokio::test]
async fn a_log_that_was_moved_continues_in_a_new_file() {
    let log = AccessLogFile::new();
    let server = log.server(&[]).await;
    log.wait_for("/health/live", 1).await;
    let moved = log.path.with_extension("1");
    fs::rename(&log.path, &moved).unwrap();
    until("a new file", async || {
        server.get("/nothing").await.unwrap();
        log.path.exists().then_some(())
    })
    .await;
    log.wait_for("/nothing", 1).await;
    assert!(json_lines(&fs::read_to_string(&moved).unwrap()).count() >= 1);
}

async fn until_lines_are_dropped(server: &TestServer) {
    let path = format!("/nothing/{}", "x".repeat(4096));
    until("dropped lines", async || {
        for _ in 0..100 {
            assert_eq!(
                server.get(&path).await.unwrap().status(),
                StatusCode::NOT_FOUND
            );
        }
        (server.metric("sse_access_log_dropped_total").await >= 100.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_costs_lines_and_nothing_else() {
    let flags = ["--access-log", "/dev/full"];
    let mut server = TestServer::start_with(Backend::Memory, &flags).await;
    until_lines_are_dropped(&server).await;
    server.publish("sse", "click", "x").await;
    let warnings = server.log().matches("the access log drops lines").count();
    assert_eq!(warnings, 1, "{}", server.log());
    assert!(server.stop("TERM").await.success());
}

#[tokio::test]
async fn a_pipe_that_is_not_read_costs_lines_and_nothing_else() {
    let log = AccessLogFile::new();
    assert!(
        Command::new("mkfifo")
            .arg(&log.path)
            .status()
            .unwrap()
            .success()
    );
    // A reader that holds the pipe open, and reads nothing.
    let reader = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&log.path)
        .unwrap();
    let mut server = log.server(&[]).await;
    until_lines_are_dropped(&server).await;
    server.publish("sse", "click", "x").await;
    let warnings = server.log().matches("the access log drops lines").count();
    assert_eq!(warnings, 1, "{}", server.log());
    // What the pipe contains are whole lines.
    let mut text = vec![0; 20_000];
    (&reader).read_exact(&mut text).unwrap();
    assert!(json_lines(&String::from_utf8(text).unwrap()).count() > 1);
    assert!(server.stop("TERM").await.success());
}

/// A server whose stdout and stderr go to files.
struct WithOutput {
    child: KilledWhenDropped,
    directory: TempDir,
    url: String,
}

impl WithOutput {
    async fn start(flags: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let file = |name| File::create(directory.path().join(name)).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = server_command();
        command.args(["--memory", "--bind", &address]).args(flags);
        command.stdout(file("stdout")).stderr(file("stderr"));
        let child = KilledWhenDropped(command.spawn().unwrap());
        let url = format!("http://{address}");
        until("the server answers", async || reqwest::get(&url).await.ok()).await;
        Self {
            child,
            directory,
            url,
        }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    async fn stop(&mut self) {
        let pid = self.child.0.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        assert!(ended(&mut self.child.0).await.success());
    }
}

#[tokio::test]
async fn without_a_file_the_lines_are_text_on_stdout() {
    let mut server = WithOutput::start(&["--access-log"]).await;
    reqwest::get(format!("{}/nothing", server.url))
        .await
        .unwrap();
    server.stop().await;
    let (stdout, stderr) = (server.text("stdout"), server.text("stderr"));
    let lines: Vec<&str> = stdout.lines().collect();
    let is_about_request = |line: &&&str| line.contains("\"GET /nothing HTTP/1.1\" 404 ");
    assert_eq!(lines.iter().filter(is_about_request).count(), 1, "{stdout}");
    assert!(
        lines.iter().all(|line| line.starts_with("127.0.0.1 - - [")),
        "{stdout}"
    );
    assert!(
        stderr.contains("listening on") && !stderr.contains("/nothing"),
        "{stderr}"
    );
}

#[tokio::test]
async fn the_access_log_is_off_by_default() {
    let mut server = WithOutput::start(&[]).await;
    reqwest::get(format!("{}/nothing", server.url))
        .await
        .unwrap();
    server.stop().await;
    assert_eq!(server.text("stdout"), "");
    assert!(!server.text("stderr").contains("/nothing"));
}

#[tokio::test]
async fn stdout_with_an_access_log_has_no_url() {
    let directory = TempDir::new().unwrap();
    let mut command = server_command();
    command.args(["--memory", "--bind", "127.0.0.1:0", "--access-log"]);
    let output = crate::common::output_at_start(&mut command, &directory).await;
    assert_eq!((output.code, output.stdout.as_str()), (None, ""));
    assert!(
        output.stderr.contains("listening on http://127.0.0.1:"),
        "{}",
        output.stderr
    );
}

#[tokio::test]
async fn every_line_of_a_json_log_is_an_object() {
    let mut server = WithOutput::start(&["--log-format", "json", "--log", "debug"]).await;
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, b"\x16\x03\x1b[31m\r\n\r\n")
        .await
        .unwrap();
    until("a warning", async || {
        server
            .text("stderr")
            .contains("does not speak HTTP")
            .then_some(())
    })
    .await;
    server.stop().await;
    let lines: Vec<Value> = json_lines(&server.text("stderr")).collect();
    let has_message = |text: &str| {
        let message = |line: &Value| line["message"].as_str().is_some_and(|it| it.contains(text));
        lines.iter().any(message)
    };
    for text in [
        "broker: ",
        "listening on http://",
        "settings",
        "does not speak HTTP",
        "stopped",
    ] {
        assert!(has_message(text), "no {text:?} in {lines:?}");
    }
    for field in ["timestamp", "level", "message", "target"] {
        assert!(
            lines.iter().all(|line| line[field].is_string()),
            "{field}: {lines:?}"
        );
    }
}

#[tokio::test]
async fn the_error_that_ends_the_program_is_json_in_a_json_log() {
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("no/access.log");
    let mut command = server_command();
    let flags = [
        "--memory",
        "--bind",
        "127.0.0.1:0",
        "--log-format",
        "json",
        "--access-log",
    ];
    command.args(flags).arg(&missing).stdout(Stdio::null());
    let output = crate::common::run(&mut command).await;
    assert_eq!(output.code, Some(1));
    let lines: Vec<Value> = json_lines(&output.stderr).collect();
    let error = lines.last().unwrap();
    assert_eq!(error["level"], "ERROR");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains(path_text(&missing)) && message.contains("--access-log"),
        "{message}"
    );
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}
