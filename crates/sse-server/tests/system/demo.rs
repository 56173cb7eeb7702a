//! `scripts/demo` shows events and reports the number of lost events correctly.

use std::process::Command;

use crate::process::{Process, build_programs, signal, workspace};

fn demo(options: &[&str]) -> Process {
    build_programs();
    let mut command = Command::new(workspace().join("scripts/demo"));
    // The programs of a release, but in the debug builds that already exist.
    command.arg("--debug").args(options);
    Process::start(&command)
}

/// Returns the figures of the last line: sent, received, lost.
fn figures(lines: &[String]) -> [u64; 3] {
    let last = lines
        .iter()
        .rfind(|line| line.starts_with("sent "))
        .expect("a last line");
    let numbers: Vec<u64> = last
        .split([' ', ','])
        .filter_map(|word| word.parse().ok())
        .collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{last}"))
}

fn shows_events_and_loses_nothing(options: &[&str]) {
    let (status, lines) = demo(&[options, &["--seconds", "3"]].concat()).finish();
    let [sent, received, lost] = figures(&lines);
    assert!(status.success(), "{}", lines.join("\n"));
    assert!((25..=31).contains(&sent), "{sent}");
    assert_eq!((received, lost), (sent, 0));
    let shown = lines
        .iter()
        .filter(|line| line.starts_with("event: "))
        .count();
    assert_eq!(shown as u64, sent);
    for line in lines.iter().filter(|line| line.starts_with("data: ")) {
        assert!(is_tutorial_data(line), "{line}");
    }
}

/// Returns whether the tutorial's `listen.py` prints such a line.
fn is_tutorial_data(line: &str) -> bool {
    line.starts_with("data: \"user_id: ") && line.contains(", timestamp: ") && line.ends_with(")\"")
}

#[test]
fn the_demo_shows_events_and_loses_nothing() {
    shows_events_and_loses_nothing(&[]);
}

#[test]
fn the_demo_over_redis_shows_events_and_loses_nothing() {
    shows_events_and_loses_nothing(&["--redis"]);
}

#[test]
fn the_demo_reports_the_loss_if_the_listener_is_killed() {
    let mut demo = demo(&["--seconds", "3"]);
    demo.line(|line| line.starts_with("data: "));
    signal(child_of(&demo, "listener"), "KILL");
    let (status, lines) = demo.finish();
    let [sent, received, lost] = figures(&lines);
    assert!(
        !status.success() && lost > 0 && received > 0 && sent == received + lost,
        "{sent} {received} {lost}"
    );
}

#[test]
fn the_demo_stops_cleanly_on_a_signal() {
    for name in ["INT", "TERM"] {
        let mut demo = demo(&[]);
        demo.line(|line| line.starts_with("data: "));
        let server = child_of(&demo, "sse-server");
        demo.signal(name);
        let (status, lines) = demo.finish();
        assert!(
            status.success() && figures(&lines)[2] == 0,
            "{}",
            lines.join("\n")
        );
        let alive = Command::new("kill")
            .args(["-0", &server.to_string()])
            .output()
            .expect("kill runs");
        assert!(!alive.status.success(), "the server is still running");
    }
}

/// Returns the process id of a program that the demo started.
fn child_of(demo: &Process, program: &str) -> u32 {
    let listed = Command::new("ps")
        .args(["-A", "-o", "pid=,ppid=,comm="])
        .output()
        .expect("ps runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let found = listed.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (pid, parent, name) = (words.next()?, words.next()?, words.next()?);
        (parent == demo.pid().to_string() && name.ends_with(program)).then(|| pid.parse().ok())?
    });
    found.unwrap_or_else(|| panic!("no {program} under the demo in\n{listed}"))
}
