//! The channels as a batch has them: those of the last commit, with the changes of the batch on
//! top.
//!
//! ```text
//! committed   a: 1-0…5-0   b: 2-0…4-0      as of the last commit
//! changed     a: 1-0…6-0   b: removed      this batch, not on disk yet
//! row(a) = 1-0…6-0         row(b) = None   what the batch works on
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    mem,
    sync::Arc,
};

use sse_proto::{Channel, EventId};

use super::{
    committed_channels::{Channels, oldest_event},
    record::ChannelRow,
    staged_order::StagedOrder,
};
use crate::broker::lifecycle::{ChannelLife, Tombstone};

/// Changes by channel. `None` removes an entry.
pub(super) type Changes<V> = HashMap<Channel, Option<V>>;

/// All changes of channels in one batch.
#[derive(Debug, Default)]
pub(super) struct ChannelChanges {
    pub(super) rows: Changes<ChannelRow>,
    /// The last ids of forgotten channels.
    pub(super) last_ids: Changes<EventId>,
    pub(super) lives: Changes<Arc<ChannelLife>>,
    pub(super) tombstones: Changes<Tombstone>,
    /// Whether a deleted channel, by its number, has events left in the file.
    pub(super) deleted: BTreeMap<u32, bool>,
}

/// The channels within a transaction.
#[derive(Debug)]
pub(super) struct StagedChannels<'a> {
    committed: &'a Channels,
    changed: ChannelChanges,
    count: usize,
    forgotten_count: usize,
    tombstone_count: usize,
    idle: StagedOrder<'a>,
    with_events: StagedOrder<'a>,
    noted: StagedOrder<'a>,
    buried: StagedOrder<'a>,
}

impl<'a> StagedChannels<'a> {
    pub(super) fn new(committed: &'a Channels) -> Self {
        Self {
            committed,
            changed: ChannelChanges::default(),
            count: committed.rows().len(),
            forgotten_count: committed.forgotten().len(),
            tombstone_count: committed.tombstones().len(),
            idle: StagedOrder::new(committed.idle()),
            with_events: StagedOrder::new(committed.with_events()),
            noted: StagedOrder::new(committed.noted()),
            buried: StagedOrder::new(committed.buried()),
        }
    }

    /// Takes all changes, at the end of the batch.
    pub(super) fn take_changes(&mut self) -> ChannelChanges {
        mem::take(&mut self.changed)
    }

    /// Returns the life of `channel`.
    pub(super) fn life(&self, channel: &Channel) -> Option<&Arc<ChannelLife>> {
        match self.changed.lives.get(channel) {
            Some(changed) => changed.as_ref(),
            None => self.committed.lives().get(channel),
        }
    }

    /// Sets the life of `channel`.
    pub(super) fn set_life(&mut self, channel: &Channel, life: ChannelLife) {
        let life = (!life.is_default()).then(|| Arc::new(life));
        if life.is_some() || self.life(channel).is_some() {
            self.changed.lives.insert(channel.clone(), life);
        }
    }

    /// Returns the tombstone of `channel`.
    pub(super) fn tombstone(&self, channel: &Channel) -> Option<Tombstone> {
        get_staged(
            self.committed.tombstones(),
            &self.changed.tombstones,
            channel,
        )
    }

    /// Sets the tombstone of `channel`; `None` drops it.
    pub(super) fn set_tombstone(&mut self, channel: &Channel, tombstone: Option<Tombstone>) {
        let old = self.tombstone(channel);
        self.tombstone_count =
            self.tombstone_count + usize::from(tombstone.is_some()) - usize::from(old.is_some());
        let id = |tombstone: Option<Tombstone>| tombstone.map(|tombstone| tombstone.at);
        self.buried.replace(channel, id(old), id(tombstone));
        self.changed.tombstones.insert(channel.clone(), tombstone);
    }

    /// Returns the number of tombstones.
    pub(super) const fn tombstone_count(&self) -> usize {
        self.tombstone_count
    }

    /// Returns the oldest tombstone.
    pub(super) fn oldest_tombstone(&mut self) -> Option<(EventId, Channel)> {
        let changed = &self.changed.tombstones;
        self.buried.first(|channel| changed.contains_key(channel))
    }

    /// Notes whether a deleted channel has events left in the file.
    pub(super) fn set_deleted(&mut self, number: u32, has_events: bool) {
        self.changed.deleted.insert(number, has_events);
    }

    /// Returns a deleted channel that has events left in the file.
    pub(super) fn first_deleted(&self) -> Option<u32> {
        let changed = &self.changed.deleted;
        let committed = self.committed.deleted().iter();
        let mut unchanged = committed.filter(|number| !changed.contains_key(number));
        let added = changed.iter().filter(|(_, is_left)| **is_left);
        unchanged
            .next()
            .or_else(|| added.map(|(number, _)| number).next())
            .copied()
    }

    /// Returns the row of `channel`, or `None` if the channel does not exist.
    pub(super) fn row(&self, channel: &Channel) -> Option<ChannelRow> {
        get_staged(self.committed.rows(), &self.changed.rows, channel)
    }

    /// Returns the rows of all channels.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Channel, ChannelRow)> {
        iter_staged(self.committed.rows(), &self.changed.rows)
    }

    /// Returns the number of channels.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Sets the row of `channel`; `None` removes it.
    pub(super) fn set_row(&mut self, channel: &Channel, row: Option<ChannelRow>) {
        let old = self.row(channel);
        self.count = self.count + usize::from(row.is_some()) - usize::from(old.is_some());
        let (old, new) = (old.and_then(oldest_event), row.and_then(oldest_event));
        self.with_events.replace(channel, old, new);
        self.changed.rows.insert(channel.clone(), row);
    }

    /// Returns the channel that has the oldest event of all.
    pub(super) fn with_oldest_event(&mut self) -> Option<Channel> {
        let changed = &self.changed.rows;
        let first = self
            .with_events
            .first(|channel| changed.contains_key(channel));
        first.map(|(_, channel)| channel)
    }

    /// Returns the channel that is idle the longest.
    ///
    /// A channel is idle if its last id is older than `cutoff_ms` and it has no keys. A channel
    /// that this batch has changed is not idle.
    pub(super) fn idlest(&mut self, cutoff_ms: u64) -> Option<(Channel, ChannelRow)> {
        let changed = &self.changed.rows;
        let (last, channel) = self
            .idle
            .first_unchanged(|channel| changed.contains_key(channel))?;
        let row = self.row(channel)?;
        (last.ms < cutoff_ms).then(|| (channel.clone(), row))
    }

    /// Whether `needed` channels are idle.
    pub(super) fn has_idle(&self, needed: usize, cutoff_ms: u64) -> bool {
        // Counted each time, so that no call has many channels to count.
        let idle = self.committed.idle().count_before(cutoff_ms);
        // Channels that this batch has changed do not count. The bound saves looking them up.
        idle >= needed + self.changed.rows.len()
            || idle >= needed + self.count_changed_idle(cutoff_ms)
    }

    /// Counts the channels that were idle, and that this batch has changed.
    fn count_changed_idle(&self, cutoff_ms: u64) -> usize {
        let was_idle = |channel: &&Channel| {
            let last = self.committed.rows().get(*channel).map(|row| row.last);
            let last = last.filter(|last| last.ms < cutoff_ms);
            last.is_some_and(|last| self.committed.idle().contains(channel, last))
        };
        self.changed.rows.keys().filter(was_idle).count()
    }

    /// Returns the last id of a forgotten channel.
    pub(super) fn last_id(&self, channel: &Channel) -> Option<EventId> {
        get_staged(self.committed.forgotten(), &self.changed.last_ids, channel)
    }

    /// Sets the last id of a forgotten channel; `None` drops it.
    pub(super) fn set_last_id(&mut self, channel: &Channel, last: Option<EventId>) {
        let old = self.last_id(channel);
        self.forgotten_count =
            self.forgotten_count + usize::from(last.is_some()) - usize::from(old.is_some());
        self.noted.replace(channel, old, last);
        self.changed.last_ids.insert(channel.clone(), last);
    }

    /// Returns the number of forgotten channels whose last id is known.
    pub(super) const fn forgotten_count(&self) -> usize {
        self.forgotten_count
    }

    /// Returns the oldest last id of a forgotten channel.
    pub(super) fn oldest_last_id(&mut self) -> Option<(EventId, Channel)> {
        let changed = &self.changed.last_ids;
        self.noted.first(|channel| changed.contains_key(channel))
    }
}

/// Looks up an entry in `changed`, and in `committed` if it did not change.
fn get_staged<K: Eq + Hash, V: Copy>(
    committed: &HashMap<K, V>,
    changed: &HashMap<K, Option<V>>,
    key: &K,
) -> Option<V> {
    match changed.get(key) {
        Some(changed) => *changed,
        None => committed.get(key).copied(),
    }
}

/// Returns the entries of `committed` with the changes of `changed`.
fn iter_staged<'m, K: Eq + Hash, V: Copy>(
    committed: &'m HashMap<K, V>,
    changed: &'m HashMap<K, Option<V>>,
) -> impl Iterator<Item = (&'m K, V)> {
    let unchanged = committed
        .iter()
        .filter(|(key, _)| !changed.contains_key(*key))
        .map(|(key, value)| (key, *value));
    let changed = changed
        .iter()
        .filter_map(|(key, value)| value.map(|value| (key, value)));
    unchanged.chain(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_hides_the_committed_entry() {
        let committed = HashMap::from([("kept", 1), ("changed", 2), ("removed", 3)]);
        let changed = HashMap::from([("changed", Some(20)), ("removed", None), ("new", Some(4))]);
        let mut all: Vec<_> = iter_staged(&committed, &changed)
            .map(|(key, value)| (*key, value))
            .collect();
        all.sort_unstable();
        assert_eq!(all, [("changed", 20), ("kept", 1), ("new", 4)]);
        for (key, value) in &all {
            assert_eq!(get_staged(&committed, &changed, key), Some(*value));
        }
        assert_eq!(get_staged(&committed, &changed, &"removed"), None);
    }
}
