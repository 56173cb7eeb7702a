//! `--state`: a listener that is started again resumes where it stopped.

use std::{fs, path::Path};

use crate::support::{Listener, Reading, Server};

fn start(server: &Server, state: &Path, arguments: &[&str]) -> Listener {
    let state = state.to_str().expect("a plain path");
    Listener::start(&[&["--url", &server.url(), "--state", state], arguments].concat())
}

#[test]
fn printed_events_are_not_requested_again() {
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
    // The third event is not printed, so its position is not stored.
    exchange.send("id: 1-0\ndata: a\n\nid: 2-0\ndata: b\n\nid: 3-0\ndata: c\n\n");
    assert_eq!(
        first.wait_for_end().stdout,
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
fn a_position_without_an_event_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let server = Server::start();
    let listener = start(&server, &state, &["--max-retries", "0"]);
    server.stream("id: 7-0\n: here you are\n\n").end();
    assert_eq!(listener.wait_for_end().code, Some(1));
    let _again = start(&server, &state, &["--last-event-id", "1-0"]);
    assert_eq!(
        server.request().header("last-event-id"),
        Some("7-0"),
        "the file beats the flag"
    );
}

#[test]
fn an_event_that_could_not_be_printed_is_requested_again() {
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
    assert_eq!(listener.wait_for_end().code, Some(0));
    // The position of the first event is stored after it is printed. The listener can end in
    // between, because stdout is closed then: the event is repeated, and none is skipped.
    let stored = fs::read_to_string(&state).unwrap();
    let is_of = |id| stored.starts_with(&format!("{{\"last_event_id\":\"{id}\""));
    assert!(is_of("1-0") || is_of(""), "{stored}");
}

#[test]
fn a_killed_listener_resumes_after_its_stored_position() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let server = Server::start();
    let listener = start(&server, &state, &[]);
    let mut stream = server.stream("id: 1-0\ndata: a\n\n");
    assert_eq!(
        [listener.line(), listener.line()].concat(),
        "event: message \ndata: a\n"
    );
    // When the second event is printed, the position of the first is stored: batches are written
    // and stored one after the other.
    stream.send("id: 2-0\ndata: b\n\n");
    assert_eq!(
        [listener.line(), listener.line()].concat(),
        "event: message \ndata: b\n"
    );
    // Dropping the listener kills it (SIGKILL).
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
fn a_file_with_other_content_is_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::write(&state, "my diary\n").unwrap();
    let ended = start(&Server::start(), &state, &[]).wait_for_end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("is no state file of the listener"),
        "{ended:?}"
    );
    assert_eq!(fs::read_to_string(&state).unwrap(), "my diary\n");
}

#[test]
fn a_torn_line_is_not_continued_by_the_next_run() {
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
    // No pipe holds that much, so the write blocks in the middle of the line.
    let large = format!("id: 1-0\ndata: {}\n\n", "x".repeat(1 << 20));
    let _stream = server.stream(&large);
    let torn = crate::support::first_byte(first.take_stdout());
    // Dropping the listener kills it (SIGKILL).
    drop(first);
    drop(torn);
    let again = start(&server, &state, &["--format", "data", "--count", "1"]);
    let mut exchange = server.request();
    assert_eq!(exchange.header("last-event-id"), None);
    exchange.open_stream();
    exchange.send(&large);
    assert_eq!(again.line(), "\n", "the end of the torn line");
    assert_eq!(again.line().len(), (1 << 20) + 1);
    assert_eq!(again.wait_for_end().code, Some(0));
    // That run ended properly.
    let third = start(&server, &state, &["--format", "data"]);
    let _stream = server.stream("id: 2-0\ndata: b\n\n");
    assert_eq!(third.line(), "b\n");
}

#[test]
fn a_state_file_belongs_to_one_listener() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let server = Server::start();
    let _first = start(&server, &state, &[]);
    let _request = server.request();
    let ended = start(&server, &state, &[]).wait_for_end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains("another listener uses the state file"),
        "{ended:?}"
    );
}

#[test]
fn the_position_of_another_stream_is_rejected_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let (server, other) = (Server::start(), Server::start());
    let arguments = ["--channel", "orders", "--count", "1"];
    let listener = start(&server, &state, &arguments);
    let _stream = server.stream("id: 1-0\ndata: a\n\n");
    assert_eq!(listener.wait_for_end().code, Some(0));
    for (server, channel) in [(&server, "users"), (&other, "orders")] {
        let ended = start(server, &state, &["--channel", channel]).wait_for_end();
        assert_eq!(ended.code, Some(1));
        let expected = format!("not for channel {channel} of {}/stream", server.url());
        assert!(ended.stderr.contains(&expected), "{ended:?}");
    }
    let _again = start(&server, &state, &arguments);
    assert_eq!(server.request().header("last-event-id"), Some("1-0"));
}

#[test]
fn a_file_of_an_earlier_version_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::write(&state, "{\"last_event_id\":\"1-0\",\"clean\":true}\n").unwrap();
    let server = Server::start();
    let _listener = start(&server, &state, &["--channel", "orders"]);
    assert_eq!(server.request().header("last-event-id"), Some("1-0"));
}
