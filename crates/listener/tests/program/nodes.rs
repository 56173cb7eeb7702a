//! Several URLs: the nodes of one system, tried in turn.

use crate::support::{Listener, PortWithoutServer, Server};

#[test]
fn after_a_cut_the_next_node_is_asked_for_the_events_after_the_last_id() {
    let (one, two) = (Server::start(), Server::start());
    let listener = Listener::start(&[
        "--url",
        &one.url(),
        "--url",
        &two.url(),
        "--count",
        "3",
        "--format",
        "data",
    ]);
    one.stream("retry: 1\n\nid: 1-0\ndata: a\n\n").end();
    let mut next = two.request();
    assert_eq!(next.header("last-event-id"), Some("1-0"));
    next.open_stream();
    next.send("id: 2-0\ndata: b\n\n");
    next.end();
    let mut first = one.request();
    assert_eq!(first.header("last-event-id"), Some("2-0"));
    first.open_stream();
    first.send("id: 3-0\ndata: c\n\n");
    assert_eq!(listener.wait_for_end().stdout, "a\nb\nc\n");
}

#[test]
fn a_missing_node_is_skipped() {
    let (absent, server) = (PortWithoutServer::take(), Server::start());
    let urls = format!("{} {}", absent.url(), server.url());
    let mut command = Listener::command(&["--count", "1", "--format", "data"]);
    let listener = Listener::spawn(
        command.env("LISTENER_URL", urls),
        crate::support::Reading::All,
    );
    listener.wait_for_stderr(&format!("no server at {}", absent.url()));
    let _stream = server.stream("data: a\n\n");
    assert_eq!(listener.wait_for_end().stdout, "a\n");
}

#[test]
fn a_node_that_rejects_or_is_unavailable_is_skipped() {
    let servers = [Server::start(), Server::start(), Server::start()];
    let urls = servers.each_ref().map(Server::url).join(" ");
    let listener = Listener::start(&["--url", &urls, "--count", "1", "--format", "data"]);
    servers[0]
        .request()
        .respond("404 Not Found", &[], "not here");
    listener.wait_for_stderr("404 Not Found: not here; retrying at once");
    servers[1]
        .request()
        .respond("503 Service Unavailable", &["Retry-After: 3000"], "");
    listener.wait_for_stderr("retrying at once");
    let _stream = servers[2].stream("data: a\n\n");
    assert_eq!(listener.wait_for_end().stdout, "a\n");
}

#[test]
fn a_rejection_by_all_nodes_is_final() {
    let (one, two) = (Server::start(), Server::start());
    let listener = Listener::start(&["--url", &one.url(), "--url", &two.url()]);
    one.request().respond("404 Not Found", &[], "");
    two.request().respond("403 Forbidden", &[], "not you");
    let ended = listener.wait_for_end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains(&format!(
            "{}/stream: the server responded with 403",
            two.url()
        )),
        "{ended:?}"
    );
}

#[test]
fn retries_are_counted_over_all_nodes() {
    let (one, two) = (PortWithoutServer::take(), PortWithoutServer::take());
    let ended = Listener::start(&[
        "--url",
        &one.url(),
        "--url",
        &two.url(),
        "--max-retries",
        "2",
    ])
    .wait_for_end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("gave up after 3 attempts in a row"),
        "{ended:?}"
    );
}
