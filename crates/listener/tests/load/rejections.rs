//! Responses that are not a stream are counted by kind, with the message of the server.

use crate::{
    run::{Bench, event},
    support::{PortWithoutServer, Server},
};

fn refusal(status: &str, headers: &[&str], body: &str) -> (String, String) {
    let server = Server::start();
    let bench = Bench::start(&server, &[]);
    server.request().respond(status, headers, body);
    let done = bench.wait_for_end();
    done.assert_code(1);
    assert!(
        done.ended.stderr.contains("no connection could be opened"),
        "{done:?}"
    );
    assert_eq!(
        done.numbers(["/connects/refused_total", "/connects/opened"]),
        [1, 0]
    );
    let refused = &done.report["connects"]["refused"][0];
    let text = |key: &str| refused[key].as_str().expect("a text").to_owned();
    assert!(done.ended.stdout.contains(&text("answer")), "{done:?}");
    (text("answer"), text("message"))
}

#[test]
fn a_rejection_is_reported_with_the_message_of_the_server() {
    let ours = r#"{"error":{"code":"no_such_path","message":"try GET /stream"}}"#;
    assert_eq!(
        refusal("404 Not Found", &[], ours),
        ("404".to_owned(), "try GET /stream".to_owned())
    );
    assert_eq!(
        refusal("403 Forbidden", &[], "no\x1b[2J way"),
        ("403".to_owned(), "no[2J way".to_owned())
    );
    let (response, message) = refusal("302 Found", &["Location: /there"], "");
    assert!(
        response.starts_with("302, a redirect") && message == "to /there",
        "{response} {message}"
    );
    let (response, _) = refusal("200 OK", &["Content-Type: text/html"], "<p>");
    assert!(response.contains("text/html"), "{response}");
    let (response, _) = refusal(
        "200 OK",
        &["Content-Type: text/event-stream", "Content-Encoding: gzip"],
        "x",
    );
    assert!(response.contains("gzip"), "{response}");
}

#[test]
fn a_transient_rejection_is_retried() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "1", "--connections", "2"]);
    let mut first = server.stream("");
    server
        .request()
        .respond("503 Service Unavailable", &[], "busy");
    let mut second = server.stream("");
    first.send(event(0));
    second.send(event(0));
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(
        done.numbers([
            "/connects/asked",
            "/connects/opened",
            "/connects/refused_total"
        ]),
        [3, 2, 1]
    );
    assert_eq!(done.report["connects"]["refused"][0]["message"], "busy");
}

#[test]
fn rejections_of_the_same_kind_are_counted_together() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--connections", "5"]);
    for _ in 0..5 {
        server
            .request()
            .respond("401 Unauthorized", &[], "who are you?");
    }
    let done = bench.wait_for_end();
    done.assert_code(1);
    assert_eq!(done.number("/connects/refused/0/count"), 5);
    assert_eq!(
        done.report["connects"]["refused"][0]["message"],
        "who are you?"
    );
}

#[test]
fn no_content_ends_a_connection_for_good() {
    let server = Server::start();
    let bench = Bench::start(&server, &[]);
    server.stream(format!("retry: 0\n\n{}", event(0))).end();
    server.request().respond("204 No Content", &[], "");
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(
        done.numbers(["/connects/no_content", "/events/total", "/ends/by_server"]),
        [1, 1, 1]
    );
    assert_eq!(done.report["ended_by"], "no connection was left");
}

#[test]
fn a_missing_server_is_a_failure_with_a_hint() {
    let port = PortWithoutServer::take();
    let done = Bench::at(&[&port.url()], &["--connections", "3"]).wait_for_end();
    done.assert_code(1);
    assert_eq!(
        done.numbers(["/connects/failed/connection refused", "/connects/opened"]),
        [3, 0]
    );
    assert!(
        done.ended.stdout.contains("check whether a server listens"),
        "{done:?}"
    );
}

#[test]
fn a_missing_node_leads_to_the_next_one() {
    let (port, server) = (PortWithoutServer::take(), Server::start());
    let bench = Bench::at(
        &[&port.url(), &server.url()],
        &["--connections", "2", "--count", "1"],
    );
    let _streams = [server.stream(event(0)), server.stream(event(0))];
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(
        done.numbers(["/connects/failed/connection refused", "/connections/opened"]),
        [1, 2]
    );
}
