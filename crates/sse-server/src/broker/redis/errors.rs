//! Errors: why Redis cannot be used at all, and what a failed command means for a broker's caller.
//!
//! The important distinction for a command is whether Redis replied. A reply is certain: Redis
//! rejected the command, and nothing was stored. Without a reply the outcome of a write is unknown.

use redis::{RedisError, ServerError, Value};

use super::rejections::{Reaction, Response, advice, meaning_of};
use crate::broker::BrokerError;

/// Why Redis cannot be used at all. A Redis that is away can be: the server waits for it.
#[derive(Debug, thiserror::Error)]
pub enum RedisSetupError {
    /// The URL, an account or a certificate cannot be used. The text shows the expected form, and
    /// no secret.
    #[error("{0}")]
    Target(String),
    /// The server or its keys are not supported.
    #[error("the Redis at {address} cannot be used: {why}")]
    Unusable {
        /// Address of the Redis.
        address: String,
        /// What is not supported.
        why: Unusable,
    },
}

/// Why a Redis that responds cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The version of the server.
    #[error("it is version {0}, which is not supported; 6.2 or later is required")]
    TooOld(String),
    /// The keys have an older format than those of this version.
    #[error(
        "its keys have format {found}, and this version uses format {own}: stop all older nodes, and \
         then start one node with --redis-upgrade, or use another --redis-prefix"
    )]
    OlderFormat {
        /// The format of the keys.
        found: u32,
        /// The format of this version.
        own: u32,
    },
    /// A log is being copied to it, or the copy was not completed.
    #[error(
        "it has an unfinished copy of a log: run sse-server copy until it reports that the copy is \
         complete, or use another --redis-prefix"
    )]
    UnfinishedCopy,
    /// The keys have a newer format than this version knows.
    #[error(
        "its keys have format {found}, and this version knows only formats up to {own}: use a newer \
         version, or another --redis-prefix"
    )]
    NewerFormat {
        /// The format of the keys.
        found: u32,
        /// The format of this version.
        own: u32,
    },
}

/// Why commands gave no result.
#[derive(Debug)]
pub(super) enum CommandError {
    /// Redis did not reply. `Unavailable` if nothing was sent, otherwise `OutcomeUnknown`.
    NoReply(BrokerError),
    /// Redis replied with an error.
    Rejected(RedisError),
}

impl CommandError {
    /// The error for commands that change no event: without a reply, no outcome is unknown.
    pub(super) fn into_query_error(self) -> BrokerError {
        match self {
            Self::NoReply(BrokerError::OutcomeUnknown(reason)) => BrokerError::Unavailable(reason),
            error => error.into(),
        }
    }
}

impl From<CommandError> for BrokerError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NoReply(error) => error,
            CommandError::Rejected(error) => broker_error(&error),
        }
    }
}

/// Converts an error that Redis replied with, by the table in [`rejections`](super::rejections).
///
/// A reply that the client cannot parse is not an error reply: its outcome is unknown.
pub(super) fn broker_error(error: &RedisError) -> BrokerError {
    let Some(errors) = error.clone().into_server_errors() else {
        return BrokerError::OutcomeUnknown(format!("Redis sent an invalid reply: {error}"));
    };
    // The first error is the cause; a transaction repeats it for each of its commands.
    let Some((_, first)) = errors.first() else {
        return BrokerError::Unavailable("Redis rejected the command".to_owned());
    };
    rejection_error(first)
}

fn rejection_error(error: &ServerError) -> BrokerError {
    let text = format!("{}{}", error_text(error), advice(error.code()));
    match meaning_of(error.code()).response {
        Response::Full => BrokerError::Full(format!("Redis is at its maxmemory: {text}")),
        Response::Unavailable => {
            BrokerError::Unavailable(format!("Redis rejected the command: {text}"))
        }
        Response::Unknown => BrokerError::OutcomeUnknown(text),
    }
}

fn error_text(error: &ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or_default())
}

/// Returns an error in words. An error reply is shown as Redis sent it.
pub(super) fn describe(error: &RedisError) -> String {
    let errors = error.clone().into_server_errors();
    let first = errors.as_ref().and_then(|errors| errors.first());
    first.map_or_else(|| error.to_string(), |(_, error)| error_text(error))
}

/// Whether `error` shows that the connection must be given up, because Redis is no primary.
pub(super) fn needs_primary(error: &RedisError) -> bool {
    causes(error, Reaction::FindPrimary)
}

/// Whether `error` shows that the connection must be checked.
pub(super) fn needs_check(error: &RedisError) -> bool {
    causes(error, Reaction::Check)
}

/// Whether an error reply that arrived as a value shows that Redis does not know the script of an
/// `EVALSHA`. It did nothing then.
pub(super) fn is_unknown_script_reply(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

fn causes(error: &RedisError, reaction: Reaction) -> bool {
    let errors = error.clone().into_server_errors();
    errors.is_some_and(|errors| {
        let mut codes = errors.iter().map(|(_, error)| error.code());
        codes.any(|code| meaning_of(code).reaction == reaction)
    })
}

/// Whether an error reply that arrived as a value shows what [`needs_primary`] does.
pub(super) fn needs_primary_reply(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error)
        if meaning_of(error.code()).reaction == Reaction::FindPrimary)
}

/// Whether the connection failed, as opposed to Redis replying with an error.
pub(super) fn is_connection_failure(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
}

#[cfg(test)]
mod tests {
    use redis::{Value, parse_redis_value};

    use super::*;

    fn rejection(line: &str) -> RedisError {
        match parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap() {
            Value::ServerError(error) => error.into(),
            value => panic!("{value:?} is not an error reply"),
        }
    }

    #[test]
    fn an_error_reply_means_that_nothing_was_stored() {
        let full = rejection("OOM command not allowed when used memory > 'maxmemory'.");
        assert!(
            matches!(broker_error(&full), BrokerError::Full(text) if text.contains("maxmemory"))
        );
        let read_only = rejection("READONLY You can't write against a read only replica.");
        assert!(matches!(
            broker_error(&read_only),
            BrokerError::Unavailable(text) if text.contains("READONLY")
        ));
        assert!(needs_primary(&read_only) && !needs_primary(&full));
        assert!(!is_connection_failure(&read_only));
    }

    #[test]
    fn a_reply_that_cannot_be_parsed_leaves_the_outcome_unknown() {
        let error = redis::from_redis_value::<u64>(Value::Nil).unwrap_err();
        assert!(matches!(
            broker_error(&error.into()),
            BrokerError::OutcomeUnknown(_)
        ));
    }

    #[test]
    fn a_broken_connection_is_not_a_reply() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_connection_failure(&broken.into()));
    }
}
