//! The record: a line for what was acknowledged and for what nobody knows, none for what was refused.

use std::{fs, path::Path};

use sse_proto::record::{Outcome, Sent, Stamp};

use crate::{
    program::Program,
    server::{Reply, Request, Server},
};

fn lines(path: &Path) -> Vec<Sent> {
    let text = fs::read_to_string(path).expect("a record");
    let mut lines: Vec<Sent> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    lines.sort_by_key(|line| line.sequence);
    lines
}

fn sequence(request: &Request) -> u64 {
    serde_json::from_str::<Stamp>(&request.body).expect("a stamped body").sequence
}

#[test]
fn every_outcome_that_is_not_a_refusal_has_a_line() {
    let server = Server::start(|request| match sequence(request) {
        1 => Reply::error(400, "invalid_channel", "no"),
        2 => Reply::error(503, "outcome_unknown", "perhaps"),
        3 => Reply::error(503, "broker_unavailable", "no"),
        4 => Reply::Answer(500, String::new()),
        5 => Reply::Answer(503, "<html>".to_owned()),
        6 => Reply::Answer(200, "stored".to_owned()),
        7 => Reply::Break,
        _ => Reply::acknowledge(),
    });
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sent.ndjson");
    fs::write(&path, "from an earlier run\n").expect("a file");
    let record = path.to_str().expect("a plain path");
    let arguments =
        ["--url", &server.url(), "--rate", "100", "--count", "9", "--channel", "orders", "--record", record];
    let ended = Program::run(arguments);
    assert_eq!(ended.code, Some(0));
    assert!(ended.said().contains("sent 9, acknowledged 2, failed 2, unknown 5"), "{ended:?}");

    let publisher = serde_json::from_str::<Stamp>(&server.request().body).expect("a stamped body").publisher;
    let line = |sequence, outcome| Sent {
        outcome,
        id: (outcome == Outcome::Acknowledged).then(|| "1700000000000-5".to_owned()),
        channel: "orders".to_owned(),
        publisher: publisher.clone(),
        sequence,
    };
    let unknown = [2, 4, 5, 6, 7].map(|sequence| line(sequence, Outcome::Unknown));
    let mut expected = vec![line(0, Outcome::Acknowledged)];
    expected.extend(unknown);
    expected.push(line(8, Outcome::Acknowledged));
    assert_eq!(lines(&path), expected);
}

#[test]
fn the_channel_of_a_record_is_the_servers_default_when_none_is_given() {
    let server = Server::willing();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sent.ndjson");
    Program::run(["--url", &server.url(), "--count", "1", "--record", path.to_str().expect("a plain path")]);
    assert_eq!(lines(&path)[0].channel, "sse");
    let request = server.request();
    assert!(!request.target().contains('?'));
    let keys = ["{\"message\":\"user_id: ", "\",\"publisher\":\"", "\",\"sequence\":0,\"sent_us\":"];
    assert!(keys.iter().all(|key| request.body.contains(key)), "{}", request.body);
}

#[test]
fn a_record_that_cannot_be_made_ends_the_run_before_it_begins() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("absent").join("sent.ndjson");
    let record = path.to_str().expect("a plain path");
    let ended = Program::run(["--record", record]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.said().starts_with(&format!("error: cannot create the record file {record}: ")), "{ended:?}");
}
