//! `--state`: a listener that is started again goes on where it stopped.

use std::{fs, path::Path};

use crate::support::{Listener, Reading, Server};

fn start(server: &Server, state: &Path, arguments: &[&str]) -> Listener {
    let state = state.to_str().expect("a plain path");
    Listener::start(&[&["--url", &server.url(), "--state", state], arguments].concat())
}

#[test]
fn what_was_printed_is_not_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let server = Server::start();
    let first = start(&server, &state, &["--count", "2", "--since", "10m"]);
    let mut exchange = server.request();
    assert_eq!(
        (exchange.target(), exchange.header("last-event-id")),
        ("/stream?since=10m", None)
    );
    exchange.open_stream();
    // The third is not printed, and so it is not noted either.
    exchange.send("id: 1-0\ndata: a\n\nid: 2-0\ndata: b\n\nid: 3-0\ndata: c\n\n");
    assert_eq!(
        first.ended().stdout,
        "event: message \ndata: a\nevent: message \ndata: b\n"
    );

    let again = start(&server, &state, &["--since", "10m", "--format", "data"]);
    let mut exchange = server.request();
    assert_eq!(exchange.header("last-event-id"), Some("2-0"));
    exchange.open_stream();
    exchange.send("id: 3-0\ndata: c\n\n");
    assert_eq!(again.line(), "c\n");
}

#[test]
fn a_position_without_an_event_is_kept_too() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let server = Server::start();
    let listener = start(&server, &state, &["--max-retries", "0"]);
    server.stream("id: 7-0\n: here you are\n\n").end();
    assert_eq!(listener.ended().code, Some(1));
    let _again = start(&server, &state, &["--last-event-id", "1-0"]);
    assert_eq!(
        server.request().header("last-event-id"),
        Some("7-0"),
        "the file beats the flag"
    );
}

#[test]
fn an_event_that_could_not_be_printed_comes_again() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let server = Server::start();
    let mut command =
        Listener::command(&["--url", &server.url(), "--state", state.to_str().unwrap()]);
    let listener = Listener::spawn(&mut command, Reading::Lines(2));
    let mut stream = server.stream("id: 1-0\ndata: a\n\n");
    assert_eq!(
        [listener.line(), listener.line()].concat(),
        "event: message \ndata: a\n"
    );
    listener.stdout_closed();
    stream.send("id: 2-0\ndata: b\n\n");
    assert_eq!(listener.ended().code, Some(0));
    assert!(
        fs::read_to_string(&state)
            .unwrap()
            .starts_with("{\"last_event_id\":\"1-0\"")
    );
}

#[test]
fn a_killed_listener_goes_on_after_what_it_had_noted() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let server = Server::start();
    let listener = start(&server, &state, &[]);
    let mut stream = server.stream("id: 1-0\ndata: a\n\n");
    assert_eq!(
        [listener.line(), listener.line()].concat(),
        "event: message \ndata: a\n"
    );
    // When the second is printed, the first is noted: one batch is written and noted before the
    // next.
    stream.send("id: 2-0\ndata: b\n\n");
    assert_eq!(
        [listener.line(), listener.line()].concat(),
        "event: message \ndata: b\n"
    );
    // Dropped is killed (SIGKILL).
    drop(listener);
    let _again = start(&server, &state, &[]);
    let resumed = server.request();
    assert!(
        matches!(resumed.header("last-event-id"), Some("1-0" | "2-0")),
        "{}",
        resumed.head
    );
}

#[test]
fn a_file_that_is_not_ours_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::write(&state, "my diary\n").unwrap();
    let ended = start(&Server::start(), &state, &[]).ended();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("is no state file of the listener"),
        "{ended:?}"
    );
    assert_eq!(fs::read_to_string(&state).unwrap(), "my diary\n");
}

#[test]
fn a_line_that_was_torn_is_not_continued_by_the_next_run() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let server = Server::start();
    let mut command = Listener::command(&[
        "--url",
        &server.url(),
        "--format",
        "data",
        "--state",
        state.to_str().unwrap(),
    ]);
    let mut first = Listener::spawn(&mut command, Reading::Nothing);
    // More than a pipe holds: the write stalls in the middle of the line.
    let large = format!("id: 1-0\ndata: {}\n\n", "x".repeat(1 << 20));
    let _stream = server.stream(&large);
    let torn = crate::support::first_byte(first.take_stdout());
    // Dropped is killed (SIGKILL).
    drop(first);
    drop(torn);
    let again = start(&server, &state, &["--format", "data", "--count", "1"]);
    let mut exchange = server.request();
    assert_eq!(exchange.header("last-event-id"), None);
    exchange.open_stream();
    exchange.send(&large);
    assert_eq!(again.line(), "\n", "the end of the torn line");
    assert_eq!(again.line().len(), (1 << 20) + 1);
    assert_eq!(again.ended().code, Some(0));
    // That one came to its end.
    let third = start(&server, &state, &["--format", "data"]);
    let _stream = server.stream("id: 2-0\ndata: b\n\n");
    assert_eq!(third.line(), "b\n");
}

#[test]
fn a_state_file_is_for_one_listener() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let server = Server::start();
    let _first = start(&server, &state, &[]);
    let _request = server.request();
    let ended = start(&server, &state, &[]).ended();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains("another listener uses the state file"),
        "{ended:?}"
    );
}
