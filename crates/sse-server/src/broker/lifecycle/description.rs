//! What a channel is, for `GET /channels` and `GET /channels/{name}`.

use sse_proto::{Channel, EventId};

use super::{ChannelSettings, CloseReason};

/// The state of a channel that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelState {
    /// Writes are accepted.
    Open,
    /// The channel has ended.
    Closed {
        /// The reason.
        reason: CloseReason,
        /// The id of the end.
        end: EventId,
    },
}

/// A channel that exists. A channel that was forgotten or deleted does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelDescription {
    /// The name.
    pub channel: Channel,
    /// The state.
    pub state: ChannelState,
    /// Number of events. The end and gap records of Redis may be counted or not.
    pub events: u64,
    /// What the events count towards `--history-bytes`; `None` if the log does not count bytes
    /// (Redis).
    pub bytes: Option<u64>,
    /// Id of the oldest event; `None` if the channel has none.
    pub oldest: Option<EventId>,
    /// Id of the newest record of any kind, which is the `ETag`. In a channel without a record it is
    /// the id after which the channel begins.
    pub newest: EventId,
    /// What the channel sets for itself.
    pub settings: ChannelSettings,
    /// When the channel is trimmed or deleted by time, in milliseconds since the Unix epoch by the
    /// log's clock, unless it is written to before; `None` if it has no such time.
    pub expires_ms: Option<u64>,
}

/// Which channels a page of a list examines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Only names that begin with this text; empty for all.
    pub prefix: String,
    /// Only names after this one, in byte order (Cluster: in the order of slots, then of names).
    pub after: Option<Channel>,
    /// Channels per page, from 1 to [`LIST_PAGE_MAX`](super::LIST_PAGE_MAX).
    pub limit: usize,
}

/// A page of a list. A channel that exists throughout is on exactly one of the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// The channels, in order.
    pub channels: Vec<ChannelDescription>,
    /// The last name that was examined, from which the next page continues; `None` if no channel
    /// follows.
    pub next: Option<Channel>,
}
