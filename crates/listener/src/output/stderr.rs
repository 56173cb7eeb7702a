//! Messages for people: whole lines on stderr, never on stdout.

use std::fmt::Display;

use sse_cli::stderr::write_line;

/// Writes one line to stderr, after the name of the program.
pub fn log_line(message: impl Display) {
    write_line(format_args!("listener: {message}"));
}
