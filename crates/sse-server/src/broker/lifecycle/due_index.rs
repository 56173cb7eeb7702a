//! The index of channels that may be due.
//!
//! An entry is a lower bound: a write moves the due time of a channel further, and leaves the entry.
//! A channel that comes up is checked, and expires or is indexed again. A channel has one entry at
//! most, however often its settings change.

use std::collections::{BTreeSet, HashMap};

use sse_proto::Channel;

/// Channels in the order of the time from which they may be due.
#[derive(Debug, Default)]
pub(in crate::broker) struct DueIndex {
    by_time: BTreeSet<(u64, Channel)>,
    times: HashMap<Channel, u64>,
}

impl DueIndex {
    /// Adds a channel that is not due before `due_ms`. An earlier bound stays.
    pub(in crate::broker) fn add(&mut self, channel: &Channel, due_ms: u64) {
        if self
            .times
            .get(channel)
            .is_some_and(|known| *known <= due_ms)
        {
            return;
        }
        self.remove(channel);
        self.times.insert(channel.clone(), due_ms);
        self.by_time.insert((due_ms, channel.clone()));
    }

    /// Removes a channel that does not exist any more.
    pub(in crate::broker) fn remove(&mut self, channel: &Channel) {
        if let Some(due_ms) = self.times.remove(channel) {
            self.by_time.remove(&(due_ms, channel.clone()));
        }
    }

    /// Whether no channel can be due.
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }

    /// Removes and returns a channel that may be due at `log_ms`.
    pub(in crate::broker) fn pop(&mut self, log_ms: u64) -> Option<Channel> {
        if self.by_time.first()?.0 > log_ms {
            return None;
        }
        let (_, channel) = self.by_time.pop_first()?;
        self.times.remove(&channel);
        Some(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_one_entry_with_its_earliest_time() {
        let [a, b]: [Channel; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let mut index = DueIndex::default();
        for due_ms in [30, u64::MAX, 10, 20] {
            index.add(&a, due_ms);
        }
        index.add(&b, u64::MAX);
        assert_eq!((index.by_time.len(), index.times.len()), (2, 2));
        assert_eq!((index.pop(9), index.pop(10)), (None, Some(a.clone())));
        index.add(&a, 5);
        index.remove(&a);
        assert_eq!(index.pop(u64::MAX), Some(b));
        assert!(index.is_empty() && index.times.is_empty());
    }
}
