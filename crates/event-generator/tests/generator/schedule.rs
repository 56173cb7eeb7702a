//! The schedule goes on whatever the answers do. Shown by what is in flight together, never by a clock.

use crate::{
    program::Program,
    server::{Gate, Reply, Server},
};

#[test]
fn a_slow_answer_does_not_hold_up_the_next_event() {
    // Nobody is answered before all five have come: a generator that waits for answers never sends the second.
    let gate = Gate::default();
    let server = Server::start(move |_| {
        if gate.arrive_and_wait_for(5) {
            Reply::acknowledge()
        } else {
            Reply::Break
        }
    });
    let ended = Program::run(["--url", &server.url(), "--rate", "50", "--count", "5"]);
    assert_eq!(ended.code, Some(0));
    assert!(
        ended
            .said()
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
    // All ten, unless this machine stood still; exactly which is tested where time is a parameter, in `pace.rs`.
    assert_eq!(ended.code, Some(0));
    assert!((1..=10).contains(&ended.stdout.len()), "{ended:?}");
}
