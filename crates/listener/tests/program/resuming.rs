//! A reconnect resumes with the last event id, by the rules of the standard.

use crate::support::{Listener, Server};

/// The `Last-Event-ID` of the request after a stream of these bytes was cut.
fn sent_after(arguments: &[&str], stream: &str) -> Option<String> {
    let server = Server::start();
    let url = server.url();
    let _listener = Listener::start(&[&["--url", url.as_str()], arguments].concat());
    server.stream(format!("retry: 1\n\n{stream}")).end();
    server.request().header("last-event-id").map(str::to_owned)
}

#[test]
fn the_first_request_has_an_id_only_if_one_is_given() {
    let server = Server::start();
    let _without = Listener::start(&["--url", &server.url()]);
    assert_eq!(server.request().header("last-event-id"), None);
    let server = Server::start();
    let _with = Listener::start(&["--url", &server.url(), "--last-event-id", "1700-5"]);
    assert_eq!(server.request().header("last-event-id"), Some("1700-5"));
}

#[test]
fn a_reconnect_resumes_after_the_last_event() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--count", "3"]);
    server
        .stream("retry: 1\n\nid: 1-0\ndata: a\n\nid: 2-0\ndata: b\n\n")
        .end();
    let mut again = server.request();
    assert_eq!(again.header("last-event-id"), Some("2-0"));
    again.open_stream();
    again.send("id: 3-0\ndata: c\n\n");
    let ended = listener.wait_for_end();
    assert_eq!(
        ended.stdout,
        "event: message \ndata: a\nevent: message \ndata: b\nevent: message \ndata: c\n"
    );
    assert!(ended.stderr.contains("again"), "{ended:?}");
}

#[test]
fn the_position_of_the_first_block_survives_a_cut_before_the_first_event() {
    assert_eq!(
        sent_after(&[], "id: 5-0\n: welcome\n\n").as_deref(),
        Some("5-0")
    );
}

#[test]
fn events_without_an_id_keep_the_last_id() {
    assert_eq!(
        sent_after(&[], "id: 5-0\ndata: a\n\ndata: b\n\n").as_deref(),
        Some("5-0")
    );
    assert_eq!(
        sent_after(&["--last-event-id", "4-0"], "data: b\n\n").as_deref(),
        Some("4-0")
    );
}

#[test]
fn an_empty_id_resets_the_last_id() {
    assert_eq!(
        sent_after(&["--last-event-id", "4-0"], "id: 5-0\ndata: a\n\nid:\n\n"),
        None
    );
}

#[test]
fn an_unfinished_block_never_changes_the_last_id() {
    assert_eq!(
        sent_after(&[], "id: 5-0\ndata: a\n\nid: 6-0\ndata: b\n").as_deref(),
        Some("5-0")
    );
}

#[test]
fn an_id_is_sent_as_utf8() {
    let server = Server::start();
    let _listener = Listener::start(&["--url", &server.url()]);
    server.stream("retry: 1\n\nid: é\u{1F600}\n\n").end();
    assert_eq!(server.request().header("last-event-id"), Some("é\u{1F600}"));
}

#[test]
fn an_id_that_no_header_can_carry_is_not_sent_but_reported() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url()]);
    server.stream("retry: 1\n\nid: a\u{1}b\n\n").end();
    assert_eq!(server.request().header("last-event-id"), None);
    listener.wait_for_stderr("cannot be sent: events may be missing");
}

#[test]
fn a_connection_that_breaks_in_the_middle_of_a_chunk_is_resumed() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--count", "1"]);
    drop(server.stream("retry: 1\nid: 5-0\n\ndata: torn"));
    let mut again = server.request();
    assert_eq!(again.header("last-event-id"), Some("5-0"));
    again.open_stream();
    again.send("data: whole\n\n");
    assert_eq!(
        listener.wait_for_end().stdout,
        "event: message \ndata: whole\n"
    );
}
