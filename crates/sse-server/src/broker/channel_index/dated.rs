//! Channels with a value that has a time, such as the last ids of forgotten channels, in the order of
//! that time.

use sse_proto::{Channel, EventId};

use super::{
    slot_order::SlotOrder,
    table::{ChannelTable, Slot},
};

/// A value with a time.
pub(in crate::broker) trait Dated: Copy {
    /// The time in milliseconds.
    fn ms(&self) -> u64;
}

impl Dated for EventId {
    fn ms(&self) -> u64 {
        self.ms
    }
}

/// Channels with a dated value each.
#[derive(Debug)]
pub(in crate::broker) struct DatedChannels<V> {
    table: ChannelTable<V>,
    order: SlotOrder,
}

impl<V> Default for DatedChannels<V> {
    fn default() -> Self {
        Self {
            table: ChannelTable::default(),
            order: SlotOrder::default(),
        }
    }
}

impl<V: Dated> DatedChannels<V> {
    /// The number of channels.
    pub(in crate::broker) const fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether a channel has a value.
    pub(in crate::broker) fn contains(&self, channel: &Channel) -> bool {
        self.table.contains(channel)
    }

    /// Returns the value of a channel.
    pub(in crate::broker) fn get(&self, channel: &Channel) -> Option<V> {
        self.table.get(channel).copied()
    }

    /// Sets the value of a channel; `None` removes it. Returns the old value.
    pub(in crate::broker) fn set(&mut self, channel: &Channel, value: Option<V>) -> Option<V> {
        let slot = self.table.slot_of(channel);
        let old = self.table.set(channel, value);
        if let Some(slot) = slot.or_else(|| self.table.slot_of(channel)) {
            let ms = |value: Option<V>| value.map(|value| value.ms());
            self.order.replace(slot, ms(old), ms(value));
        }
        old
    }

    /// Returns the channel with the earliest value.
    pub(in crate::broker) fn first(&self) -> Option<(&Channel, V)> {
        let (_, slot) = self.order.first()?;
        let (channel, value) = self.table.at(slot)?;
        Some((channel, *value))
    }

    /// The channels in the order of their times.
    pub(in crate::broker) const fn order(&self) -> &SlotOrder {
        &self.order
    }

    /// Returns the channel in a slot.
    pub(in crate::broker) fn name(&self, slot: Slot) -> Option<&Channel> {
        self.table.at(slot).map(|(channel, _)| channel)
    }

    /// All channels with their values.
    #[cfg(test)]
    pub(in crate::broker) fn all(&self) -> std::collections::BTreeMap<Channel, V> {
        let all = self.table.iter();
        all.map(|(_, channel, value)| (channel.clone(), *value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_channel_is_first_and_a_replaced_value_moves_it() {
        let mut channels = DatedChannels::default();
        let [a, b]: [Channel; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        assert_eq!(channels.set(&a, Some(EventId::new(5, 0))), None);
        channels.set(&b, Some(EventId::new(7, 0)));
        assert_eq!(channels.first(), Some((&a, EventId::new(5, 0))));
        let old = channels.set(&a, Some(EventId::new(9, 1)));
        assert_eq!(old, Some(EventId::new(5, 0)));
        assert_eq!(channels.first(), Some((&b, EventId::new(7, 0))));
        channels.set(&b, None);
        assert_eq!(
            (channels.len(), channels.get(&a)),
            (1, Some(EventId::new(9, 1)))
        );
    }
}
