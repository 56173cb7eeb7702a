//! Following a stream: connections that resume where the previous one stopped.
//!
//! | module | holds |
//! |---|---|
//! | [`follower`] | the loop over connections |
//! | [`follow_error`] | errors that end the loop |
//! | `nodes` | the URLs of a stream, used in turn (pure) |
//! | [`request`] | the HTTP client and the request |
//! | [`redirect`] | the target of a redirect, and whether secrets may be sent there (pure) |
//! | [`connection`] | one request, its response and its bytes |
//! | [`responder`] | who sent a response: the server or a proxy |
//! | [`response`] | the classification of a response: stream, end, retry later or give up (pure) |
//! | [`error`] | errors of a connection, by whether a retry helps |
//! | `error_message` | the message in the body of an error response |
//! | [`retry_pace`] | the wait before the next connection (pure) |
//! | [`retry_budget`] | the limit of failed attempts in a row (pure) |
//! | [`connection_log`] | changes of the connection, reported on stderr |

pub mod connection;
pub mod connection_log;
pub mod error;
pub(crate) mod error_message;
pub mod follow_error;
pub mod follower;
mod nodes;
pub mod redirect;
pub mod request;
pub mod responder;
pub mod response;
pub mod retry_budget;
pub mod retry_pace;

use sse_cli::signals::Signals;

use self::{follow_error::FollowError, follower::Follower};
use crate::{output::stdout, settings::follow::FollowSettings};

/// Follows the stream until it ends, a signal arrives, or stdout is a closed pipe.
///
/// # Errors
/// An error that a retry does not help against.
pub async fn run(settings: &FollowSettings) -> Result<(), FollowError> {
    let mut signals = Signals::install().map_err(FollowError::Signals)?;
    let mut follower = Follower::new(settings)?;
    // Dropping the follower at any of its awaits tears no event: its events are written, or are
    // being written by another thread.
    tokio::select! {
        biased;
        () = signals.next() => {}
        outcome = follower.follow() => match outcome {
            Err(FollowError::Delivery(error)) if error.is_closed_pipe() => return Ok(()),
            outcome => outcome?,
        },
        () = stdout::wait_until_closed() => {}
    }
    follower.close()
}
