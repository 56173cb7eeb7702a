//! Why a request failed, and the response for it.
//!
//! Every 4xx and 5xx response has the same JSON body: `{"error":{"code":"…","message":"…"}}`. The
//! message states what to change. Codes and statuses are in the table of
//! [`error_status`](super::error_status). `Retry-After` belongs to the error, not to its status.

use std::{fmt, time::Duration};

use sse_proto::{event::InvalidName, json_depth::DEPTH_MAX};

use super::{
    access::challenge::{insufficient_message, unauthorized_message},
    broker_error,
    error_cause::ErrorCause,
    rejections::Rejection,
};
use crate::{
    access::RejectionWord,
    broker::{BrokerError, backup::BackupError},
};

/// The routes, for a client that requested another one.
pub(super) const ROUTES: &str = "\
    GET or POST /event/{action}, POST /events, GET /stream, GET /events, GET /channels, GET, PUT \
    or DELETE /channels/{name}, POST /channels/{name}/close, POST /tokens, GET /health/live, GET \
    /health/ready, GET /metrics, GET or DELETE /admin/streams, DELETE /admin/streams/{id}, POST \
    /admin/revocations, GET /admin/stats, GET /admin/events, GET /admin/trace, GET /admin/nodes, \
    GET /admin/channels/busiest, GET /admin/settings, POST /admin/access, GET or POST \
    /admin/backup, GET /admin/log/channels, GET /admin/log/records, GET /admin/log/revocations, \
    GET /client.js, GET /client.d.ts, GET /openapi.yaml";

/// Delay before a retry if nothing better is known.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The result of a step of a request.
pub(super) type ApiResult<T> = Result<T, ApiError>;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The name of a channel, an action or an event type is not allowed.
    #[error("{what} {value:?}: {why}")]
    InvalidName {
        /// `channel`, `action` or `event type`.
        what: &'static str,
        /// The name as sent, shortened.
        value: String,
        /// What is allowed.
        why: InvalidName,
    },
    /// The percent-encoding is malformed, or does not decode to UTF-8.
    #[error(
        "the {0} is not percent-encoded UTF-8: write % as %25 and other characters as their UTF-8 \
         bytes"
    )]
    InvalidEncoding(&'static str),
    /// The value of a query parameter is not allowed.
    #[error("the query parameter {name:?} {why}")]
    InvalidParameter {
        /// Name of the parameter.
        name: &'static str,
        /// What is wrong, or what is allowed.
        why: String,
    },
    /// The route has no such query parameter. It is not ignored, because it may be mistyped.
    #[error("no query parameter {name:?} here; parameters are {known}")]
    UnknownParameter {
        /// The name as sent, shortened.
        name: String,
        /// The names that the route knows.
        known: String,
    },
    /// The body is not JSON.
    #[error("the body is not one JSON value: {0}")]
    InvalidJson(String),
    /// The JSON has too many levels for many of its readers.
    #[error("the JSON is nested deeper than {DEPTH_MAX} levels, which many readers cannot parse")]
    JsonTooDeep,
    /// The body of a batch is not a JSON array.
    #[error("the body is not a JSON array of events: {0}")]
    NotAnArray(String),
    /// The body is not UTF-8.
    #[error("the body is not UTF-8")]
    InvalidUtf8,
    /// One event of a batch is wrong, so the whole batch is rejected.
    #[error("{place}: {why}; no event of the batch was published")]
    InvalidBatch {
        /// `line 3` or `item 3`.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// One line of a streaming publish is wrong.
    #[error("{place}: {why}; the lines before it are stored, and `count` is their number")]
    InvalidLine {
        /// `line 3`.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The batch has no events.
    #[error(
        "the batch has no events: send one line per event, like \
         {{\"event\":\"click\",\"data\":\"x\"}}"
    )]
    EmptyBatch,
    /// The idempotency key is not allowed.
    #[error("the Idempotency-Key cannot be used: {0}")]
    InvalidIdempotencyKey(&'static str),
    /// The idempotency key was used with other content.
    #[error(
        "{0} was used with other content within the --idempotency-window, so nothing was \
         published: repeat exactly what was sent with it, or use a new key"
    )]
    IdempotencyKeyReused(String),
    /// A page of another origin sent the publish, or made the browser send it.
    #[error(
        "pages of {0} may not publish here: name that origin with --publish-origin, or with \
         --public-url if it is this server's own"
    )]
    OriginNotAllowed(String),
    /// The request is for a host that is not this machine.
    #[error(
        "this server does not answer requests to the host {0:?}: if clients reach it there, start \
         it with --public-url and that URL"
    )]
    ForeignHost(String),
    /// A page asked in a preflight for something that is not allowed.
    #[error("pages may not send this request: {0}")]
    PreflightRejected(String),
    /// The header and the URL have different credentials.
    #[error("the Authorization header and access_token differ: send one of them")]
    ConflictingCredentials,
    /// The caller has no credential, or one that is rejected for this reason.
    #[error("{}", unauthorized_message(*.0))]
    Unauthorized(Option<RejectionWord>),
    /// The credential does not grant a right.
    #[error("{}", insufficient_message(.right, .channels))]
    InsufficientScope {
        /// `publish`, `subscribe`, `manage`, `observe` or `admin`.
        right: &'static str,
        /// The channels that lack the right; empty if the right is for the server.
        channels: Vec<String>,
    },
    /// The routes of operators are closed to other machines while there are no access rules.
    #[error(
        "without access rules, /admin answers only requests of this machine: configure [access], \
         and send a credential with the right to observe or administrate"
    )]
    AdminNeedsRules,
    /// The server cannot create tickets.
    #[error("this server creates no tickets: set key_file in [access.signing]")]
    NoSigningKey,
    /// No open stream has this id.
    #[error("no stream of this node has this id; GET /admin/streams lists the streams")]
    NoSuchStream,
    /// A copy of the log cannot begin.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The server has made no copy since its start.
    #[error("no copy of the log was made since the server was started")]
    NoBackup,
    /// The channel does not exist.
    #[error("no such channel")]
    NoSuchChannel,
    /// `If-Match` or `If-None-Match` is not a condition.
    #[error("{0}")]
    InvalidCondition(&'static str),
    /// The condition does not hold, and the caller may not see the newest id.
    #[error("the condition does not hold")]
    ConditionFailed,
    /// The JSON is not what the route expects.
    #[error("the request is not valid: {0}")]
    InvalidRequest(String),
    /// It is not known yet whether the credential is valid.
    #[error(
        "the credential cannot be verified now, because its issuer's keys or the revocations are \
         not available; try again"
    )]
    AccessUnavailable,
    /// A header that may occur once was sent twice.
    #[error("the header {0} is given more than once: send it once")]
    RepeatedHeader(&'static str),
    /// No such route.
    #[error("no route {0:?}; routes are {ROUTES}")]
    NotFound(String),
    /// The route has other methods.
    #[error("method {method} is not allowed here; allowed: {allow}")]
    MethodNotAllowed {
        /// The method as sent, shortened.
        method: String,
        /// Value of the `Allow` header.
        allow: &'static str,
    },
    /// The body did not arrive in time.
    #[error("the body did not arrive within {0} seconds")]
    BodyTimeout(u64),
    /// The body arrived too slowly.
    #[error("the body arrived slower than {0} bytes per second")]
    BodyTooSlow(u32),
    /// The connection broke before the end of the body, or its chunks are malformed.
    #[error("the body ended early, or its chunks are malformed (RFC 9112, section 7.1)")]
    IncompleteBody,
    /// An event or a batch exceeds a limit.
    #[error("{what} has more than {max} {unit}, which is the limit ({flag})")]
    TooLarge {
        /// `the event`, `the batch`, `the data of line 3`.
        what: String,
        /// The limit.
        max: usize,
        /// `bytes`, `events` or `keys`.
        unit: &'static str,
        /// The flag that sets the limit.
        flag: &'static str,
    },
    /// The body has a type that cannot be an event.
    #[error("{found}; send {expected}, for example: {example}")]
    UnsupportedMediaType {
        /// What was sent, as a clause.
        found: String,
        /// The types that the route accepts.
        expected: &'static str,
        /// A command line that works.
        example: String,
    },
    /// The caller has used up its quota for the moment.
    #[error("this client sends too many requests: it has used up {limit}, so try again later")]
    RateLimited {
        /// The setting that has the limit.
        limit: &'static str,
        /// When the same request may succeed.
        retry_in: Duration,
    },
    /// No memory is left for the bodies of requests.
    #[error(
        "the server is reading too many bodies at once; try again (--publish-memory sets the limit)"
    )]
    BodyMemoryFull,
    /// No memory is left for the responses of `GET /events`, because clients read them slowly.
    #[error(
        "too many responses of GET /events are being read at once; try again, perhaps with a \
         smaller limit"
    )]
    HistoryMemoryFull,
    /// Too many dashboards or traces are open.
    #[error(
        "too many {what} of this node are open: {max} are the limit, and {client_max} for one client; \
         close one and try again"
    )]
    TooManyFeeds {
        what: &'static str,
        max: usize,
        client_max: usize,
    },
    /// The server is about to stop.
    #[error(
        "the server is draining: it is about to stop, and accepts no new streams or streaming \
         publishes"
    )]
    Draining,
    /// Too many streams and streaming publishes are open, of all clients or of this one.
    #[error("too many streams and streaming publishes are open; try again later")]
    TooManyStreamingPublishes,
    /// Events are missing where a stream with `profile=data` starts.
    #[error(
        "events are missing after this position, and profile=data cannot report that: start again \
         without an id, for example with from=oldest"
    )]
    HistoryGap,
    /// The broker failed.
    #[error("{}", broker_error::message(.0))]
    Broker(#[from] BrokerError),
}

impl ApiError {
    /// The value of a query parameter is not allowed.
    pub(super) fn invalid_parameter(name: &'static str, why: impl Into<String>) -> Self {
        let why = why.into();
        Self::InvalidParameter { name, why }
    }

    /// The route has no such query parameter, but those that are `known`.
    pub(super) fn unknown_parameter(name: &str, known: &[&str]) -> Self {
        Self::UnknownParameter {
            name: shortened(name),
            known: known.join(", "),
        }
    }

    /// A name in a request is not allowed.
    pub(super) fn invalid_name(
        what: &'static str,
        value: impl fmt::Display,
        why: InvalidName,
    ) -> Self {
        let value = shortened(value);
        Self::InvalidName { what, value, why }
    }

    /// Delay after which the same request may succeed; `None` if a retry alone does not help.
    const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Draining
            | Self::BodyMemoryFull
            | Self::HistoryMemoryFull
            | Self::TooManyFeeds { .. }
            | Self::TooManyStreamingPublishes
            | Self::AccessUnavailable => Some(RETRY_AFTER),
            Self::RateLimited { retry_in, .. } => Some(*retry_in),
            Self::Broker(error) => broker_error::retry_after(error),
            _ => None,
        }
    }

    /// Returns the cause that clients do not see; `None` if the message contains everything.
    fn cause(&self) -> Option<ErrorCause> {
        match self {
            Self::Broker(error) if broker_error::general_message(error).is_some() => {
                Some(ErrorCause::new(error.to_string()))
            }
            _ => None,
        }
    }

    /// Returns what the client gets, and what the log gets.
    fn rejection(&self, code: &'static str) -> Rejection {
        let cause = self.cause();
        let message = match &cause {
            Some(ErrorCause { reference, .. }) => {
                format!("{self} (reference {reference} in the server's log)")
            }
            None => self.to_string(),
        };
        Rejection {
            code,
            message,
            cause,
        }
    }
}

/// Text from a request for an error message, limited to 80 characters.
pub(super) fn shortened(text: impl fmt::Display) -> String {
    text.to_string().chars().take(80).collect()
}

mod code;
mod response;
#[cfg(test)]
mod tests;
