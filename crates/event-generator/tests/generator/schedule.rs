//! The schedule does not depend on responses. The requests in flight together prove it, not a clock.

use crate::{
    program::Program,
    server::{Gate, Response, Server},
};

#[test]
fn a_slow_response_does_not_delay_the_next_event() {
    // The server responses after all five requests have arrived: a generator that waits for responses
    // never sends the second.
    let gate = Gate::default();
    let server = Server::start(move |_| {
        if gate.arrive_and_wait_for(5) {
            Response::acknowledge()
        } else {
            Response::Break
        }
    });
    let ended = Program::run(["--url", &server.url(), "--rate", "50", "--count", "5"]);
    assert_eq!(ended.code, Some(0));
    assert!(
        ended
            .stderr_text()
            .contains("sent 5, acknowledged 5, failed 0, unknown 0"),
        "{ended:?}"
    );
}

#[test]
fn a_duration_ends_the_run() {
    let server = Server::willing();
    let ended = Program::run([
        "--url",
        &server.url(),
        "--rate",
        "100",
        "--duration",
        "100ms",
    ]);
    // All ten are sent, unless this machine paused. The exact number is tested with time as a
    // parameter, in `schedule/mod.rs`.
    assert_eq!(ended.code, Some(0));
    assert!((1..=10).contains(&ended.stdout.len()), "{ended:?}");
}
