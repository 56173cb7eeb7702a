//! A Server-Sent Events server that loses nothing.
//!
//! Events are published over HTTP, kept in a log, and sent as streams. A channel is a log, and a
//! subscriber is a cursor in it. `ARCHITECTURE.md` has the map. Dependencies go one way:
//! `server` → `http` → `fanout` → `channel` → `broker` → `sse-proto`. The layers below `server` use
//! `budget` and `metrics`; `server` and `fanout` use `connections`; `server`, `http` and `fanout`
//! use `access_log`; `server`, `http` and `fanout` use `trace`; `server` and `http` use `audit_log`; `config`, `server`, `http` and `fanout` use `quota`; `server` and `fanout` use
//! `tls`; `http`, `fanout`, `config` and `server` use `access`; `main` uses `diagnosis`, which checks a `config`, and
//! `config` the part of it that asks a server; `config` uses `transfer`, which copies a log and uses `broker`. `main` and `server` use `config`, which names the settings of the layers.

pub mod access;
pub mod access_log;
pub mod audit_log;
pub mod broker;
pub mod channel;
pub mod config;
pub mod connections;
pub mod fanout;
pub mod http;
pub mod log_writer;
pub mod metrics;
pub mod quota;
pub mod tls;
pub mod trace;

mod budget;
mod diagnosis;
mod epoch;
mod listen_address;
mod open_files;
mod retry;
mod server;
mod supervised;
mod transfer;

pub use diagnosis::check::check;
pub use listen_address::{Endpoint, ListenAddress};
pub use server::{PassedSockets, StopReason, run};
pub use supervised::{supervised, supervised_part};
