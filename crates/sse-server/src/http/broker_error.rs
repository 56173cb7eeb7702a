//! What an error of the broker means for a client: its code, when to retry, and what to do.

use std::time::Duration;

use super::{error::RETRY_AFTER, error_code::ErrorCode};
use crate::broker::BrokerError;

pub(super) const fn broker_code(error: &BrokerError) -> ErrorCode {
    match error {
        BrokerError::KeyReused { .. } => ErrorCode::IdempotencyKeyReused,
        BrokerError::TooManyKeys { .. } => ErrorCode::TooManyIdempotencyKeys,
        BrokerError::Unavailable(_) => ErrorCode::BrokerUnavailable,
        BrokerError::OutcomeUnknown(_) => ErrorCode::OutcomeUnknown,
        BrokerError::Damaged(_) => ErrorCode::LogDamaged,
        BrokerError::Full(_) => ErrorCode::LogFull,
    }
}

pub(super) const fn broker_retry_after(error: &BrokerError) -> Option<Duration> {
    match error {
        BrokerError::TooManyKeys { expires_in, .. } => Some(*expires_in),
        BrokerError::Unavailable(_) | BrokerError::OutcomeUnknown(_) | BrokerError::Damaged(_) => {
            Some(RETRY_AFTER)
        }
        BrokerError::KeyReused { .. } | BrokerError::Full(_) => None,
    }
}

pub(super) fn log_broker_error(error: &BrokerError, code: &str) {
    if let BrokerError::Damaged(_) = error {
        tracing::error!(%error, "the log cannot be read");
    } else {
        // The broker itself logs when it becomes unavailable and available again.
        tracing::debug!(code, %error, "a request failed at the broker");
    }
}

/// What a publisher can do about an error of the broker, if the error does not state it.
pub(super) const fn advice(error: &BrokerError) -> &'static str {
    match error {
        BrokerError::OutcomeUnknown(_) => {
            "; the events may or may not be stored. A publish with an Idempotency-Key can be sent \
             again with that key and is stored once; without a key it may be stored twice"
        }
        _ => "",
    }
}
