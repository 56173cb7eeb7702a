//! Errors of one connection.
//!
//! A [`TransientError`] can disappear at the next attempt; a [`PermanentError`] cannot.

use std::{error::Error, io, time::Duration};

use reqwest::StatusCode;

use crate::follow::{redirect::RedirectError, response::NotAStream};

/// Why a request opened no stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Another attempt can succeed.
    #[error(transparent)]
    Transient(#[from] TransientError),
    /// Every further attempt would fail in the same way.
    #[error(transparent)]
    Permanent(#[from] PermanentError),
}

/// An error that can disappear at the next attempt.
#[derive(Debug, thiserror::Error)]
pub enum TransientError {
    /// No server listens at the address.
    #[error("connection refused")]
    NoServer,
    /// The connection failed for another reason: unknown host, no route, failed TLS handshake.
    #[error("cannot connect: {}", root_cause(.0))]
    Unreachable(#[source] reqwest::Error),
    /// The certificate of the server is not trusted.
    #[error("cannot trust the server: {}; for a server of your own, --insecure skips the check of its certificate", root_cause(.0))]
    Untrusted(#[source] reqwest::Error),
    /// The server cannot send a stream now.
    #[error("the server responded with {status}{}", format_message(.message))]
    Status {
        /// 5xx, 408 or 429.
        status: StatusCode,
        /// The message in the response; may be empty.
        message: String,
        /// The time that the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// The response is final, but another node may accept the request.
    #[error("{0}")]
    Rejected(PermanentError),
    /// No bytes arrived for too long.
    #[error("no bytes for {0:?}")]
    Idle(Duration),
    /// The connection broke.
    #[error("the connection broke: {}", root_cause(.0))]
    Broken(#[source] reqwest::Error),
    /// The server ended its response.
    #[error("the server ended the stream")]
    Ended,
}

/// An error that every further attempt would meet again.
#[derive(Debug, thiserror::Error)]
pub enum PermanentError {
    /// The response is final.
    #[error("the server responded with {reason}{}{}", format_message(.message), format_withheld(.without_secrets.as_deref()))]
    Response {
        /// Why the response is not a stream.
        reason: NotAStream,
        /// The message in the response; may be empty.
        message: String,
        /// The origin after a redirect, if the user's secrets were withheld from it.
        without_secrets: Option<String>,
    },
    /// The redirects form a circle, or lead to a URL that is not HTTP.
    #[error("cannot follow the redirects")]
    Redirect(#[source] RedirectError),
    /// The URL, or the target of a redirect, cannot be requested.
    #[error("cannot request the URL: {}", root_cause(.0))]
    Request(reqwest::Error),
}

impl TransientError {
    /// Returns `true` if no connection was established.
    #[must_use]
    pub const fn is_no_connection(&self) -> bool {
        matches!(
            self,
            Self::NoServer | Self::Unreachable(_) | Self::Untrusted(_)
        )
    }

    /// The time that the server asks to wait; zero by default.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Status { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }
}

impl From<reqwest::Error> for TransientError {
    fn from(error: reqwest::Error) -> Self {
        if !error.is_connect() {
            Self::Broken(error)
        } else if is_refused(&error) {
            Self::NoServer
        } else if is_untrusted(&error) {
            Self::Untrusted(error)
        } else {
            Self::Unreachable(error)
        }
    }
}

fn is_refused(error: &reqwest::Error) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::ConnectionRefused)
}

fn is_untrusted(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        matches!(
            unwrap_io_errors(cause).downcast_ref(),
            Some(rustls::Error::InvalidCertificate(_))
        )
    })
}

/// The error inside of nested `io::Error`s, whose `source` skips it.
fn unwrap_io_errors<'e>(mut error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    while let Some(inner) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        error = inner;
    }
    error
}

/// The innermost cause. The outer causes contain only that a request failed, and repeat its URL with
/// its secrets.
fn root_cause(error: &reqwest::Error) -> String {
    causes(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let outermost: &(dyn Error + 'static) = error;
    std::iter::successors(Some(outermost), |&error| error.source())
}

fn format_withheld(origin: Option<&str>) -> String {
    let text = |origin| {
        format!(
            " (after a redirect to {origin}, to which --header, --bearer and passwords are not sent)"
        )
    };
    origin.map(text).unwrap_or_default()
}

fn format_message(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}
