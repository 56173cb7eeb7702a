//! The report: aligned lines for people, and JSON with all details.

use crate::{
    run::{Bench, event, events},
    support::{Listener, Server},
};

#[test]
fn the_json_report_contains_everything() {
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
    let done = bench.wait_for_end();
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
fn the_text_report_has_a_line_per_thing() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "1"]);
    let _stream = server.stream(format!(": hello\n\n{}", event(0)));
    let text = bench.wait_for_end().ended.stdout;
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
fn a_report_file_that_cannot_be_created_is_an_error_at_the_start() {
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
    .wait_for_end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("cannot write the report to") && ended.stdout.is_empty(),
        "{ended:?}"
    );
}

#[test]
fn progress_is_reported_as_often_as_requested() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "2", "--progress-every", "10ms"]);
    let mut stream = server.stream(event(0));
    bench.wait_for_stderr("1 of 1 streams, 1 events");
    stream.send(event(1));
    bench.wait_for_end().assert_code(0);
}
