//! What an in-process log stores about a channel besides its events.

use sse_proto::EventId;

use super::{ChannelSettings, EndMark};

/// The settings, the end and the time of a channel. Most channels need none of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::broker) struct ChannelLife {
    pub(in crate::broker) settings: ChannelSettings,
    pub(in crate::broker) end: Option<EndMark>,
    /// When the channel was created without an event, or kept alive last, by the log's clock; zero
    /// if neither.
    pub(in crate::broker) alive_ms: u64,
}

impl ChannelLife {
    /// Whether there is nothing to store.
    pub(in crate::broker) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the time from which `ttl` or `ttl_closed` counts. `last` is the last id before the
    /// end.
    pub(in crate::broker) fn written_ms(&self, last: EventId) -> u64 {
        match &self.end {
            Some(end) => end.id.ms,
            None => last.ms.max(self.alive_ms),
        }
    }
}
