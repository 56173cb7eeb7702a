//! Tests without processes: the checker of the torture test, the subscription against a model of
//! the log, and damaged log files.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

#[path = "../torture/checker.rs"]
#[expect(dead_code, reason = "the torture test uses more of it")]
mod checker;

mod checking;
mod damage;
mod hand_over;
mod lifecycle;
mod model;
mod multi_channel;
mod reading;
mod seen;
