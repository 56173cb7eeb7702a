//! Reports a test, or a part of one, that cannot run here.
//!
//! Rust's test harness has no way to skip a test at run time. Such a test passes, so only this
//! report distinguishes it from a test that checked something.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
};

/// Names the file to which reports are appended; `scripts/test` lists them at its end.
const LOG_VARIABLE: &str = "TEST_SKIPPED_LOG";

/// Prints `skipped: TEST: REASON`, and appends this line to the file that the environment names.
pub(crate) fn report(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {reason}\n");
    // Written without eprintln!, whose text the harness hides if the test passes.
    io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr is open");
    if let Some(path) = std::env::var_os(LOG_VARIABLE) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the file of skipped tests can be written");
    }
}
