//! What is asked of the writer, and how it replies.

use sse_proto::{Channel, EventId};
use tokio::sync::oneshot;

use crate::broker::{
    BrokerError, Publisher,
    lifecycle::{ChannelSettings, Incarnation, Tombstone, Write, Written},
    revocations::RevocationChange,
};

/// Sends the reply to a request.
pub(super) type ReplySender<T> = oneshot::Sender<Result<T, BrokerError>>;

/// A request to the writer.
pub(super) enum Request {
    /// Carry out a write.
    Write {
        publisher: Publisher,
        channel: Channel,
        write: Write,
        /// Bytes of types and data, for the limit of the batch.
        bytes: usize,
        reply: ReplySender<Written>,
    },
    /// Delete a channel.
    Delete {
        channel: Channel,
        reply: ReplySender<Option<Tombstone>>,
    },
    /// Replace the settings of a channel, and create it if it does not exist. The reply states
    /// whether it was created.
    Configure {
        publisher: Publisher,
        channel: Channel,
        settings: ChannelSettings,
        reply: ReplySender<bool>,
    },
    /// Restart the `ttl` of an incarnation.
    KeepAlive {
        channel: Channel,
        incarnation: Incarnation,
        reply: ReplySender<()>,
    },
    /// Commit, to verify that a commit succeeds.
    Check { reply: ReplySender<()> },
    /// Change the stored revocations.
    ChangeRevocations {
        change: RevocationChange,
        reply: ReplySender<()>,
    },
    /// Move the log's clock past an id, if the time is later than the id.
    ///
    /// The clock is saved by the next commit, or by the next sweep, so that a restart with an
    /// earlier system clock assigns no id up to `bound` either. A commit per request would let any
    /// client write to the disk by reading.
    AdvanceClock {
        bound: EventId,
        reply: ReplySender<()>,
    },
}

impl Request {
    /// Whether the request needs no commit.
    pub(super) const fn concerns_clock_only(&self) -> bool {
        matches!(self, Self::AdvanceClock { .. })
    }

    /// Returns what the request counts towards the bytes of a batch.
    pub(super) const fn bytes(&self) -> usize {
        match self {
            Self::Write { bytes, .. } => *bytes,
            _ => 0,
        }
    }
}
