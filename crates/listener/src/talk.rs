//! What is said to people: whole lines on stderr, never on stdout.

use std::{
    fmt::Display,
    io::{self, Write},
};

use crate::terminal;

/// Says one line. Nothing that a server put into it can act on a terminal.
///
/// A closed stderr is not an error: then nobody listens, and `eprintln!` would panic.
pub fn say(message: impl Display) {
    let message = message.to_string();
    let line = format!("listener: {}\n", terminal::visible(&message));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
