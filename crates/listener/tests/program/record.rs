//! The record file contains the received events with their publishers, and nothing of an earlier
//! run.

use std::fs;

use sse_proto::record::{Received, Stamp};

use crate::support::{Listener, Server};

#[test]
fn the_record_contains_the_stamps_of_events() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("got.ndjson");
    fs::write(&path, "of an earlier run\n").unwrap();
    let server = Server::start();
    let listener = Listener::start(&[
        "--url",
        &server.url(),
        "--count",
        "2",
        "--record",
        path.to_str().unwrap(),
    ]);
    let _stream = server.stream(
        "id: 1-0\nevent: click\ndata: {\"publisher\":\"p\",\"sequence\":7,\"sent_us\":8,\"user_id\":\"u\"}\n\n\
         id: 2-0\nevent: view\ndata: \"user_id: u\"\n\n",
    );
    assert_eq!(listener.wait_for_end().code, Some(0));
    let record = fs::read_to_string(&path).unwrap();
    let lines: Vec<Received> = record
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let stamps: Vec<_> = lines
        .iter()
        .map(|line| match line {
            Received::Event {
                id, event, stamp, ..
            } => (id.as_str(), event.as_str(), stamp.clone()),
            Received::Gap { .. } => panic!("no gap was sent"),
        })
        .collect();
    let stamp = Stamp {
        publisher: "p".to_owned(),
        sequence: 7,
        sent_us: 8,
    };
    assert_eq!(
        stamps,
        [("1-0", "click", Some(stamp)), ("2-0", "view", None)]
    );
}

#[test]
fn a_line_is_written_before_its_event_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("got.ndjson");
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--record", path.to_str().unwrap()]);
    let _stream = server.stream("id: 1-0\nevent: click\ndata: a\n\n");
    assert_eq!(listener.line(), "event: click \n");
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
}

#[test]
fn a_record_file_that_cannot_be_created_is_an_error_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("absent").join("got.ndjson");
    let ended = Listener::start(&["--record", path.to_str().unwrap()]).wait_for_end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("cannot create the record file")
            && ended.stderr.contains("got.ndjson"),
        "{ended:?}"
    );
}
