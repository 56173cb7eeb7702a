//! Messages for people: whole lines on stderr.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use crate::terminal::visible;

/// Writes one line to stderr in one piece, with control characters made visible.
///
/// An error is ignored: a closed stderr has no reader, and `eprintln!` would panic.
pub fn write_line(line: impl Display) {
    let line = format!("{line}\n");
    let _ = io::stderr().lock().write_all(visible(&line).as_bytes());
}
