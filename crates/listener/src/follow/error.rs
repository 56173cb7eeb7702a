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

/// Why there is no stream just now.
#[derive(Debug, thiserror::Error)]
pub enum TransientError {
    /// Nobody listens there.
    #[error("connection refused")]
    NoServer,
    /// No connection for another reason: no such host, no route, no valid certificate.
    #[error("cannot connect: {}", root_cause(.0))]
    Unreachable(#[source] reqwest::Error),
    /// Its certificate is not one to trust.
    #[error("cannot trust the server: {}; if it is yours, --insecure does not check its certificate", root_cause(.0))]
    Untrusted(#[source] reqwest::Error),
    /// The server cannot now.
    #[error("the server answered {status}{}", format_message(.message))]
    Status {
        /// 5xx, 408 or 429.
        status: StatusCode,
        /// What it said about that; may be empty.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It refused, but there are other nodes to ask.
    #[error("{0}")]
    Rejected(PermanentError),
    /// It was open, or seemed so, but nothing came.
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    /// It broke.
    #[error("the connection broke: {}", root_cause(.0))]
    Broken(#[source] reqwest::Error),
    /// The server ended its answer.
    #[error("the server ended the stream")]
    Ended,
}

/// Why there will be no stream.
#[derive(Debug, thiserror::Error)]
pub enum PermanentError {
    /// The answer is final.
    #[error("the server answered {wrong}{}{}", format_message(.message), format_withheld(.without_secrets.as_deref()))]
    Response {
        /// What is wrong with it.
        wrong: NotAStream,
        /// What the server said about it; may be empty.
        message: String,
        /// The origin that it was redirected to, if the user's secrets were kept from it.
        without_secrets: Option<String>,
    },
    /// Its redirects go round in a circle, or to what is not HTTP.
    #[error("its redirects lead nowhere")]
    Redirect(#[source] RedirectError),
    /// The URL, or the one that it is redirected to, cannot be sent.
    #[error("a URL that cannot be asked for: {}", root_cause(.0))]
    Request(reqwest::Error),
}

impl TransientError {
    /// Not even a connection was made.
    #[must_use]
    pub const fn is_no_connection(&self) -> bool {
        matches!(
            self,
            Self::NoServer | Self::Unreachable(_) | Self::Untrusted(_)
        )
    }

    /// The least time that the server asked to be left alone for.
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

/// What an `io::Error`, or several round one another, stand for. They leave it out when they are asked for their cause.
fn unwrap_io_errors<'e>(mut error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    while let Some(inner) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        error = inner;
    }
    error
}

/// The innermost cause: the outer ones only say that a request failed, and repeat its URL with its secrets.
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
    let told = |origin| {
        format!(
            " (after a redirect to {origin}, which does not get --header, --bearer or a password)"
        )
    };
    origin.map(told).unwrap_or_default()
}

fn format_message(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}
