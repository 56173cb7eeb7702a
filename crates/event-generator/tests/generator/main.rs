//! Tests of the real program against a scripted HTTP server: what it sends, prints and records, and
//! how it ends.
//!
//! The tests are one binary, so that it is linked once; each file tests one promise. No test sleeps
//! or measures time, and every wait has an upper limit ([`WITHIN`]).

mod batches;
mod failures;
mod payloads;
mod program;
mod record;
mod reports;
mod requests;
mod retry;
mod schedule;
mod server;
mod stopping;
mod templates;
mod tls;

use std::time::Duration;

/// Longest wait. A test that waits this long has failed.
const WITHIN: Duration = Duration::from_secs(30);
