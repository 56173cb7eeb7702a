//! The tests of `scripts/browser`: pages of the server in a real Chromium.

use std::process::Command;

use crate::process::{Process, workspace};

#[path = "../server/common/skipped.rs"]
pub(crate) mod skipped;

/// Where `scripts/test --full` installs Playwright for Python.
const PYTHON: &str = "target/playwright/bin/python";
/// Set by `scripts/test --full`. Without it only the most important cases run.
const ALL_CASES: &str = "TEST_ALL_BROWSER_CASES";
const SHORT: [&str; 2] = [
    "test_dashboard.Dashboard.test_a_first_user_sees_events_move",
    "test_dashboard.Dashboard.test_hostile_text_stays_text",
];

#[test]
fn the_pages_work_in_a_browser() {
    let python = std::env::var_os("PLAYWRIGHT_PYTHON");
    let python = python.map_or_else(|| workspace().join(PYTHON), Into::into);
    if !python.exists() {
        let reason = "Playwright is not installed, so no browser shows the pages";
        return skipped::report("browser::the_pages_work_in_a_browser", reason);
    }
    let mut command = Command::new(python);
    command
        .arg(workspace().join("scripts/browser"))
        .env("HUB_PROGRAM", env!("CARGO_BIN_EXE_sse-server"));
    if std::env::var_os(ALL_CASES).is_none() {
        command.args(SHORT);
    }
    let (status, lines) = Process::start(&command).finish();
    assert!(status.success(), "{lines:#?}");
}
