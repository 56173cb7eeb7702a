//! Data of the events: sequenced, sessions, and recordings.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    sync::mpsc,
    time::{SystemTime, UNIX_EPOCH},
};

use sse_proto::record::Stamp;

use crate::{
    program::Program,
    server::{Request, Response, Server},
};

fn json(request: &Request) -> serde_json::Value {
    serde_json::from_str(&request.body).expect("JSON")
}

#[test]
fn sequenced_events_are_stamps_of_the_requested_size() {
    let server = Server::willing();
    let arguments = [
        "--url",
        &server.url(),
        "--rate",
        "1000",
        "--count",
        "5",
        "--payload",
        "sequenced",
    ];
    // One request at a time means one lane.
    let arguments = arguments.into_iter().chain(["--concurrency", "1"]);
    Program::run(arguments.clone());
    let requests = server.requests(5);
    let mut stamps: Vec<Stamp> = requests
        .iter()
        .map(|request| serde_json::from_str(&request.body).unwrap())
        .collect();
    stamps.sort_by_key(|stamp| stamp.sequence);
    for (stamp, sequence) in stamps.iter().zip(0..) {
        assert_eq!(
            (stamp.sequence, &stamp.publisher),
            (sequence, &stamps[0].publisher)
        );
    }
    assert_eq!(json(&requests[0]).as_object().expect("an object").len(), 3);

    Program::run(arguments.chain(["--data-size", "1KiB"]));
    for request in server.requests(5) {
        assert_eq!(request.body.len(), 1024);
        assert!(serde_json::from_str::<Stamp>(&request.body).is_ok());
    }
}

#[test]
fn the_time_of_a_stamp_is_when_the_event_was_due_not_when_it_was_sent() {
    let now_us = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_micros()
    };
    let (sender, released) = mpsc::channel();
    let server = Server::start(move |request| {
        let stamp: Stamp = serde_json::from_str(&request.body).expect("a stamp");
        if stamp.sequence == 0 {
            // The second event is due a millisecond after the first, and cannot be sent before this
            // response.
            while now_us() < u128::from(stamp.sent_us) + 20_000 {
                std::thread::yield_now();
            }
            sender.send(now_us()).expect("the test waits");
        }
        Response::acknowledge()
    });
    let arguments = [
        "--url",
        &server.url(),
        "--rate",
        "1000",
        "--count",
        "2",
        "--concurrency",
        "1",
    ];
    Program::run(arguments.into_iter().chain(["--payload", "sequenced"]));
    let released = released.recv().expect("the first event came");
    let second: Stamp = serde_json::from_str(&server.requests(2)[1].body).expect("a stamp");
    assert!(
        u128::from(second.sent_us) < released,
        "{second:?} {released}"
    );
}

#[test]
fn sessions_repeat_with_a_seed_and_their_action_is_the_type() {
    let server = Server::willing();
    let url = server.url();
    let run = || {
        let arguments = [
            "--url",
            &url,
            "--rate",
            "1000",
            "--count",
            "60",
            "--payload",
            "session",
            "--users",
            "5",
        ];
        // One connection keeps the events in order.
        Program::run(
            arguments
                .into_iter()
                .chain(["--seed", "7", "--concurrency", "1"]),
        );
        let event = |request: &Request| {
            let body = json(request);
            assert_eq!(
                request.target(),
                format!("/event/{}", body["action"].as_str().expect("an action"))
            );
            assert!(
                body["timestamp"]
                    .as_str()
                    .is_some_and(|time| chrono::DateTime::parse_from_rfc3339(time).is_ok())
            );
            ["user_id", "session_id", "action", "page"]
                .map(|key| body[key].as_str().expect("a text").to_owned())
        };
        server.requests(60).iter().map(event).collect::<Vec<_>>()
    };
    let events = run();
    assert_eq!(events, run());
    let users: BTreeSet<&str> = events.iter().map(|[user, ..]| user.as_str()).collect();
    assert!((2..=5).contains(&users.len()), "{users:?}");
}

#[test]
fn a_recording_is_replayed_in_order_with_its_types_and_texts() {
    let server = Server::willing();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("recorded.ndjson");
    let lines = [
        r#"{"comment":"channel sse"}"#,
        r#"{"id":"5-0","event":"view","data":"two\nlines"}"#,
        r#"{"id":"@5-0","event":"gap","data":"{}"}"#,
        r#"{"id":"5-1","event":"buy now","data":"{\"a\": 1}","time":"2026-11-24T00:00:00.000Z"}"#,
        r#"{"event":"click","data":{"b": [1, 2]}}"#,
    ];
    fs::write(&path, lines.join("\n")).expect("a file");
    let replay = path.to_str().expect("a plain path");
    let arguments = [
        "--url",
        &server.url(),
        "--rate",
        "1000",
        "--concurrency",
        "1",
        "--replay",
        replay,
    ];
    let ended = Program::run(arguments);
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr_text().contains("sent 3, acknowledged 3,")
            && ended
                .stderr_text()
                .contains("1 recorded events were skipped")
    );
    let text = Some("text/plain; charset=utf-8");
    for (request, (target, media, body)) in server.requests(3).iter().zip([
        ("/event/view", text, "two\nlines"),
        ("/event/buy%20now", text, r#"{"a": 1}"#),
        ("/event/click", Some("application/json"), r#"{"b":[1,2]}"#),
    ]) {
        assert_eq!(
            (
                request.target(),
                request.header("content-type"),
                request.body.as_str()
            ),
            (target, media, body)
        );
    }
}

#[test]
fn a_recording_of_another_server_is_replayed_to_another_server_with_its_types() {
    let server = Server::willing();
    let url = server.url();
    let play = |extra: &[&str]| {
        let arguments = [
            "--url",
            &url,
            "--rate",
            "1000",
            "--concurrency",
            "1",
            "--replay",
            "-",
        ];
        let (program, mut stdin) =
            Program::start_fed(arguments.into_iter().chain(extra.iter().copied()));
        stdin
            .write_all(b"{\"event\":\"a/b\",\"data\":\"1\"}\n{\"event\":\"c\",\"data\":\"2\"}\n")
            .expect("it reads");
        drop(stdin);
        program.end()
    };
    assert_eq!(play(&["--path", "/publish/{action}"]).code, Some(0));
    let targets = server
        .requests(2)
        .iter()
        .map(|request| request.target().to_owned())
        .collect::<Vec<_>>();
    assert_eq!(targets, ["/publish/a%2Fb", "/publish/c"]);

    let ended = play(&[]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr_text()
            .contains("stdin, line 1: event: an event type is"),
        "{ended:?}"
    );
}

#[test]
fn a_recording_on_stdin_is_sent_while_it_is_written() {
    let server = Server::willing();
    let (program, mut stdin) =
        Program::start_fed(["--url", &server.url(), "--rate", "1000", "--replay", "-"]);
    // Each event is posted before the next one is written.
    for nth in 0..3 {
        writeln!(stdin, r#"{{"event":"a","data":"{nth}"}}"#).expect("it reads");
        assert_eq!(server.request().body, nth.to_string());
    }
    drop(stdin);
    let ended = program.end();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr_text().contains("sent 3, acknowledged 3,"),
        "{ended:?}"
    );
}

#[cfg(unix)]
#[test]
fn an_idle_pipe_does_not_outlast_the_duration_or_a_signal() {
    let server = Server::willing();
    let url = server.url();
    let arguments = ["--url", url.as_str(), "--rate", "1000", "--replay", "-"];
    let (program, _stdin) = Program::start_fed(arguments.into_iter().chain(["--duration", "50ms"]));
    assert_eq!(program.end().code, Some(0));

    let (program, mut stdin) = Program::start_fed(arguments);
    writeln!(stdin, r#"{{"event":"a","data":1}}"#).expect("it reads");
    server.request();
    program.signal("INT");
    assert_eq!(program.end().code, Some(0));
}

#[test]
fn an_invalid_line_ends_the_run_and_is_reported() {
    let server = Server::willing();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("recorded.ndjson");
    fs::write(
        &path,
        "{\"event\":\"a\",\"data\":1}\n\n{\"event\":\"a\"}\n{\"event\":\"a\",\"data\":2}\n",
    )
    .expect("a file");
    let replay = path.to_str().expect("a plain path");
    let ended = Program::run(["--url", &server.url(), "--rate", "1000", "--replay", replay]);
    assert_eq!(ended.code, Some(1));
    let output = ended.stderr_text();
    assert!(output.contains("sent 1, acknowledged 1,"), "{output}");
    assert!(
        output.contains(&format!("error: {replay}, line 3: missing field `data`")),
        "{output}"
    );

    let absent = directory.path().join("absent");
    let ended = Program::run(["--replay", absent.to_str().expect("a plain path")]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr_text().contains("cannot open the recording"),
        "{ended:?}"
    );
}
