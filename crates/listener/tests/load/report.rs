//! The report: aligned lines for people, and JSON with everything.

use crate::{
    run::{Bench, event, events},
    support::{Listener, Server},
};

#[test]
fn the_json_report_has_everything() {
    let server = Server::start();
    let bench = Bench::start(
        &server,
        &[
            "--count",
            "2",
            "--url",
            &format!("{}/secret?token=secret", server.url()),
        ],
    );
    let _stream = server.stream(events(0..2));
    let done = bench.done();
    for pointer in [
        "/started",
        "/ended_by",
        "/elapsed_s",
        "/urls/1",
        "/sources",
        "/connections/streaming_at_the_end",
        "/connects/unfinished",
        "/first_byte/p99_us",
        "/open/max_us",
        "/back_after_cut/count",
        "/events/per_second",
        "/bytes/data",
        "/bytes/wire_per_second",
        "/latency/p99_9_us",
        "/loss/judged",
        "/loss/unjudged",
        "/advice",
    ] {
        assert!(
            done.report.pointer(pointer).is_some(),
            "{pointer} in {:#}",
            done.report
        );
    }
    assert!(
        !done.report.to_string().contains("token"),
        "{:#}",
        done.report
    );
}

#[test]
fn the_text_has_a_line_for_each_thing() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "1"]);
    let _stream = server.stream(format!(": hello\n\n{}", event(0)));
    let text = bench.done().ended.stdout;
    for name in [
        "time",
        "connections",
        "connects",
        "first byte",
        "open",
        "latency",
        "events",
        "bytes",
        "publisher",
        "lost",
    ] {
        assert!(
            text.lines()
                .any(|line| line.starts_with(&format!("{name:<14}  "))),
            "{name}:\n{text}"
        );
    }
    assert!(
        text.lines()
            .any(|line| line.starts_with("type") && line.ends_with("1 × tick")),
        "{text}"
    );
}

#[test]
fn a_report_that_cannot_be_written_is_known_before_anything_is_asked() {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("no-such-directory/report.json");
    let ended = Listener::start(&[
        "bench",
        "--url",
        &server.url(),
        "--report",
        path.to_str().expect("UTF-8"),
    ])
    .ended();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("cannot write the report to") && ended.stdout.is_empty(),
        "{ended:?}"
    );
}

#[test]
fn how_it_goes_is_said_as_often_as_asked_for() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "2", "--progress-every", "10ms"]);
    let mut stream = server.stream(event(0));
    bench.said("1 of 1 streams, 1 events");
    stream.send(event(1));
    bench.done().assert_code(0);
}
