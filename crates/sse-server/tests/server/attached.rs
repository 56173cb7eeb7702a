//! The tests of streams with the other driver: the servers here run with `--fanout-threads 0`, so
//! each socket stays with the HTTP worker that accepted it. `common` sets this flag by the name of
//! this test program.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod access;
mod access_log;
mod blocked;
#[expect(
    dead_code,
    reason = "cases that only the other program has use the rest"
)]
mod common;
mod drain;
mod fanout;
mod footprint;
mod listen_unix;
mod notices;
mod resume;
mod shutdown;
mod slow;
mod stream;
mod stream_life;
mod tails;
mod tls;
mod trusted_proxies;
mod upgrade;
#[cfg(target_os = "linux")]
mod vanished;

/// Cases in which the broker matters more than the driver; only `scripts/test --full` runs them.
#[path = "."]
mod full {
    mod damaged;
    mod failover;
    mod faults;
    mod limits;
    mod lost_tail;
    mod multi_channel;
    mod start_params;
    mod trimming;
    mod until;
}
