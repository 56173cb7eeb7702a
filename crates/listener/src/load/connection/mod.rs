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
//! | `link` | the socket, or the stream of a connection that several share (HTTP/2) |
//! | `io` | writing the request, reading what arrives |
//! | `multiplexed` | reading a stream of a connection that several share |
//! | `receive` | bytes to the head, to events, or to the message of a rejection |
//! | `close_reason` | why a connection is closed, and names of errors |

mod close_reason;
mod io;
mod link;
mod multiplexed;
mod receive;
mod state;

pub(crate) use self::{
    close_reason::{
        CloseReason, NO_FILES, NO_HTTP_2, NO_PORTS, NOT_TLS, UNTRUSTED, error_kind,
        http2_error_kind,
    },
    io::{IoOutcome, ReadBuffers},
    link::Link,
    state::{LoadConnection, Phase, StreamEnd, TimeLimits},
};
