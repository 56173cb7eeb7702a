//! Proofs without processes: the checker of the torture, the subscription against a model of the log, damaged files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../torture/checker.rs"]
#[expect(dead_code, reason = "the torture uses more of it")]
mod checker;

mod checking;
mod damage;
mod model;
mod multi_channel;
mod reading;
mod seen;
