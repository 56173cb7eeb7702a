//! Every way to stop a run leaves a summary and exit code 0.

use std::fs;

use crate::{
    program::{Ended, Program},
    server::{Gate, RefusingPort, Response, Server},
};

fn assert_ended_well(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stderr_text().contains("\nrate ") && !ended.stderr_text().contains("panicked"),
        "{ended:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_run_with_a_summary() {
    for signal in ["INT", "TERM"] {
        let server = Server::willing();
        let program =
            Program::start(["--url", &server.url(), "--rate", "100", "--progress", "off"]);
        assert_eq!(program.stdout_line(), "200");
        program.signal(signal);
        let ended = program.end();
        assert_ended_well(&ended);
        assert!(
            ended.stderr_text().starts_with("sent ")
                && ended.stderr_text().contains(", unknown 0\n"),
            "{ended:?}"
        );
    }
}

#[cfg(unix)]
#[test]
fn requests_without_a_response_after_a_signal_are_unknown_and_recorded() {
    let gate = Gate::default();
    let server = Server::start(move |_| {
        gate.arrive_and_wait_for(usize::MAX);
        Response::Break
    });
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sent.ndjson");
    let record = path.to_str().expect("a plain path");
    let program = Program::start([
        "--url",
        &server.url(),
        "--rate",
        "0.001",
        "--record",
        record,
    ]);
    server.request();
    program.signal("TERM");
    let ended = program.end();
    assert_ended_well(&ended);
    assert!(
        ended
            .stderr_text()
            .contains("sent 1, acknowledged 0, failed 0, unknown 1"),
        "{ended:?}"
    );
    let line = fs::read_to_string(&path).expect("a record");
    assert!(
        line.starts_with(r#"{"outcome":"unknown","channel":"sse","publisher":""#),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_run_without_a_server_can_be_stopped() {
    let refusing = RefusingPort::new();
    let url = refusing.url();
    let program = Program::start(["--url", &url]);
    assert!(program.stderr_line().contains("no connection"));
    program.signal("INT");
    assert_ended_well(&program.end());
}

#[test]
fn a_closed_stdout_ends_the_run_quietly() {
    let server = Server::willing();
    let ended =
        Program::start_unread(["--url", &server.url(), "--rate", "100", "--progress", "off"]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stderr.len() == 3 && ended.stderr_text().starts_with("sent "),
        "{ended:?}"
    );
}
