//! Why a broker could not do what its caller requested, and what an operator should know about it.

use std::time::Duration;

use sse_proto::EventId;

use super::lifecycle::CloseReason;

/// Why a call of the broker failed.
///
/// The events of a failed append are not in the log, except after
/// [`OutcomeUnknown`](Self::OutcomeUnknown).
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// The broker was not reached or is too busy. Nothing was stored; the caller can retry.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// The broker sent no reply: the events may or may not be in the log.
    #[error("the broker did not confirm: {0}")]
    OutcomeUnknown(String),
    /// The disk of the log, or the memory of Redis, is full. Nothing was stored.
    #[error("{0}")]
    Full(String),
    /// The log has as many channels as it may, and none of them can be forgotten. Nothing was
    /// stored.
    #[error(
        "there are {0} channels already, which is the limit (--channels-max), and all have recent \
         events"
    )]
    TooManyChannels(usize),
    /// The client has created its part of the channels. Nothing was stored.
    #[error(
        "this client has created {created} channels, and what is free is kept for other clients \
         (--channels-max)"
    )]
    TooManyNewChannels {
        /// Channels that the client created recently.
        created: u64,
        /// When the first of them counts no more.
        retry_in: Duration,
    },
    /// An idempotency key was used for other content before. Nothing was stored.
    #[error("the key of item {item} was used for other content")]
    KeyReused {
        /// Index of the item in the append, from zero.
        item: usize,
    },
    /// The channel holds as many idempotency keys as it may. Nothing was stored.
    #[error(
        "the channel has {keys_max} keys of publishes already, which is the limit \
         (--idempotency-keys); the oldest expires in {expires_in:?}"
    )]
    TooManyKeys {
        /// Keys per channel.
        keys_max: usize,
        /// When the oldest key makes room for a new one.
        expires_in: Duration,
    },
    /// The keys of all channels take as many bytes as they may. Nothing was stored.
    #[error(
        "the keys of publishes in all channels take as much as they may (--idempotency-bytes); try \
         again, or publish without a key"
    )]
    KeyBytesFull {
        /// When a new key may have room.
        expires_in: Duration,
    },
    /// The client has its part of the idempotency keys. Nothing was stored.
    #[error(
        "this client has {held} keys of publishes, and what is free is kept for other clients \
         (--idempotency-keys, --idempotency-bytes)"
    )]
    TooManyKeysOfClient {
        /// Keys that the client stored recently.
        held: u64,
        /// When the first of them counts no more.
        expires_in: Duration,
    },
    /// The channel is closed. Nothing was stored.
    #[error("the channel is closed ({reason}), and accepts nothing more")]
    ChannelClosed {
        /// Why it was closed.
        reason: CloseReason,
        /// The id of its end.
        end: EventId,
    },
    /// The channel was deleted not long ago, and its class rejects publishes after that. Nothing was
    /// stored.
    #[error("the channel was deleted, and its class accepts no publish for a day after that")]
    DeletedRecently,
    /// The channel was deleted since the write began that this step belongs to. Nothing was stored.
    #[error("the channel was deleted meanwhile")]
    ChannelDeleted,
    /// The channel does not exist, and its class lets only `PUT` create it. Nothing was stored.
    #[error("no such channel: create it with PUT /channels/{{name}}")]
    NoSuchChannel,
    /// The condition of the write does not hold. Nothing was stored.
    #[error("the condition does not hold: the newest id of the channel is {newest}")]
    ConditionFailed {
        /// Id of the newest record. In a channel without a record, it is the id after which the
        /// channel begins.
        newest: EventId,
    },
    /// Too many searches wait to read the log. Nothing was read; the caller can retry.
    #[error("too many searches read the log; try again, perhaps with a smaller range or no filter")]
    TooManySearches,
    /// The log is unreadable at this position. A retry does not help.
    #[error("the log is damaged: {0}")]
    Damaged(String),
}

/// A broker works, but may not keep what it acknowledges. The operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// A stable word in `snake_case`.
    pub code: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}
