//! A Server-Sent Events server that loses nothing: events go in over HTTP, are kept in a log, and come out as streams.
//!
//! A channel is a log, a subscriber is a cursor in it. `ARCHITECTURE.md` has the map; arrows go one way:
//! `http` → `fanout` → `channel` → `broker` → `sse-proto`.

pub mod broker;
pub mod channel;
pub mod fanout;
pub mod http;
pub mod metrics;
pub mod settings;

mod limits;
mod log_throttle;
mod retry;
mod serve;

pub use serve::run;
