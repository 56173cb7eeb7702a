//! Channels in the order of an id, which finds the oldest one without a scan.

use std::collections::BTreeSet;

use sse_proto::{Channel, EventId};

/// A channel and the id that orders it.
pub(super) type Entry = (EventId, Channel);

/// Channels in the order of an id.
#[derive(Debug, Default)]
pub(super) struct IdOrder(BTreeSet<Entry>);

impl IdOrder {
    /// Replaces the entry of a channel. `None` is no entry. `old` may be an id that is not there.
    pub(super) fn replace(
        &mut self,
        channel: &Channel,
        old: Option<EventId>,
        new: Option<EventId>,
    ) {
        if let Some(old) = old {
            self.0.remove(&(old, channel.clone()));
        }
        if let Some(new) = new {
            self.0.insert((new, channel.clone()));
        }
    }

    /// The entry with the lowest id.
    pub(super) fn first(&self) -> Option<&Entry> {
        self.0.first()
    }

    /// All entries, the lowest id first.
    pub(super) fn iter(&self) -> std::collections::btree_set::Iter<'_, Entry> {
        self.0.iter()
    }
}
