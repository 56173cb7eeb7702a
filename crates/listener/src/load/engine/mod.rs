//! The loop of one thread over all connections of a load test.
//!
//! A turn of the loop does what is due by the clock, waits for readiness, and lets each ready
//! connection write or read:
//!
//! ```text
//!          ┌──► due: time limits · end of the run · cuts · connects
//!          │                   │
//!          │                   ▼
//!          │     epoll (until something is due)
//!          │                   │
//!          └── turn of each ready connection: write, read ──► close, reconnect later
//! ```
//!
//! No connection has a timer. A heap knows the next reconnect; a regular sweep finds connections
//! that exceeded a time limit. Readiness is edge-triggered, so a connection that did not read
//! everything in its turn is remembered for the next one.
//!
//! | module | holds |
//! |---|---|
//! | `state` | the engine and its parts |
//! | `handshakes` | connects in flight, and their limit |
//! | `closing` | the end of a connection, and when to reconnect |
//! | `connecting` | connects that are due, and cuts |
//! | `multiplexing` | connections with several streams (HTTP/2) |
//! | `ending` | when and why the run ends |
//! | `run` | the loop |

mod closing;
mod connecting;
mod ending;
mod handshakes;
mod multiplexing;
mod run;
mod state;
mod stop;

pub(crate) use self::{
    ending::EndReason,
    state::{Engine, Finished},
    stop::StopHandle,
};
