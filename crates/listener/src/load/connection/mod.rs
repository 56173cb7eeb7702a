//! One connection of a load test: a state machine that is driven by readiness.
//!
//! ```text
//! Waiting ─connect─► Sending ─request sent─► Head ─┬─ 200 ──► Streaming ─┐
//!    ▲                                             └─ other ► Rejected ──┤
//!    └───────────────────── reconnect ───────────────────────────────────┴─► Done
//! ```
//!
//! A connection never waits and has no timer. The engine calls it when its socket is readable or
//! writable, and asks it regularly whether it is overdue.
//!
//! | module | holds |
//! |---|---|
//! | `state` | the connection and its phase |
//! | `io` | writing the request, reading what arrives |
//! | `receive` | bytes to the head, to events, or to the message of a rejection |
//! | `close_reason` | why a connection is closed, and names of errors |

mod close_reason;
mod io;
mod receive;
mod state;

pub(crate) use self::{
    close_reason::{CloseReason, NO_FILES, NO_PORTS, error_kind},
    io::{IoOutcome, ReadBuffers},
    state::{LoadConnection, Phase, StreamEnd, TimeLimits},
};
