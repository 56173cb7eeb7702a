//! Other methods than GET: when the body is sent, and where.

use crate::support::{Listener, Server};

const BODY: &str = "{\"stream\": true, \"question\": \"é?\"}";

#[test]
fn a_body_and_its_type_are_sent_again_after_a_cut_and_a_redirect() {
    let server = Server::start();
    let listener = Listener::start(&[
        "--url",
        &server.url(),
        "--bearer",
        "token",
        "--body",
        BODY,
        "--count",
        "2",
        "--format",
        "data",
    ]);
    let first = server.request();
    assert_eq!(
        first.posted(),
        ("POST /stream", Some("application/json"), BODY)
    );
    first.respond("307 Temporary Redirect", &["Location: /answers?id=1"], "");
    let mut moved = server.request();
    assert_eq!(
        moved.posted(),
        ("POST /answers?id=1", Some("application/json"), BODY)
    );
    assert_eq!(moved.header("authorization"), Some("Bearer token"));
    moved.open_stream();
    moved.send("retry: 1\nid: 1\ndata: a\n\n");
    moved.end();
    let mut again = server.request();
    assert_eq!(
        again.posted(),
        ("POST /stream", Some("application/json"), BODY)
    );
    assert_eq!(again.header("last-event-id"), Some("1"));
    again.open_stream();
    again.send("data: b\n\n");
    assert_eq!(listener.wait_for_end().stdout, "a\nb\n");
}

#[test]
fn another_origin_gets_the_body_but_no_secrets() {
    let (server, elsewhere) = (Server::start(), Server::start());
    let _listener =
        Listener::start(&["--url", &server.url(), "--bearer", "secret", "--body", BODY]);
    server.request().respond(
        "308 Permanent Redirect",
        &[&format!("Location: {}/a", elsewhere.url())],
        "",
    );
    let moved = elsewhere.request();
    assert_eq!(moved.posted(), ("POST /a", Some("application/json"), BODY));
    assert_eq!(moved.header("authorization"), None);
}

#[test]
fn after_see_other_there_is_no_body() {
    let server = Server::start();
    let _listener = Listener::start(&["--url", &server.url(), "--body", BODY]);
    server
        .request()
        .respond("303 See Other", &["Location: /a"], "");
    assert_eq!(server.request().posted(), ("GET /a", None, ""));
}

#[test]
fn a_body_from_a_file_is_sent_with_the_given_method_and_type() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    std::fs::write(&file, "a=b").unwrap();
    let (server, body) = (Server::start(), format!("@{}", file.display()));
    let _listener = Listener::start(&[
        "--url",
        &server.url(),
        "--method",
        "report",
        "--body",
        &body,
        "--header",
        "content-type: x/y",
    ]);
    assert_eq!(
        server.request().posted(),
        ("REPORT /stream", Some("x/y"), "a=b")
    );
}
