//! The commands of the quickstart, literally, with all defaults: port 5000 and a data directory in
//! the working directory.

use std::{net::TcpListener, path::Path, process::Command};

use tempfile::TempDir;

use crate::process::{Process, build_programs};

const SERVER: &str = "cargo run -p sse-server";
const LISTENER: &str = "cargo run -p listener";
const GENERATOR: &str = "cargo run -p event-generator -- --rate 10";

/// Runs a command line in a directory.
fn run(directory: &Path, line: &str) -> Process {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).current_dir(directory);
    Process::start(&command)
}

#[test]
fn the_quickstart_contains_these_commands() {
    let quickstart = include_str!("../../../../docs/quickstart.md");
    let commands = [SERVER, LISTENER, GENERATOR].join("\n");
    assert!(
        quickstart.contains(&format!("```sh\n{commands}\n```")),
        "docs/quickstart.md does not contain\n{commands}"
    );
}

#[test]
fn the_three_programs_find_each_other_by_their_defaults() {
    let port = TcpListener::bind("127.0.0.1:5000");
    assert!(
        port.is_ok(),
        "this test needs port 5000, the default: stop the program that listens on it"
    );
    drop(port);

    // The working directory is inside the workspace, so that cargo finds the project. The server
    // creates its data directory there.
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    build_programs();
    let run = |line| run(directory.path(), line);
    let mut server = run(SERVER);
    server.line(|line| line.contains("listening on http://127.0.0.1:5000"));
    assert!(directory.path().join("sse-data").is_dir());
    let mut listener = run(LISTENER);
    listener.line(|line| line.contains("connected"));
    let mut generator = run(GENERATOR);
    generator.line(|line| line == "200");
    for _ in 0..5 {
        let event = listener.line(|line| line.starts_with("event: "));
        assert!(
            ["event: view ", "event: click ", "event: close "].contains(&event.as_str()),
            "{event:?}"
        );
        let data = listener.line(|line| line.starts_with("data: "));
        assert!(
            data.starts_with("data: \"user_id: ") && data.contains(", timestamp: "),
            "{data}"
        );
    }
}
