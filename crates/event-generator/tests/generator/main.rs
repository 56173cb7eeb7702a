//! The real program against a small scripted HTTP server: what it sends, prints, records, and how it ends.
//!
//! One test binary, so that it is linked once; a file a promise. No test sleeps or measures time, and every wait has
//! an upper bound ([`WITHIN`]).

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

use std::time::Duration;

/// No wait is longer; a test that waits this long has failed.
const WITHIN: Duration = Duration::from_secs(30);
