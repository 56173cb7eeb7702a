//! Why an event was not acknowledged.

use hyper::StatusCode;

/// Why an event was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no connection: {0}")]
    Connect(String),
    #[error("no response in time")]
    Timeout,
    #[error("the connection broke before the response: {0}")]
    Broken(String),
    #[error("{status}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Status { status: StatusCode, message: String },
    #[error("200 OK, but the response is not from sse-server; for another server, use --path")]
    Unreadable,
    #[error("not sent: {0}")]
    Unsendable(String),
    #[error("the run ended before the response")]
    Stopped,
}

/// Kind of a failure: messages are limited per kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureKind {
    Connect,
    Timeout,
    Broken,
    Status(u16),
    Unreadable,
    Unsendable,
    Stopped,
}

impl Failure {
    /// Returns the kind. There are few kinds.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Connect(_) => FailureKind::Connect,
            Self::Timeout => FailureKind::Timeout,
            Self::Broken(_) => FailureKind::Broken,
            Self::Status { status, .. } => FailureKind::Status(status.as_u16()),
            Self::Unreadable => FailureKind::Unreadable,
            Self::Unsendable(_) => FailureKind::Unsendable,
            Self::Stopped => FailureKind::Stopped,
        }
    }
}
