//! Follows a Server-Sent Events stream (WHATWG HTML §9.2) and loses nothing when the connection breaks.
//!
//! The path of an event, a file a hop: `connection` (bytes) → [`stream`] (events, and the last event id) → `delivery`
//! → [`output`] and [`record`]. `follow` goes round it, a connection after the other.
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | the command line and its environment, checked once |
//! | [`stream_url`] | the URL of a stream |
//! | [`header`] | headers that the user adds |
//! | [`request`] | the HTTP client and the request |
//! | [`redirect`] | where a redirect leads, and what may go there (pure) |
//! | [`response`] | what an answer's head means: stream, end, try later or give up |
//! | `message` | what a server says in the body of such an answer |
//! | [`connection`], [`error`] | one request, its answer and its bytes; every way in which that goes wrong |
//! | [`stream`] | bytes to events, by `sse_proto::blocks` and `eventsource-stream` |
//! | [`resume`] | what is kept from one connection to the next |
//! | [`reconnect`] | how long to wait before the next connection, and when to give up (pure) |
//! | [`follow`] | the loop over connections |
//! | [`delivery`] | what is done with an event |
//! | [`output`], [`raw`], [`terminal`] | what is printed, which is data only, and what may be shown on a terminal |
//! | [`stdout`] | whether somebody reads it, and whether it is on disk |
//! | [`state`] | the file that keeps the last event id from one run to the next |
//! | [`record`] | the record file by which loss is counted |
//! | [`gap`], [`progress`], [`stderr`] | what is said to people, on stderr |
//! | [`signals`] | Ctrl-C and SIGTERM |
//! | [`load`] | `listener bench`: very many streams on one thread, every event accounted for |

pub mod connection;
pub mod delivery;
pub mod error;
pub mod follow;
pub mod gap;
pub mod header;
pub mod load;
mod message;
pub mod output;
pub mod progress;
pub mod raw;
pub mod reconnect;
pub mod record;
pub mod redirect;
pub mod request;
pub mod response;
pub mod resume;
pub mod settings;
pub mod signals;
pub mod state;
pub mod stderr;
pub mod stdout;
pub mod stream;
pub mod stream_url;
pub mod terminal;

use crate::{
    follow::{Failure, Follower},
    settings::Settings,
    signals::Signals,
};

/// Follows the stream until it is done, a signal says stop, or nobody reads stdout any more.
///
/// # Errors
/// What cannot be got over by trying again; the text says what was tried and on what.
pub async fn run(settings: &Settings) -> Result<(), Failure> {
    let mut signals = Signals::install().map_err(Failure::Signals)?;
    let mut follower = Follower::new(settings)?;
    // Whenever the follower waits, what it got is written or being written: dropping it there tears no event apart.
    tokio::select! {
        biased;
        () = signals.stop() => {}
        outcome = follower.follow() => match outcome {
            Err(Failure::Delivery(error)) if error.is_closed_pipe() => return Ok(()),
            outcome => outcome?,
        },
        () = stdout::closed() => {}
    }
    follower.close()
}
