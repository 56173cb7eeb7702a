//! The response to a request, or its absence.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

/// Longest part of a response that is read. An id or an error is far smaller.
pub(super) const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    /// Status.
    pub(crate) status: StatusCode,
    /// The time that the server asks to wait before the next request.
    pub(crate) retry_after: Option<Duration>,
    /// Body; empty if the response broke off, because it then proves no more than its status.
    pub(crate) body: Bytes,
}

/// Why there is no response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoResponse {
    /// The connection failed, and nothing was sent.
    Connect(String),
    /// The response did not arrive in time.
    Timeout,
    /// The connection broke after at least a part of the request was sent.
    Broken(String),
}

/// Returns the text of the innermost cause. It describes what happened, like `Connection refused
/// (os error 111)`; the outer errors describe where.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root.to_string()
}
