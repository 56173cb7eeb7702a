//! The real `listener` against a scripted HTTP server: one file a promise, one program for all (it
//! links once).
//!
//! Tests wait for conditions, never for time: the server sees a request, the listener says
//! something, it ends. Every wait has an upper bound ([`support::WAIT_MAX`]), so that a broken
//! promise fails instead of hanging.

#[path = "../parsing/cases.rs"]
mod cases;
mod command_line;
mod connecting;
mod connections;
mod gaps;
mod giving_up;
mod headers;
mod nodes;
mod output;
mod posting;
mod reading;
mod record;
mod refusals;
mod resuming;
#[cfg(unix)]
mod signals;
mod state;
mod support;
mod tls;
