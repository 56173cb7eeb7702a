//! One write to a channel: its events, its condition and its end.

use std::fmt;

use sse_proto::EventId;

use super::{ChannelSettings, CloseReason};
use crate::broker::idempotency::{AppendItem, AppendOutcome};

/// What must hold for a write to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The newest record of the channel, of any kind, has this id (`If-Match`).
    ///
    /// A gap record and an end count. In a channel that was forgotten to make room, the last id that
    /// the log remembers counts. A deleted channel, and one of which the log knows nothing, fail.
    Newest(EventId),
    /// No event was ever appended in the present incarnation (`If-None-Match: *`).
    ///
    /// A missing channel passes, and so does one that was only created. Trimmed events count as
    /// events. A channel that was forgotten to make room fails.
    NoEvent,
}

/// One incarnation of a channel. No two incarnations of a channel have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(pub(in crate::broker) u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A write. The default has no items, no condition and no end.
#[derive(Debug, Clone, Default)]
pub struct Write {
    /// The items to append. They may be missing only if the write closes the channel.
    pub items: Vec<AppendItem>,
    /// The end that follows the last item.
    pub close: Option<CloseReason>,
    /// What must hold.
    pub condition: Option<Condition>,
    /// The incarnation that the write belongs to. Without one, the write may create the channel.
    pub incarnation: Option<Incarnation>,
    /// The settings of the channel, if this write creates it. They are ignored otherwise.
    ///
    /// The caller has checked them against the class of the channel.
    pub settings: ChannelSettings,
}

impl Write {
    /// A write of these items, without a condition.
    #[must_use]
    pub fn of_items(items: Vec<AppendItem>) -> Self {
        Self {
            items,
            ..Self::default()
        }
    }

    /// Whether the write has only items, so that an append that cannot do more carries it out.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.close.is_none()
            && self.condition.is_none()
            && self.incarnation.is_none()
            && self.settings.is_default()
    }
}

/// The result of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The outcome of each item, in order.
    pub outcomes: Vec<AppendOutcome>,
    /// The id of the end that this write stored, or that a repetition of it finds: the channel is
    /// closed with the reason of the write.
    pub end: Option<EventId>,
    /// The id of the record that this write stored last, which is the `ETag` of the response.
    ///
    /// It is the id of the end if there is one. A repetition with known keys returns the id of the
    /// first time.
    pub newest: EventId,
    /// The incarnation that the write belongs to.
    pub incarnation: Incarnation,
}
