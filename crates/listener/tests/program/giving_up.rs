//! `--max-retries`: the limit of failures in a row. A success resets the count.

use crate::support::{Ended, Listener, PortWithoutServer, Server};

fn assert_gave_up(ended: &Ended, why: &str, how_often: &str) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let expected = format!("{why}; gave up after {how_often} (--max-retries)\n");
    assert!(ended.stderr.ends_with(&expected), "{expected:?}: {ended:?}");
}

#[test]
fn with_zero_retries_there_is_a_single_attempt() {
    let port = PortWithoutServer::reserve();
    let ended = Listener::start(&["--url", &port.url(), "--max-retries", "0"]).wait_for_end();
    assert_gave_up(&ended, "connection refused", "1 attempt");
    assert!(!ended.stderr.contains("retrying"), "{ended:?}");
}

#[test]
fn with_zero_retries_a_cut_ends_the_listener() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--max-retries", "0"]);
    server.stream("data: a\n\n").end();
    let ended = listener.wait_for_end();
    assert_eq!(ended.stdout, "event: message \ndata: a\n");
    assert_gave_up(&ended, "the server ended the stream", "1 attempt");
}

#[test]
fn it_gives_up_after_its_retries_and_reports_the_last_error() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--max-retries", "2"]);
    drop(server.request());
    server
        .request()
        .respond("500 Internal Server Error", &["Retry-After: 0"], "");
    server
        .request()
        .respond("503 Service Unavailable", &[], "the broker is away");
    let ended = listener.wait_for_end();
    assert_gave_up(
        &ended,
        "the server responded with 503 Service Unavailable: the broker is away",
        "3 attempts in a row",
    );
}

#[test]
fn an_event_resets_the_count_of_retries() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--max-retries", "1"]);
    for _ in 0..3 {
        server.stream("retry: 1\ndata: a\n\n").end();
    }
    server.request().respond("503 Service Unavailable", &[], "");
    let ended = listener.wait_for_end();
    assert_eq!(ended.stdout, "event: message \ndata: a\n".repeat(3));
    assert_gave_up(
        &ended,
        "the server responded with 503 Service Unavailable",
        "2 attempts in a row",
    );
}

#[test]
fn a_short_stream_without_an_event_does_not_reset_the_count() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--max-retries", "1"]);
    for _ in 0..2 {
        server.stream("retry: 1\n\n: nothing\n\n").end();
    }
    assert_gave_up(
        &listener.wait_for_end(),
        "the server ended the stream",
        "2 attempts in a row",
    );
}

#[test]
fn with_a_limit_the_message_contains_the_number_of_retries() {
    let port = PortWithoutServer::reserve();
    let listener = Listener::start(&["--url", &port.url(), "--max-retries", "1"]);
    let output = listener.wait_for_stderr("no server");
    assert!(
        output.contains("retrying once") && !output.contains("until"),
        "{output}"
    );
    assert_gave_up(
        &listener.wait_for_end(),
        "connection refused",
        "2 attempts in a row",
    );
}
