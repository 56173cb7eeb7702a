//! The promises about streams over the other driver: the servers here run with `--fanout-threads 0`, so that every
//! socket stays with the HTTP worker that answered it. `common` sees to that, by the name of this program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

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
mod lost_tail;
mod multi_channel;
mod resume;
mod shutdown;
mod slow;
mod start_params;
mod stream;
mod trimming;
mod until;
