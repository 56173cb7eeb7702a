//! Follows a Server-Sent Events stream (WHATWG HTML §9.2) and loses nothing when the connection breaks.
//!
//! The path of an event, file by file: `follow/connection` (bytes) → `decode/decoder` (events, and the
//! last event id) → `output/delivery` → `output/printer` and `output/record`. `follow/follower` repeats
//! this, connection after connection.
//!
//! | folder | holds |
//! |---|---|
//! | [`settings`] | the command line and its environment, checked once |
//! | [`follow`] | connections: request, response, redirects, errors, retries |
//! | [`decode`] | bytes to events |
//! | [`output`] | stdout, stderr, the record file and the state file |
//! | [`signals`] | Ctrl-C and SIGTERM |
//! | [`load`] | `listener bench`: many streams on one thread, every event accounted for |

pub mod decode;
pub mod follow;
pub mod load;
pub mod output;
pub mod settings;
pub mod signals;

use crate::{
    follow::follower::{Failure, Follower},
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
        () = output::stdout::closed() => {}
    }
    follower.close()
}
