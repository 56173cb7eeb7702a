//! The orders in which the log in memory searches its channels.

use sse_proto::{Channel, EventId};

use super::channel::ChannelLog;
use crate::broker::id_order::IdOrder;

/// The orders in which channels are searched, so that no search looks at every channel.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Channels with events, by the oldest event.
    pub(super) with_events: IdOrder,
    /// Channels that are idle once their last id is too old, by that id.
    pub(super) idle: IdOrder,
}

/// Where a channel is in each order.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Ranks {
    oldest: Option<EventId>,
    idle_since: Option<EventId>,
}

impl Ranks {
    pub(super) fn of(log: &ChannelLog) -> Self {
        Self {
            oldest: log.oldest(),
            idle_since: log.can_be_idle().then(|| log.last()),
        }
    }
}

impl Orders {
    pub(super) fn replace(&mut self, channel: &Channel, old: Ranks, new: Ranks) {
        if old.oldest != new.oldest {
            self.with_events.replace(channel, old.oldest, new.oldest);
        }
        if old.idle_since != new.idle_since {
            self.idle.replace(channel, old.idle_since, new.idle_since);
        }
    }
}
