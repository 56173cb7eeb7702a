//! What is asked of the writer, and how it replies.

use sse_proto::{Channel, EventId};
use tokio::sync::oneshot;

use crate::broker::{
    BrokerError, Publisher,
    idempotency::{AppendItem, AppendOutcome},
    revocations::RevocationChange,
};

/// Sends the reply to a request.
pub(super) type ReplySender<T> = oneshot::Sender<Result<T, BrokerError>>;

/// A request to the writer.
pub(super) enum Request {
    /// Append the items that the channel does not have yet.
    Append {
        publisher: Publisher,
        channel: Channel,
        items: Vec<AppendItem>,
        /// Bytes of types and data, for the limit of the batch.
        bytes: usize,
        reply: ReplySender<Vec<AppendOutcome>>,
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
            Self::Append { bytes, .. } => *bytes,
            Self::Check { .. } | Self::ChangeRevocations { .. } | Self::AdvanceClock { .. } => 0,
        }
    }
}
