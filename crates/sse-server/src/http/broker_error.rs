//! What an error of the broker means for a client.

use std::time::Duration;

use super::{error::RETRY_AFTER, error_status::ErrorCode};
use crate::broker::BrokerError;

/// Returns the delay after which the same request may succeed; `None` if a retry alone does not
/// help.
pub(super) const fn retry_after(error: &BrokerError) -> Option<Duration> {
    match error {
        BrokerError::TooManyKeys { expires_in, .. }
        | BrokerError::KeyBytesFull { expires_in }
        | BrokerError::TooManyKeysOfClient { expires_in, .. } => Some(*expires_in),
        BrokerError::TooManyNewChannels { retry_in, .. } => Some(*retry_in),
        BrokerError::Unavailable(_)
        | BrokerError::OutcomeUnknown(_)
        | BrokerError::TooManySearches
        | BrokerError::Damaged(_) => Some(RETRY_AFTER),
        BrokerError::KeyReused { .. }
        | BrokerError::Full(_)
        | BrokerError::TooManyChannels(_)
        | BrokerError::ChannelClosed { .. }
        | BrokerError::ChannelDeleted
        | BrokerError::DeletedRecently
        | BrokerError::NoSuchChannel
        | BrokerError::ConditionFailed { .. } => None,
    }
}

/// Returns the code of the error.
pub(super) const fn code(error: &BrokerError) -> ErrorCode {
    match error {
        BrokerError::KeyReused { .. } => ErrorCode::IdempotencyKeyReused,
        BrokerError::TooManyNewChannels { .. } => ErrorCode::TooManyNewChannels,
        BrokerError::TooManyKeys { .. }
        | BrokerError::KeyBytesFull { .. }
        | BrokerError::TooManyKeysOfClient { .. } => ErrorCode::TooManyIdempotencyKeys,
        BrokerError::TooManySearches => ErrorCode::Busy,
        BrokerError::Unavailable(_) => ErrorCode::BrokerUnavailable,
        BrokerError::OutcomeUnknown(_) => ErrorCode::OutcomeUnknown,
        BrokerError::Damaged(_) => ErrorCode::LogDamaged,
        BrokerError::Full(_) | BrokerError::TooManyChannels(_) => ErrorCode::LogFull,
        BrokerError::ChannelClosed { .. } => ErrorCode::ChannelClosed,
        BrokerError::ChannelDeleted => ErrorCode::ChannelDeleted,
        BrokerError::DeletedRecently => ErrorCode::DeletedRecently,
        BrokerError::NoSuchChannel => ErrorCode::NoSuchChannel,
        BrokerError::ConditionFailed { .. } => ErrorCode::ConditionFailed,
    }
}

/// Returns the message for clients, without internals.
pub(super) fn message(error: &BrokerError) -> String {
    general_message(error).map_or_else(|| error.to_string(), str::to_owned)
}

/// Returns the message for clients if the error's own text may contain addresses, paths or other
/// internals.
pub(super) const fn general_message(error: &BrokerError) -> Option<&'static str> {
    match error {
        BrokerError::Unavailable(_) => Some("the log is not available; try again"),
        BrokerError::OutcomeUnknown(_) => Some(
            "the log did not confirm; the events may or may not be stored. A publish with an \
             Idempotency-Key can be sent again with that key and is stored once; without a key it \
             may be stored twice",
        ),
        BrokerError::Damaged(_) => Some("a part of the log cannot be read"),
        BrokerError::Full(_) => {
            Some("the log has no room, so nothing was stored; its operator must make room")
        }
        BrokerError::KeyReused { .. }
        | BrokerError::TooManyKeys { .. }
        | BrokerError::TooManyKeysOfClient { .. }
        | BrokerError::KeyBytesFull { .. }
        | BrokerError::TooManyNewChannels { .. }
        | BrokerError::TooManySearches
        | BrokerError::ChannelClosed { .. }
        | BrokerError::ChannelDeleted
        | BrokerError::DeletedRecently
        | BrokerError::NoSuchChannel
        | BrokerError::ConditionFailed { .. }
        | BrokerError::TooManyChannels(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_contains_internals() {
        let internal = || "Redis at 192.0.2.1:6379: timed out".to_owned();
        for error in [
            BrokerError::Unavailable(internal()),
            BrokerError::OutcomeUnknown(internal()),
            BrokerError::Damaged(internal()),
            BrokerError::Full(internal()),
        ] {
            assert!(error.to_string().contains(&internal()));
            let message = message(&error);
            assert!(!message.contains("192.0.2.1"), "{message}");
        }
    }
}
