//! What comes back for a request, or why nothing does.

use bytes::Bytes;
use hyper::StatusCode;

/// More of an answer than this is not read: an id or an error is far smaller.
pub(super) const REPLY_BYTES_MAX: usize = 64 * 1024;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its body; empty if it broke off, because then it proves no more than the status does.
    pub(crate) body: Bytes,
}

/// There was no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoReply {
    /// Nothing was sent.
    Connect(String),
    /// It did not come in time.
    Timeout,
    /// The connection broke after the request was sent, at least in part.
    Broken(String),
}

/// The last of the causes says what happened, like `Connection refused (os error 111)`; those before it say where.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root.to_string()
}
