//! A gap is reported on stderr and recorded, and is not an event.

use std::fs;

use sse_proto::record::Received;

use crate::support::{Listener, Server};

const GAP: &str = "id: @5-0\nevent: gap\ndata: {\"channel\":\"orders\",\"after\":\"1-0\",\"oldest\":\"5-0\",\"reason\":\"trimmed\"}\n\n";

#[test]
fn a_gap_is_reported_and_recorded_and_does_not_count_as_an_event() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("got.ndjson");
    for format in ["text", "json"] {
        let server = Server::start();
        let record = path.to_str().unwrap();
        let listener = Listener::start(&[
            "--url",
            &server.url(),
            "--format",
            format,
            "--count",
            "1",
            "--record",
            record,
        ]);
        let mut stream = server.stream(GAP);
        let output = listener.wait_for_stderr("gap: ");
        assert!(
            output.contains("orders after 1-0") && output.contains("continuing with 5-0"),
            "{output}"
        );
        stream.send("id: 5-0\nevent: click\ndata: a\n\n");
        let ended = listener.wait_for_end();
        assert_eq!(ended.code, Some(0));
        assert!(
            ended.stdout.contains("click") && !ended.stdout.contains("gap"),
            "{ended:?}"
        );
        let lines: Vec<Received> = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(
            matches!(&lines[0], Received::Gap { id, gap } if id == "@5-0" && gap.after == "1-0"),
            "{lines:?}"
        );
        assert!(
            matches!(&lines[1], Received::Event { id, event, .. } if id == "5-0" && event == "click"),
            "{lines:?}"
        );
        assert_eq!(lines.len(), 2);
    }
}

#[test]
fn a_gap_moves_the_position() {
    let server = Server::start();
    let _listener = Listener::start(&["--url", &server.url()]);
    server.stream(format!("retry: 1\n\n{GAP}")).end();
    assert_eq!(server.request().header("last-event-id"), Some("@5-0"));
}

#[test]
fn a_gap_event_of_another_server_is_an_ordinary_event() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--count", "1"]);
    let _stream = server.stream("event: gap\ndata: 5 mm\n\n");
    let ended = listener.wait_for_end();
    assert_eq!(ended.stdout, "event: gap \ndata: 5 mm\n");
    assert!(!ended.stderr.contains("gap:"), "{ended:?}");
}
