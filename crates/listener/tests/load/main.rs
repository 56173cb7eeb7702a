//! The real `listener bench` against a scripted HTTP server. Each file tests one guarantee.
//!
//! Tests wait for conditions, never for time: a connection that comes back has read everything that
//! it received before.

mod accounting;
mod command_line;
mod raw;
mod reading;
mod rejections;
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
mod tls;
mod tls_server;
