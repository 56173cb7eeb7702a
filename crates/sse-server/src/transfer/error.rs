//! Why a log was not copied.

use std::io;

use crate::broker::{BrokerError, redis::RedisSetupError};

/// Why a log was not copied. Except after the errors about what is in the target, the copy can be
/// continued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error(transparent)]
    Setup(#[from] RedisSetupError),
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
    #[error("a signal ended the command; run it again to continue the copy")]
    Interrupted,
    #[error("the log cannot be read: {0}")]
    Source(String),
    #[error("a server uses the data directory {0}: stop it, or copy from its URL with --follow")]
    InUse(String),
    /// The server may answer later.
    #[error("the log cannot be read: {0}")]
    Unreachable(String),
    #[error(
        "the server has stopped, or cannot be reached ({why}). It was copied {copied}: once it has \
         stopped, run this command with --from DIR, where DIR is its data directory, to copy the rest"
    )]
    ServerGone { why: String, copied: String },
    #[error("{0}")]
    Target(BrokerError),
    #[error(
        "nodes use this Redis with this prefix ({0}): stop them, wait 20 seconds, and run this command \
         again, or choose another --redis-prefix"
    )]
    NodesRun(String),
    #[error(
        "the channel {0:?} is in this Redis already, or was deleted there, and no copy has made it: \
         choose another --redis-prefix, or an empty Redis"
    )]
    NotEmpty(String),
    #[error(
        "the copy of channel {0:?} has events that the log does not have: another log was copied to \
         this Redis, or a node has published there; choose another --redis-prefix"
    )]
    OtherLog(String),
    #[error(
        "the copy of channel {channel:?} has {copied} events, and the log has {expected}: choose \
         another --redis-prefix and copy again"
    )]
    Differs {
        channel: String,
        copied: u64,
        expected: u64,
    },
    #[error("the channel {0:?} was deleted and created again and again; run the command again")]
    Unsettled(String),
}
