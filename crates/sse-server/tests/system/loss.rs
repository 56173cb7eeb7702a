//! The two tools together, against sse-server and the tutorial's server: what repeated cuts cost
//! the subscribers.
//!
//! `event-generator` posts numbered events. `listener bench` cuts half of its streams each second,
//! reconnects with the last event id, and reports the numbers that each stream lost. sse-server
//! loses none. Flask-SSE has no ids and no history, so it loses what is published while a stream is
//! disconnected, and the report must show this loss.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, cargo_run, python, workspace};

const CONNECTIONS: u64 = 20;

/// Cuts streams of a server while events are published. Returns the bench's report, and whether the
/// bench succeeded.
fn storm(url: &str, directory: &Path, to_server: &[&str]) -> (Value, bool) {
    let report = directory.join("report.json");
    let publishing = [
        "--url",
        url,
        "--payload",
        "sequenced",
        "--rate",
        "300",
        "--print-status=false",
    ];
    let mut generator = cargo_run("event-generator", &[&publishing[..], to_server].concat());
    // Events are now being acknowledged, so the bench sees events without a pause.
    generator.line(|line| line.contains("s: sent ") && !line.contains(" acknowledged 0,"));
    let connections = CONNECTIONS.to_string();
    let storm = [
        "--connections",
        &connections,
        "--duration",
        "5s",
        "--cut-every",
        "1s",
        "--cut-share",
        "50%",
    ];
    let stream = format!("{url}/stream");
    let output = [
        "--url",
        &stream,
        "--seed",
        "1",
        "--expect-no-loss",
        "--report",
        report.to_str().expect("a plain path"),
    ];
    let mut bench = cargo_run("listener", &[&["bench"], &storm[..], &output].concat());
    let (status, lines) = bench.finish();
    generator.signal("TERM");
    generator.finish();
    let json =
        fs::read_to_string(report).unwrap_or_else(|error| panic!("{error}: {}", lines.join("\n")));
    (
        serde_json::from_str(&json).expect("a report is JSON"),
        status.success(),
    )
}

fn number(report: &Value, path: &str) -> u64 {
    report
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no {path} in {report:#}"))
}

#[test]
fn sse_server_loses_nothing_in_a_storm_of_cuts() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    command.args(["--memory", "--bind", "127.0.0.1:0"]);
    let mut server = Process::start(&command);
    let url = server.line(|line| line.starts_with("http://"));
    let directory = TempDir::new().unwrap();
    let (report, is_clean) = storm(&url, directory.path(), &[]);
    assert!(is_clean, "{report:#}");
    assert_eq!(number(&report, "/connections/opened"), CONNECTIONS);
    assert!(
        number(&report, "/ends/cut_by_us") > 0 && number(&report, "/connects/resumed_with_id") > 0,
        "{report:#}"
    );
    assert!(number(&report, "/events/total") > 1000, "{report:#}");
    for kind in ["/loss/lost/total", "/loss/twice", "/loss/out_of_order"] {
        assert_eq!(number(&report, kind), 0, "{kind} of {report:#}");
    }
}

#[test]
fn flask_sse_loses_events_while_a_stream_is_disconnected() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("redis.sock");
    let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    let mut command = Command::new(program);
    command
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(directory.path());
    let mut redis = Process::start(&command);
    redis.line(|line| line.contains("eady to accept connections"));

    let mut command = python();
    command.args([
        "-m",
        "gunicorn",
        "app:app",
        "--worker-class",
        "gevent",
        "--bind",
        "127.0.0.1:0",
        "--no-control-socket",
        "--chdir",
    ]);
    command.arg(workspace().join("crates/sse-server/tests/system/flask_sse"));
    command.env("REDIS_URL", format!("unix://{}", socket.display()));
    let mut gunicorn = Process::start(&command);
    let listening = gunicorn.line(|line| line.contains("Listening at: http://"));
    let url = listening
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .expect("an address");

    // Flask-SSE has a different publish API. With a custom path, the generator accepts any 2xx
    // status.
    let (report, is_clean) = storm(url, directory.path(), &["--path", "/event/{action}"]);
    assert!(!is_clean, "{report:#}");
    assert!(
        number(&report, "/ends/cut_by_us") > 0
            && number(&report, "/connects/reopened_without_id") > 0,
        "{report:#}"
    );
    assert_eq!(
        number(&report, "/connects/resumed_with_id"),
        0,
        "{report:#}"
    );
    assert!(number(&report, "/events/total") > 1000, "{report:#}");
    assert!(
        number(&report, "/loss/lost/across_reconnect") > 0,
        "{report:#}"
    );
    let first = report
        .pointer("/loss/connections/0/lost_ranges/0")
        .unwrap_or_else(|| panic!("no range in {report:#}"));
    assert!(number(first, "/first") <= number(first, "/last"), "{first}");
    assert_eq!(first["circumstance"], "across_reconnect");
}
