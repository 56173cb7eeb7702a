//! Errors of one connection.
//!
//! A [`TransientError`] can disappear at the next attempt; a [`PermanentError`] cannot.

use std::{error::Error, io, time::Duration};

use reqwest::StatusCode;
use sse_cli::{
    proxy::Proxy,
    tls::{NOT_TLS, is_not_tls, is_untrusted, untrusted_remedy},
};

use crate::follow::{redirect::RedirectError, responder::Responder, response::NotAStream};

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
    /// No proxy listens at the address that the environment sets.
    #[error("{0} refused the connection: {remedy}", remedy = .0.remedy())]
    ProxyRefused(Proxy),
    /// The proxy does not connect to the server, or cannot be reached.
    #[error("{proxy} did not connect to the server: {}; {remedy}", root_cause(.source), remedy = .proxy.remedy())]
    ProxyFailed {
        /// The proxy.
        proxy: Proxy,
        /// The error.
        source: reqwest::Error,
    },
    /// The port of an https URL is for plain HTTP.
    #[error("{NOT_TLS}")]
    NotTls,
    /// The connection failed for another reason: unknown host, no route, failed TLS handshake.
    #[error("cannot connect: {}", root_cause(.0))]
    Unreachable(#[source] reqwest::Error),
    /// The certificate of the server is not trusted.
    #[error("cannot trust the server: {}; {remedy}", root_cause(.source))]
    Untrusted {
        /// What the user can do.
        remedy: &'static str,
        /// The error.
        source: reqwest::Error,
    },
    /// The server cannot send a stream now.
    #[error("{responder} responded with {status}{}{}", format_message(.message), .responder.remedy())]
    Status {
        /// 5xx, 408, 429, or a status of `--retry-status`.
        status: StatusCode,
        /// Who sent the response.
        responder: Responder,
        /// The message in the response; may be empty.
        message: String,
        /// The time that the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// The response is final, but another node may accept the request.
    #[error("{0}")]
    Rejected(Box<PermanentError>),
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
    #[error("{responder} responded with {reason}{}{}{}", format_message(.message), .responder.remedy(), format_withheld(.without_secrets.as_deref()))]
    Response {
        /// Why the response is not a stream.
        reason: NotAStream,
        /// Who sent the response.
        responder: Responder,
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
            Self::NoServer
                | Self::ProxyRefused(_)
                | Self::ProxyFailed { .. }
                | Self::NotTls
                | Self::Unreachable(_)
                | Self::Untrusted { .. }
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

impl TransientError {
    /// Classifies the error of a request that was sent through this proxy. `has_cacert` is whether
    /// `--cacert` was given.
    #[must_use]
    pub fn from_request(error: reqwest::Error, proxy: Option<Proxy>, has_cacert: bool) -> Self {
        if !error.is_connect() {
            return Self::Broken(error);
        }
        let is_refused = is_refused(&error);
        match proxy {
            _ if is_untrusted(&error) => Self::Untrusted {
                remedy: untrusted_remedy(&error, has_cacert),
                source: error,
            },
            _ if is_not_tls(&error) => Self::NotTls,
            Some(proxy) if is_refused => Self::ProxyRefused(proxy),
            Some(proxy) => Self::ProxyFailed {
                proxy,
                source: error,
            },
            None if is_refused => Self::NoServer,
            None => Self::Unreachable(error),
        }
    }
}

fn is_refused(error: &reqwest::Error) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::ConnectionRefused)
}

/// The innermost cause. The outer causes contain only that a request failed, and repeat its URL
/// with its secrets.
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
