//! The record: one line for every acknowledged and every unknown event, and none for a rejected
//! one.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use sse_proto::record::{Outcome, Sent, Stamp};

use crate::{
    program::Program,
    server::{Request, Response, Server},
};

fn lines(path: &Path) -> Vec<Sent> {
    let text = fs::read_to_string(path).expect("a record");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line"))
        .collect()
}

fn stamp(request: &Request) -> Stamp {
    serde_json::from_str(&request.body).expect("a stamped body")
}

#[test]
fn every_event_that_may_be_stored_has_a_line() {
    let requests = AtomicUsize::new(0);
    let server = Server::start(move |_| match requests.fetch_add(1, Ordering::Relaxed) {
        1 => Response::error(400, "invalid_channel", "no"),
        2 => Response::error(503, "outcome_unknown", "perhaps"),
        3 => Response::error(503, "broker_unavailable", "no"),
        4 => Response::Status(500, String::new()),
        5 => Response::Status(503, "<html>".to_owned()),
        6 => Response::Status(200, "stored".to_owned()),
        7 => Response::Break,
        _ => Response::acknowledge(),
    });
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sent.ndjson");
    fs::write(&path, "from an earlier run\n").expect("a file");
    let record = path.to_str().expect("a plain path");
    let arguments = [
        "--url",
        &server.url(),
        "--rate",
        "100",
        "--count",
        "9",
        "--channel",
        "orders",
        "--record",
        record,
    ];
    let ended = Program::run(
        arguments
            .into_iter()
            .chain(["--stamp", "--concurrency", "1"]),
    );
    assert_eq!(ended.code, Some(0));
    assert!(
        ended
            .stderr_text()
            .contains("sent 9, acknowledged 2, failed 2, unknown 5"),
        "{ended:?}"
    );

    let stamps: Vec<Stamp> = server.requests(9).iter().map(stamp).collect();
    let run = stamps[0]
        .publisher
        .strip_suffix("/0")
        .expect("the first lane")
        .to_owned();
    // The number of a rejected event is used again. After an unknown outcome, another lane is used.
    let lanes = [
        (0, 0),
        (0, 1),
        (0, 1),
        (1, 0),
        (1, 0),
        (2, 0),
        (3, 0),
        (4, 0),
        (5, 0),
    ];
    for (stamp, (lane, sequence)) in stamps.iter().zip(lanes) {
        assert_eq!(
            (stamp.publisher.as_str(), stamp.sequence),
            (format!("{run}/{lane}").as_str(), sequence)
        );
    }
    let line = |nth: usize, outcome| Sent {
        outcome,
        id: (outcome == Outcome::Acknowledged).then(|| "1700000000000-5".to_owned()),
        channel: "orders".to_owned(),
        publisher: stamps[nth].publisher.clone(),
        sequence: stamps[nth].sequence,
    };
    let unknown = [2, 4, 5, 6, 7].map(|nth| line(nth, Outcome::Unknown));
    let mut expected = vec![line(0, Outcome::Acknowledged)];
    expected.extend(unknown);
    expected.push(line(8, Outcome::Acknowledged));
    assert_eq!(lines(&path), expected);
}

#[test]
fn the_channel_of_a_record_is_the_default_of_the_server_if_none_is_set() {
    let server = Server::willing();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sent.ndjson");
    Program::run([
        "--url",
        &server.url(),
        "--count",
        "1",
        "--stamp",
        "--record",
        path.to_str().expect("a plain path"),
    ]);
    assert_eq!(lines(&path)[0].channel, "sse");
    let request = server.request();
    assert!(!request.target().contains('?'));
    let keys = [
        "{\"message\":\"user_id: ",
        "\",\"publisher\":\"",
        "\",\"sequence\":0,\"sent_us\":",
    ];
    assert!(
        keys.iter().all(|key| request.body.contains(key)),
        "{}",
        request.body
    );
}

#[test]
fn a_record_alone_does_not_change_the_data_of_events() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sent.ndjson");
    let record = path.to_str().expect("a plain path");
    let server = Server::willing();
    let url = server.url();
    let arguments = ["--url", &url, "--count", "1", "--record", record];
    Program::run(arguments);
    let body = server.request().body;
    assert!(
        body.starts_with("\"user_id: ") && body.contains(", timestamp: ") && body.ends_with(")\""),
        "{body}"
    );
    let line = &lines(&path)[0];
    assert_eq!(
        (line.outcome, line.id.as_deref(), line.sequence),
        (Outcome::Acknowledged, Some("1700000000000-5"), 0)
    );
    Program::run(arguments.into_iter().chain(["--payload", "session"]));
    let body = server.request().body;
    assert!(!body.contains("publisher"), "{body}");
}

#[test]
fn a_record_that_cannot_be_created_ends_the_run_before_the_first_event() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("absent").join("sent.ndjson");
    let record = path.to_str().expect("a plain path");
    let ended = Program::run(["--record", record]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr_text()
            .starts_with(&format!("error: cannot create the record file {record}: ")),
        "{ended:?}"
    );
}
