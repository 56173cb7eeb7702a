//! The real `listener bench` against a scripted HTTP server: one file a promise.
//!
//! Tests wait for conditions, never for time: that a connection comes back shows that all was read
//! that it got before.

mod accounting;
mod command_line;
mod raw;
mod reading;
mod refusals;
mod report;
mod resuming;
mod run;
#[path = "../program/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the harness of the listener's own tests, of which only a part is needed"
)]
mod support;
