//! The three programs over a unix socket.

use std::process::Command;

use tempfile::TempDir;

use crate::process::{Process, cargo_run};

#[test]
fn the_listener_receives_over_a_unix_socket_what_the_generator_publishes_over_it() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("sse.sock");
    let socket = socket.to_str().expect("a plain path");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    command.args(["--memory", "--bind", &format!("unix:{socket}")]);
    let mut server = Process::start(&command);
    server.line(|line| line.contains(&format!("listening on unix:{socket}")));

    let to = ["--unix-socket", socket];
    let publishes = ["--rate", "max", "--count", "100", "--concurrency", "1"];
    let mut generator = cargo_run("event-generator", &[&to[..], &publishes].concat());
    let (status, lines) = generator.finish();
    assert!(status.success(), "{lines:?}");
    let follows = ["--last", "100", "--count", "100", "--format", "data"];
    let mut listener = cargo_run("listener", &[&to[..], &follows].concat());
    let (status, lines) = listener.finish();
    assert!(status.success(), "{lines:?}");
    let events = lines.iter().filter(|line| line.contains("user_id")).count();
    assert_eq!(events, 100, "{lines:?}");

    server.signal("TERM");
    let (status, lines) = server.finish();
    assert!(status.success(), "{lines:?}");
}
