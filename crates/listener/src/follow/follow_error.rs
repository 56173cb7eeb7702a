//! Errors that end the listener.

use std::io;

use super::error::{PermanentError, TransientError};
use crate::{
    decode::decoder::DecodeError,
    output::{delivery::DeliveryError, state_file::StateError},
};

/// Why a stream cannot be followed any longer.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Signals cannot be received.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// The HTTP client cannot be set up.
    #[error("cannot set up HTTP and TLS")]
    Client(#[source] reqwest::Error),
    /// The position cannot be read or stored.
    #[error(transparent)]
    State(#[from] StateError),
    /// An event cannot be recorded or printed.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The response of the server is final.
    #[error("cannot follow {url}")]
    Rejected {
        /// The URL of the request.
        url: String,
        /// The response.
        source: PermanentError,
    },
    /// The stream cannot be decoded, now or later.
    #[error("cannot decode the stream of {url}")]
    Unreadable {
        /// The URL of the stream.
        url: String,
        /// The reason.
        source: DecodeError,
    },
    /// The limit of retries is exceeded.
    #[error("cannot follow {url}: {last}; gave up after {} (--max-retries)", format_attempts(*.attempts))]
    GaveUp {
        /// The URL of the last request.
        url: String,
        /// Number of attempts since the last success.
        attempts: u64,
        /// The last error. It is not the source, because reqwest's sources repeat the URL with its
        /// secrets.
        last: TransientError,
    },
}

fn format_attempts(attempts: u64) -> String {
    if attempts == 1 {
        "1 attempt".to_owned()
    } else {
        format!("{attempts} attempts in a row")
    }
}
