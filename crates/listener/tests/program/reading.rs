//! Bytes are decoded by the standard, through the real client and wherever reads cut them.

use std::thread;

use crate::{
    cases::{CASES, Case},
    support::{Listener, Server},
};

/// Sends the bytes in HTTP chunks of `piece_bytes`, and ends the stream. Returns the printed lines
/// and the last event id.
fn read(case: &Case, piece_bytes: usize) -> (Vec<String>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let server = Server::start();
    let arguments = [
        "--url",
        &server.url(),
        "--format",
        "json",
        "--state",
        state.to_str().expect("a plain path"),
    ];
    let listener = Listener::start(&[&arguments[..], &["--max-retries", "0"]].concat());
    let mut exchange = server.stream("");
    for piece in case.bytes.chunks(piece_bytes) {
        exchange.send(piece);
    }
    exchange.end();
    let lines = listener
        .wait_for_end()
        .stdout
        .lines()
        .map(ToOwned::to_owned)
        .collect();
    // A stream without a block leaves no id.
    let state =
        std::fs::read_to_string(&state).unwrap_or_else(|_| r#"{"last_event_id":""}"#.to_owned());
    let kept = serde_json::from_str::<serde_json::Value>(&state).expect("JSON");
    (
        lines,
        kept["last_event_id"].as_str().expect("an id").to_owned(),
    )
}

/// The cases of `parsing`, over a real connection.
#[test]
fn every_case_is_read_whole_and_byte_by_byte() {
    let check = |case: &Case| {
        let printed = case.events.iter().map(|(id, kind, data)| {
            let [id, kind, data] = [id, kind, data].map(|text| serde_json::json!(text).to_string());
            format!("{{\"id\":{id},\"event\":{kind},\"data\":{data}}}")
        });
        let expected = (printed.collect::<Vec<_>>(), case.last_event_id.to_owned());
        for piece_bytes in [case.bytes.len().max(1), 1] {
            assert_eq!(
                read(case, piece_bytes),
                expected,
                "{} by {piece_bytes}, retry {:?}",
                case.rule,
                case.retry_ms
            );
        }
    };
    // The cases mostly wait, so several run at the same time.
    thread::scope(|scope| {
        for cases in CASES.chunks(CASES.len().div_ceil(4)) {
            scope.spawn(move || cases.iter().for_each(check));
        }
    });
}

#[test]
fn an_unfinished_event_is_not_printed() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--count", "1"]);
    server.stream("retry: 1\n\nevent: torn\ndata: torn\n").end();
    let _stream = server.stream("event: whole\ndata: whole\n\n");
    assert_eq!(
        listener.wait_for_end().stdout,
        "event: whole \ndata: whole\n"
    );
}

/// The wait is part of the message, so the test measures no time.
#[test]
fn a_reconnection_time_of_a_block_that_is_cut_off_is_the_next_wait() {
    for bytes in ["retry: 200\n", "retry: 200\nid: torn\ndata: torn\n"] {
        let server = Server::start();
        let listener = Listener::start(&["--url", &server.url(), "--count", "1"]);
        server.stream(bytes).end();
        let again = server.stream("data: a\n\n");
        assert_eq!(again.header("last-event-id"), None);
        let ended = listener.wait_for_end();
        assert!(
            ended
                .stderr
                .contains("the server ended the stream; retrying in 200ms"),
            "{bytes:?}: {ended:?}"
        );
    }
}

#[test]
fn an_event_beyond_the_limit_is_an_error() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url()]);
    let mut stream = server.stream("data: a\n\n");
    let limit = 16 << 20;
    let largest = format!("data: {}", "x".repeat(limit - "data: ".len()));
    for piece in largest.as_bytes().chunks(1 << 20) {
        stream.send(piece);
    }
    // The event is now exactly as large as the limit.
    stream.send("x");
    let ended = listener.wait_for_end();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(1), "event: message \ndata: a\n")
    );
    assert!(
        ended
            .stderr
            .contains("an event is larger than 16777216 bytes; --max-event-size"),
        "{ended:?}"
    );
}

#[test]
fn the_size_limit_can_be_set() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--max-event-size", "1KiB"]);
    let whole = format!("data: {}\n", "x".repeat(1024 - "data: \n".len()));
    let mut stream = server.stream(format!("{whole}\n"));
    assert_eq!(
        [listener.line(), listener.line()].concat(),
        format!("event: message \n{whole}")
    );
    stream.send(format!("data: {}", "x".repeat(1024)));
    let ended = listener.wait_for_end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(
        ended
            .stderr
            .contains("an event is larger than 1024 bytes; --max-event-size"),
        "{ended:?}"
    );
}

#[test]
fn a_content_encoding_without_an_effect_is_accepted() {
    for coding in ["none", "None", "identity", "", "identity, none"] {
        let server = Server::start();
        let listener = Listener::start(&["--url", &server.url(), "--count", "1"]);
        let coding = format!("Content-Encoding: {coding}");
        let headers = ["Content-Type: text/event-stream", coding.as_str()];
        server.request().respond("200 OK", &headers, "data: a\n\n");
        let ended = listener.wait_for_end();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(0), "event: message \ndata: a\n"),
            "{coding}: {}",
            ended.stderr
        );
    }
}
