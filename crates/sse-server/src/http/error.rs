//! The one table from our errors to HTTP: status, code, headers. Every 4xx and 5xx has the same JSON body.
//!
//! The message says what to change; the cause of a 503 goes to our log as well, because the publisher cannot mend it.

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use sse_proto::{
    api::{ErrorBody, ErrorDetail},
    event::InvalidName,
};

use crate::broker::BrokerError;

/// The routes, for whoever asked for another one.
pub(super) const ROUTES: &str = "GET or POST /event/{action}, POST /events, GET /stream, GET /events, \
                                 GET /health/live, GET /health/ready, GET /metrics";

/// Why a request was not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A channel, or an action, that cannot be one.
    #[error("{what} {value:?}: {why}")]
    InvalidName {
        /// `channel` or `action`.
        what: &'static str,
        /// What was sent, shortened.
        value: String,
        /// What is allowed.
        why: InvalidName,
    },
    /// Percent-encoding that is broken, or does not give UTF-8.
    #[error(
        "the {0} is not percent-encoded UTF-8: write % as %25 and other characters as their UTF-8 bytes"
    )]
    InvalidEncoding(&'static str),
    /// A query parameter with a value that it cannot have.
    #[error("the query parameter {name:?} {why}")]
    InvalidParameter {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A query parameter that this route does not have: perhaps mistyped, so it is not ignored.
    #[error("there is no query parameter {name:?} here: there are {known}")]
    UnknownParameter {
        /// Its name.
        name: String,
        /// The names of all.
        known: String,
    },
    /// A body that is not JSON.
    #[error("the body is not one JSON value: {0}")]
    InvalidJson(String),
    /// A batch as JSON that is not an array.
    #[error("the body is not a JSON array of events: {0}")]
    NotAnArray(String),
    /// A body that is not text.
    #[error("the body is not UTF-8")]
    InvalidUtf8,
    /// One event of a batch is wrong, so none was taken.
    #[error("{place}: {why}; no event of the batch was published")]
    InvalidBatch {
        /// `line 3` or `item 3`.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// A batch without events.
    #[error("the batch has no events: send a line {{\"event\":\"click\",\"data\":\"x\"}} for each")]
    EmptyBatch,
    /// A key of a publish that cannot be one.
    #[error("the Idempotency-Key cannot be used: {0}")]
    InvalidIdempotencyKey(&'static str),
    /// A key that came again with other content.
    #[error(
        "{0} was used for something else within the --idempotency-window, so nothing was published: repeat exactly \
         what was sent with it, or use a new key"
    )]
    IdempotencyKeyReused(String),
    /// A publish that a page of another site sent, or made a browser send.
    #[error("pages of {0} may not publish here: name that origin with --cors-origin to allow it")]
    OriginNotAllowed(String),
    /// A preflight for what a page may not do.
    #[error("pages may not send this request: {0}")]
    PreflightRejected(String),
    /// No such route.
    #[error("there is no {0:?} here: there are {ROUTES}")]
    NotFound(String),
    /// The route has other methods.
    #[error("{method} is not for this path: use {allow}")]
    MethodNotAllowed {
        /// What was sent.
        method: String,
        /// For the `Allow` header.
        allow: &'static str,
    },
    /// The body did not come in time.
    #[error("the body did not arrive within {0} seconds")]
    BodyTimeout(u64),
    /// The connection broke, or the body's framing did.
    #[error("the body broke off, or its chunks are not what RFC 9112 calls chunks")]
    IncompleteBody,
    /// An event, or a batch, is over a limit.
    #[error("{what} has more than {max} {unit}, which is the limit ({flag})")]
    TooLarge {
        /// `the event`, `the batch`, `the data of line 3`.
        what: String,
        /// The limit.
        max: usize,
        /// `bytes` or `events`.
        unit: &'static str,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// A body of a type that cannot be an event.
    #[error("{found}; send {expected}, for example: {example}")]
    UnsupportedMediaType {
        /// What was sent.
        found: String,
        /// What would do.
        expected: &'static str,
        /// A line that works.
        example: String,
    },
    /// Too many bodies are being read.
    #[error(
        "the server is reading too many bodies at once; try again (--publish-memory sets the limit)"
    )]
    Busy,
    /// Clients are slow to read what they have asked for.
    #[error(
        "too many answers of GET /events are being read at once; try again, with a smaller limit if need be"
    )]
    TooManyAnswers,
    /// The broker could not do it.
    #[error("{0}{advice}", advice = advice(.0))]
    Broker(#[from] BrokerError),
}

impl ApiError {
    /// The table.
    fn row(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidName {
                what: "channel", ..
            } => (StatusCode::BAD_REQUEST, "invalid_channel"),
            Self::InvalidName { .. } => (StatusCode::BAD_REQUEST, "invalid_action"),
            Self::InvalidEncoding(_) => (StatusCode::BAD_REQUEST, "invalid_encoding"),
            Self::InvalidParameter { .. } => (StatusCode::BAD_REQUEST, "invalid_parameter"),
            Self::UnknownParameter { .. } => (StatusCode::BAD_REQUEST, "unknown_parameter"),
            Self::InvalidJson(_) | Self::NotAnArray(_) => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::InvalidUtf8 => (StatusCode::BAD_REQUEST, "invalid_utf8"),
            Self::InvalidBatch { .. } => (StatusCode::BAD_REQUEST, "invalid_batch"),
            Self::EmptyBatch => (StatusCode::BAD_REQUEST, "empty_batch"),
            Self::InvalidIdempotencyKey(_) => (StatusCode::BAD_REQUEST, "invalid_idempotency_key"),
            Self::IncompleteBody => (StatusCode::BAD_REQUEST, "incomplete_body"),
            Self::OriginNotAllowed(_) => (StatusCode::FORBIDDEN, "origin_not_allowed"),
            Self::PreflightRejected(_) => (StatusCode::FORBIDDEN, "preflight_rejected"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::BodyTimeout(_) => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::UnsupportedMediaType { .. } => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::IdempotencyKeyReused(_) | Self::Broker(BrokerError::KeyReused { .. }) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused")
            }
            Self::Broker(BrokerError::TooManyKeys { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, "too_many_idempotency_keys")
            }
            Self::Busy | Self::TooManyAnswers => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::Broker(BrokerError::Unavailable(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "broker_unavailable")
            }
            Self::Broker(BrokerError::OutcomeUnknown(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown")
            }
            Self::Broker(BrokerError::Damaged(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "log_damaged")
            }
            Self::Broker(BrokerError::Full(_)) => (StatusCode::INSUFFICIENT_STORAGE, "log_full"),
        }
    }

    /// How long to wait before trying again, after a 503.
    fn retry_after_s(&self) -> u64 {
        match self {
            Self::Broker(BrokerError::TooManyKeys { expires_in, .. }) => {
                let part = u64::from(expires_in.subsec_nanos() > 0);
                expires_in.as_secs().saturating_add(part).max(1)
            }
            _ => 1,
        }
    }

    /// The JSON body.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                code: self.row().1.to_owned(),
                message: self.to_string(),
            },
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.row().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code) = self.row();
        match self {
            Self::Broker(error @ BrokerError::Damaged(_)) => {
                tracing::error!(%error, "the log cannot be read")
            }
            // The broker says by itself when it goes away and comes back; not once for each request.
            Self::Broker(error) => tracing::debug!(code, %error, "a request failed at the broker"),
            _ => {}
        }
        let mut response = HttpResponse::build(status);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, self.retry_after_s()));
        }
        if let Self::MethodNotAllowed { allow, .. } = self {
            response.insert_header((header::ALLOW, *allow));
        }
        response.json(self.body())
    }
}

/// What a publisher can do about an error of the broker, where that is not plain.
const fn advice(error: &BrokerError) -> &'static str {
    match error {
        BrokerError::OutcomeUnknown(_) => {
            "; what was published may be stored or not. With the Idempotency-Key that it had, it can be sent again and is \
             stored once; what had none may be doubled"
        }
        _ => "",
    }
}

/// A piece of a request for a message: not at any length.
pub(super) fn shortened(text: impl fmt::Display) -> String {
    text.to_string().chars().take(80).collect()
}
