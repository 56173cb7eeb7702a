//! The tests of streams with the other driver: the servers here run with `--fanout-threads 0`, so
//! each socket stays with the HTTP worker that accepted it. `common` sets this flag by the name of
//! this test program.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod access_log;
mod blocked;
#[expect(
    dead_code,
    reason = "cases that only the other program has use the rest"
)]
mod common;
mod damaged;
mod failover;
mod fanout;
mod faults;
mod footprint;
mod limits;
mod listen_unix;
mod lost_tail;
mod multi_channel;
mod resume;
mod shutdown;
mod slow;
mod start_params;
mod stream;
mod trimming;
mod until;
mod upgrade;
#[cfg(target_os = "linux")]
mod vanished;
