//! Final responses: the listener ends, and reports the message of the server.

use crate::support::{Listener, Server};

/// The exit code and stderr after one response.
fn ends(status: &str, headers: &[&str], body: &str) -> (Option<i32>, String) {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url()]);
    server.request().respond(status, headers, body);
    let ended = listener.wait_for_end();
    assert_eq!(ended.stdout, "");
    (ended.code, ended.stderr)
}

#[test]
fn no_content_ends_the_listener_with_success() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url()]);
    server.stream("retry: 1\n\ndata: a\n\n").end();
    server.request().respond("204 No Content", &[], "");
    let ended = listener.wait_for_end();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "event: message \ndata: a\n")
    );
}

#[test]
fn a_rejection_is_reported_with_the_message_of_the_server() {
    let body = r#"{"error":{"code":"no_such_path","message":"no such path: try GET /stream"}}"#;
    let (code, stderr) = ends("404 Not Found", &["Content-Type: application/json"], body);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("404 Not Found: no such path: try GET /stream\n"),
        "{stderr}"
    );
}

#[test]
fn other_text_is_reported_cut_and_cleaned() {
    let (code, stderr) = ends(
        "403 Forbidden",
        &[],
        &format!("\x1b[31m<h1>No</h1>\n{}", "x".repeat(1000)),
    );
    assert_eq!(code, Some(1));
    let start = "[31m<h1>No</h1> ";
    let expected = format!("403 Forbidden: {start}{}\n", "x".repeat(200 - start.len()));
    assert!(stderr.ends_with(&expected), "{stderr}");
}

#[test]
fn another_content_type_is_not_a_stream() {
    let (code, stderr) = ends("200 OK", &["Content-Type: text/html"], "<h1>Welcome</h1>");
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("\"text/html\", which is not text/event-stream: <h1>Welcome</h1>"),
        "{stderr}"
    );
}

#[test]
fn a_compression_is_named() {
    for coding in ["gzip", "none, gzip"] {
        let coding = format!("Content-Encoding: {coding}");
        let headers = ["Content-Type: text/event-stream", coding.as_str()];
        let (code, stderr) = ends("200 OK", &headers, "");
        assert_eq!(code, Some(1));
        let expected = "200 OK compressed by \"gzip\", which was not requested";
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn other_statuses_are_final_too() {
    for status in [
        "201 Created",
        "304 Not Modified",
        "400 Bad Request",
        "410 Gone",
    ] {
        let (code, stderr) = ends(status, &["Content-Type: text/event-stream"], "");
        assert_eq!(code, Some(1), "{status}");
        assert!(stderr.contains(status), "{stderr}");
    }
}

#[test]
fn a_circle_of_redirects_is_a_failure() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url()]);
    for _ in 0..=10 {
        server
            .request()
            .respond("302 Found", &["Location: /stream"], "");
    }
    let ended = listener.wait_for_end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("cannot follow the redirects"),
        "{ended:?}"
    );
}
