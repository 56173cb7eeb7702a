//! The promises of the server, each in a file, on every broker, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod broker_contract;
mod common;
mod damaged;
mod failover;
mod fanout;
mod faults;
mod footprint;
mod idempotency;
mod limits;
mod lost_tail;
mod multi_channel;
mod redis_connection;
mod redis_errors;
mod redis_setup;
mod requests;
mod resume;
mod settings;
mod shutdown;
mod slow;
mod stalled_node;
mod start_params;
mod stream;
mod trimming;
mod until;
