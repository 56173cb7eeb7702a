//! Batches: the requests, and the outcomes of their events.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use sse_proto::record::{Outcome, Sent, Stamp};

use crate::{
    program::Program,
    server::{Gate, Request, Response, Server},
};

/// Returns the stamps of a batch, in order.
fn stamps(request: &Request) -> Vec<u64> {
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        serde_json::from_value::<Stamp>(value["data"].clone())
            .expect("a stamp")
            .sequence
    };
    request.body.lines().map(line).collect()
}

/// Responds to batches like sse-server, with ids from 7-0.
fn storing() -> Server {
    Server::start(|request| Response::batch(request.body.lines().count()))
}

#[test]
fn events_are_sent_in_batches_and_the_rest_at_the_end() {
    let server = storing();
    let url = format!("{}/live", server.url());
    let arguments = [
        "--url",
        &url,
        "--rate",
        "1000",
        "--count",
        "7",
        "--batch",
        "3",
        "--channel",
        "orders",
    ];
    let more = [
        "--concurrency",
        "1",
        "--payload",
        "sequenced",
        "--print-status",
    ];
    let ended = Program::run(arguments.into_iter().chain(more));
    assert_eq!((ended.code, ended.stdout.len()), (Some(0), 3));
    assert!(
        ended
            .stderr_text()
            .contains("sent 7, acknowledged 7, failed 0, unknown 0"),
        "{ended:?}"
    );
    let requests = server.requests(3);
    for request in &requests {
        assert_eq!(request.line, "POST /live/events?channel=orders HTTP/1.1");
        assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
    }
    let sequences: Vec<_> = requests.iter().map(stamps).collect();
    assert_eq!(sequences, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
}

#[test]
fn the_string_of_the_tutorial_arrives_as_if_it_were_posted_alone() {
    let server = storing();
    Program::run([
        "--url",
        &server.url(),
        "--rate",
        "1000",
        "--count",
        "2",
        "--batch",
        "2",
    ]);
    for line in server.request().body.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        // The server sends a string as its text: the text must be the JSON string.
        let text: String =
            serde_json::from_str(line["data"].as_str().expect("a string")).expect("a JSON string");
        assert!(text.starts_with("user_id: "), "{text}");
    }
}

#[test]
fn a_batch_is_recorded_event_by_event() {
    let requests = AtomicUsize::new(0);
    let server = Server::start(move |_| match requests.fetch_add(1, Ordering::Relaxed) {
        0 => Response::batch(3),
        1 => Response::error(503, "outcome_unknown", "perhaps"),
        2 => Response::error(413, "too_large", "smaller"),
        // A response about fewer events than were sent is no acknowledgement.
        _ => Response::batch(2),
    });
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sent.ndjson");
    let record = path.to_str().expect("a plain path");
    let ended = Program::run([
        "--url",
        &server.url(),
        "--rate",
        "1000",
        "--count",
        "12",
        "--batch",
        "3",
        "--concurrency",
        "1",
        "--payload",
        "sequenced",
        "--record",
        record,
    ]);
    assert_eq!(ended.code, Some(0));
    assert!(
        ended
            .stderr_text()
            .contains("sent 12, acknowledged 3, failed 3, unknown 6"),
        "{ended:?}"
    );
    assert!(
        ended.stderr_text().contains("events 6 to 8 failed: 413"),
        "{ended:?}"
    );
    let text = fs::read_to_string(&path).expect("a record");
    let lines: Vec<Sent> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line"))
        .collect();
    let lane = |line: &Sent| {
        line.publisher
            .rsplit_once('/')
            .expect("a lane")
            .1
            .to_owned()
    };
    let known: Vec<_> = lines
        .iter()
        .map(|line| (lane(line), line.sequence, line.outcome, line.id.as_deref()))
        .collect();
    let acknowledged = |sequence, id| ("0".to_owned(), sequence, Outcome::Acknowledged, Some(id));
    let unknown = |lane: &str, sequence| (lane.to_owned(), sequence, Outcome::Unknown, None);
    // The only id between 7-0 and 7-2 is 7-1. The numbers of the rejected batch are used again.
    let mut expected = vec![
        acknowledged(0, "7-0"),
        acknowledged(1, "7-1"),
        acknowledged(2, "7-2"),
    ];
    expected.extend([3, 4, 5].map(|sequence| unknown("0", sequence)));
    expected.extend([0, 1, 2].map(|sequence| unknown("1", sequence)));
    assert_eq!(known, expected);
}

#[cfg(unix)]
#[test]
fn a_signal_sends_the_incomplete_batch() {
    let server = storing();
    // The first event is due at once, the hundredth after 28 hours.
    let program = Program::start([
        "--url",
        &server.url(),
        "--rate",
        "0.001",
        "--batch",
        "100",
        "--progress",
        "lines",
    ]);
    // The first line of the progress proves that the first event is in the batch.
    while !program.stderr_line().contains("sent 1, ") {}
    program.signal("TERM");
    let ended = program.end();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended
            .stderr_text()
            .contains("sent 1, acknowledged 1, failed 0, unknown 0"),
        "{ended:?}"
    );
    assert_eq!(server.request().body.lines().count(), 1);
}

#[test]
fn no_more_requests_are_in_flight_than_allowed() {
    // The server responds to two requests together: with one at a time, the second would never
    // arrive.
    let gate = Gate::default();
    let server = Server::start(move |_| {
        if gate.arrive_and_wait_for(2) {
            Response::acknowledge()
        } else {
            Response::Break
        }
    });
    let ended = Program::run([
        "--url",
        &server.url(),
        "--rate",
        "max",
        "--count",
        "2",
        "--concurrency",
        "2",
    ]);
    assert!(ended.stderr_text().contains("acknowledged 2,"), "{ended:?}");

    let (server, most) = Server::counting_together();
    let ended = Program::run([
        "--url",
        &server.url(),
        "--rate",
        "max",
        "--count",
        "50",
        "--concurrency",
        "3",
    ]);
    assert!(
        ended.stderr_text().contains("acknowledged 50,"),
        "{ended:?}"
    );
    let most = most.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most}");
}
