//! `--exec`: a command handles one event at a time, and the position is stored when the event is
//! done. `--until-end`: the listener ends with the channels.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::support::{Listener, Server};

const EVENT: &str = "{\"id\":\"1-0\",\"event\":\"click\",\"data\":\"a\\\"; exit 1\"}\n";
/// An event whose data would end a command line that contained it.
const BYTES: &str = "id: 1-0\nevent: click\ndata: a\"; exit 1\n\n";

/// Starts a listener that handles two events of one channel by `command` in a directory.
fn start(server: &Server, directory: &Path, command: &str, arguments: &[&str]) -> Listener {
    let command = format!("cd '{}' && {{ {command}; }}", directory.display());
    let state = directory.join("state").display().to_string();
    let url = server.url();
    let fixed = [
        "--url",
        &url,
        "--channel",
        "a",
        "--state",
        &state,
        "--exec",
        &command,
    ];
    Listener::start(&[&fixed[..], arguments].concat())
}

fn read(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap_or_default()
}

/// Starts a listener again, and returns the position that it asks for.
fn stored_position(server: &Server, directory: &Path) -> Option<String> {
    let _listener = start(server, directory, "true", &[]);
    server.request().header("last-event-id").map(str::to_owned)
}

#[test]
fn the_command_gets_the_event_on_stdin_and_its_id_in_variables() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let server = Server::start();
    let command = r#"cat >> events; echo "$SSE_ID $SSE_EVENT $SSE_CHANNEL" >> variables"#;
    let listener = start(&server, directory, command, &["--count", "2"]);
    let exchange = server.stream(format!("{BYTES}id: 2-0\nevent: b\0c\ndata: b\n\n"));
    let ended = listener.wait_for_end();
    drop(exchange);
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{ended:?}");
    assert!(read(directory, "events").starts_with(EVENT));
    assert!(read(directory, "variables").starts_with("1-0 click a\n2-0 "));
    assert_eq!(stored_position(&server, directory).as_deref(), Some("2-0"));
}

#[test]
fn a_command_that_fails_runs_again_before_the_next_event() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let server = Server::start();
    let command = "cat >> events; test -e failed || { touch failed; exit 3; }";
    let listener = start(&server, directory, command, &["--count", "2"]);
    let exchange = server.stream(format!("{BYTES}id: 2-0\ndata: b\n\n"));
    listener.wait_for_stderr("event 1-0: the command ended with exit code 3 (attempt 1)");
    // Nothing is done yet, so nothing is stored.
    assert!(!read(directory, "state").contains("1-0"));
    assert_eq!(listener.wait_for_end().code, Some(0));
    drop(exchange);
    let second = "{\"id\":\"2-0\",\"event\":\"message\",\"data\":\"b\"}\n";
    assert_eq!(read(directory, "events"), format!("{EVENT}{EVENT}{second}"));
}

#[test]
fn an_event_that_is_given_up_is_written_to_the_file() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let server = Server::start();
    let file = directory.join("failed.ndjson").display().to_string();
    let give_up = ["--count", "2", "--exec-give-up", "1", &file];
    // The first event fails, and the second one takes too long.
    let command = r#"test "$SSE_ID" = 2-0 && sleep 3600"#;
    let arguments = [&give_up[..], &["--exec-timeout", "300ms"]].concat();
    let listener = start(&server, directory, command, &arguments);
    let exchange = server.stream(format!("{BYTES}id: 2-0\ndata: b\n\n"));
    let ended = listener.wait_for_end();
    drop(exchange);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in [
        "exit code 1 (attempt 1); the event is in",
        "was ended after 300ms",
    ] {
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
    let second = "{\"id\":\"2-0\",\"event\":\"message\",\"data\":\"b\"}\n";
    assert_eq!(read(directory, "failed.ndjson"), format!("{EVENT}{second}"));
    assert_eq!(stored_position(&server, directory).as_deref(), Some("2-0"));
}

#[test]
fn a_signal_ends_the_command_and_the_event_is_handled_again() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let server = Server::start();
    // The command reports its end by SIGTERM.
    let command = "trap 'touch ended; exit 1' TERM; echo started >&2; while :; do sleep 0.05; done";
    let listener = start(&server, directory, command, &[]);
    let exchange = server.stream(BYTES);
    listener.wait_for_stderr("started");
    rustix::process::kill_process(listener.id(), rustix::process::Signal::TERM).unwrap();
    assert_eq!(listener.wait_for_end().code, Some(0));
    drop(exchange);
    assert!(directory.join("ended").exists());
    assert_ne!(stored_position(&server, directory).as_deref(), Some("1-0"));
}

#[test]
fn a_wrong_combination_is_a_misuse() {
    for arguments in [
        &["--exec", "true", "--format", "json"][..],
        &["--exec", "true", "--exec-give-up", "0", "file"],
        &["--exec-give-up", "1", "file"],
        &["--exec", "true", "--exec-give-up", "1"],
    ] {
        assert_eq!(
            Listener::start(arguments).wait_for_end().code,
            Some(2),
            "{arguments:?}"
        );
    }
}

#[test]
fn until_end_ends_with_the_last_channel() {
    let server = Server::start();
    let url = server.url();
    let arguments = [
        "--url",
        &url,
        "--channel",
        "a",
        "--channel",
        "b",
        "--until-end",
    ];
    let listener = Listener::start(&[&arguments[..], &["--format", "data"]].concat());
    let (a, b) = (
        r#"{"channel":"a","reason":"closed"}"#,
        r#"{"channel":"b","reason":"deleted"}"#,
    );
    let exchange = server.stream(format!(
        "event: end\ndata: {a}\n\nevent: end\ndata: {b}\n\ndata: x\n\n"
    ));
    let ended = listener.wait_for_end();
    drop(exchange);
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("{a}\n{b}\n")));
}
