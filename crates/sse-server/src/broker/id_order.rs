//! Channels in the order of an id, which finds the oldest one, and counts the old ones, without a
//! scan.

use std::{cell::Cell, collections::BTreeSet, sync::LazyLock};

use sse_proto::{Channel, EventId};

/// A channel and the id that orders it.
pub(super) type Entry = (EventId, Channel);

/// The first channel name in the order of names.
static LOWEST_NAME: LazyLock<Channel> = LazyLock::new(|| "-".parse().expect("a channel name"));

/// Channels in the order of an id.
#[derive(Debug, Default)]
pub(super) struct IdOrder {
    entries: BTreeSet<Entry>,
    /// A time in milliseconds, and the number of entries before it.
    counted: Cell<(u64, usize)>,
}

impl IdOrder {
    /// Replaces the entry of a channel. `None` is no entry. `old` may be an id that is not there.
    pub(super) fn replace(
        &mut self,
        channel: &Channel,
        old: Option<EventId>,
        new: Option<EventId>,
    ) {
        let (before_ms, mut count) = self.counted.get();
        if let Some(old) = old
            && self.entries.remove(&(old, channel.clone()))
            && old.ms < before_ms
        {
            count -= 1;
        }
        if let Some(new) = new
            && self.entries.insert((new, channel.clone()))
            && new.ms < before_ms
        {
            count += 1;
        }
        self.counted.set((before_ms, count));
    }

    /// The entry with the lowest id.
    pub(super) fn first(&self) -> Option<&Entry> {
        self.entries.first()
    }

    /// All entries, the lowest id first.
    pub(super) fn iter(&self) -> std::collections::btree_set::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// Whether the order has this entry.
    pub(super) fn contains(&self, channel: &Channel, id: EventId) -> bool {
        self.entries.contains(&(id, channel.clone()))
    }

    /// Returns the number of entries whose id is of an earlier time than `ms`.
    ///
    /// The cost is that of the entries between `ms` and the time of the last call. A caller whose time
    /// only grows therefore counts each entry once.
    pub(super) fn count_before(&self, ms: u64) -> usize {
        let (before_ms, count) = self.counted.get();
        let count = if ms < before_ms {
            count - self.count_between(ms, before_ms)
        } else {
            count + self.count_between(before_ms, ms)
        };
        self.counted.set((ms, count));
        count
    }

    fn count_between(&self, from_ms: u64, to_ms: u64) -> usize {
        let bound = |ms| (EventId::new(ms, 0), LOWEST_NAME.clone());
        self.entries.range(bound(from_ms)..bound(to_ms)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(ms: u64) -> EventId {
        EventId::new(ms, 7)
    }

    #[test]
    fn the_count_of_old_entries_follows_the_time_and_the_changes() {
        let (mut order, a): (_, Channel) = (IdOrder::default(), "a".parse().unwrap());
        let b: Channel = "b".parse().unwrap();
        order.replace(&a, None, Some(id(5)));
        order.replace(&b, None, Some(id(5)));
        let counts = [4, 5, 6, 9, 5, 6].map(|ms| order.count_before(ms));
        assert_eq!(counts, [0, 0, 2, 2, 0, 2]);
        order.replace(&a, Some(id(5)), Some(id(8)));
        assert_eq!(order.count_before(6), 1);
        order.replace(&b, Some(id(4)), Some(id(3)));
        assert_eq!(
            order.count_before(6),
            2,
            "an id that is not there is not removed"
        );
        order.replace(&b, Some(id(3)), None);
        order.replace(&b, Some(id(5)), None);
        assert_eq!((order.count_before(6), order.count_before(9)), (0, 1));
    }

    #[test]
    fn no_channel_name_is_before_the_lowest_one() {
        let allowed = (0..=u8::MAX).filter_map(|byte| char::from(byte).to_string().parse().ok());
        let names: Vec<Channel> = allowed.collect();
        assert_eq!(names.iter().min(), Some(&*LOWEST_NAME));
    }
}
