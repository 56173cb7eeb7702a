//! Messages for people: whole lines on stderr, never on stdout.

use std::{
    fmt::Display,
    io::{self, Write},
};

use crate::output::terminal;

/// Writes one line to stderr, with control characters made visible.
///
/// A closed stderr is not an error; `eprintln!` would panic on it.
pub fn log_line(message: impl Display) {
    let message = message.to_string();
    let line = format!("listener: {}\n", terminal::visible(&message));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
