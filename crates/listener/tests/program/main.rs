//! The real `listener` against a scripted HTTP server. Each file tests one guarantee; all files are
//! one program, which links once.
//!
//! Tests wait for conditions, never for time: the server receives a request, the listener prints a
//! message, the listener ends. Every wait has an upper bound ([`support::WAIT_MAX`]), so that a
//! broken guarantee fails a test instead of blocking it.

#[path = "../parsing/cases.rs"]
mod cases;
mod command_line;
mod connecting;
mod connections;
#[cfg(unix)]
mod exec;
mod gaps;
mod giving_up;
mod headers;
mod nodes;
mod output;
mod posting;
mod reading;
mod record;
mod rejections;
mod resuming;
#[cfg(unix)]
mod signals;
mod state;
mod support;
mod tls;
