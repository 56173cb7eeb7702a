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
    mem,
    sync::Arc,
};

use sse_proto::{Channel, EventId};

use super::{
    committed_channels::Channels,
    record::ChannelRow,
    staged_order::{StagedEntries, StagedOrder, Unchanged},
};
use crate::broker::{
    channel_index::earliest,
    lifecycle::{ChannelLife, Tombstone},
};

/// Changes by channel. `None` removes an entry.
pub(super) type Changes<V> = HashMap<Channel, Option<V>>;

/// A change of the time from which a channel may be due.
#[derive(Debug, Clone, Copy)]
pub(super) enum DueChange {
    /// The channel may be due at this time. An earlier time stays.
    AtLatest(u64),
    /// The channel was examined and is not due before this time; `None` if it cannot be due.
    Set(Option<u64>),
}

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
    /// From when channels may expire, in the order of the changes.
    pub(super) due: Vec<(Channel, DueChange)>,
    /// From when channels may have events to trim, in the order of the changes.
    pub(super) trims: Vec<(Channel, DueChange)>,
}

/// The channels within a transaction.
#[derive(Debug)]
pub(super) struct StagedChannels<'a> {
    committed: &'a Channels,
    changed: ChannelChanges,
    count: usize,
    forgotten_count: usize,
    tombstone_count: usize,
    empty: Unchanged<'a>,
    single: Unchanged<'a>,
    busy: Unchanged<'a>,
    /// The changed channels by their oldest event.
    with_events: StagedEntries,
    noted: StagedOrder<'a>,
    buried: StagedOrder<'a>,
}

impl<'a> StagedChannels<'a> {
    pub(super) fn new(committed: &'a Channels) -> Self {
        let orders = committed.orders();
        Self {
            committed,
            changed: ChannelChanges::default(),
            count: committed.count(),
            forgotten_count: committed.forgotten().len(),
            tombstone_count: committed.tombstones().len(),
            empty: Unchanged::new(&orders.empty),
            single: Unchanged::new(&orders.single),
            busy: Unchanged::new(&orders.busy),
            with_events: StagedEntries::default(),
            noted: StagedOrder::new(committed.forgotten().order()),
            buried: StagedOrder::new(committed.tombstones().order()),
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
            None => self.committed.life(channel),
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
        match self.changed.tombstones.get(channel) {
            Some(changed) => *changed,
            None => self.committed.tombstones().get(channel),
        }
    }

    /// Sets the tombstone of `channel`; `None` drops it.
    pub(super) fn set_tombstone(&mut self, channel: &Channel, tombstone: Option<Tombstone>) {
        let old = self.tombstone(channel);
        self.tombstone_count =
            self.tombstone_count + usize::from(tombstone.is_some()) - usize::from(old.is_some());
        let ms = |tombstone: Option<Tombstone>| tombstone.map(|tombstone| tombstone.at.ms);
        self.buried.replace(channel, ms(old), ms(tombstone));
        self.changed.tombstones.insert(channel.clone(), tombstone);
    }

    /// Returns the number of tombstones.
    pub(super) const fn tombstone_count(&self) -> usize {
        self.tombstone_count
    }

    /// Returns the oldest tombstone.
    pub(super) fn oldest_tombstone(&mut self) -> Option<(Channel, Tombstone)> {
        let (committed, changed) = (self.committed, &self.changed.tombstones);
        let channel = self.buried.first(
            |slot| committed.tombstones().name(slot),
            |channel| changed.contains_key(channel),
        )?;
        let tombstone = self.tombstone(&channel)?;
        Some((channel, tombstone))
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
        match self.changed.rows.get(channel) {
            Some(changed) => *changed,
            None => self.committed.row(channel),
        }
    }

    /// Returns the number of channels.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Returns the numbers that must not be given to a new channel.
    pub(super) fn used_numbers(&self) -> impl Iterator<Item = u32> {
        let rows = self.changed.rows.values().flatten();
        let changed = rows.map(|row| row.number);
        let deleted = self.changed.deleted.keys().copied();
        self.committed.used_numbers().chain(changed).chain(deleted)
    }

    /// Sets the row of `channel`; `None` removes it.
    pub(super) fn set_row(&mut self, channel: &Channel, row: Option<ChannelRow>) {
        let old = self.row(channel);
        self.count = self.count + usize::from(row.is_some()) - usize::from(old.is_some());
        let (old, new) = (old.and_then(oldest_ms), row.and_then(oldest_ms));
        self.with_events.replace(channel, old, new);
        self.changed.rows.insert(channel.clone(), row);
    }

    /// Returns the channel that has the oldest event of all.
    pub(super) fn with_oldest_event(&mut self) -> Option<Channel> {
        let (committed, changed) = (self.committed, &self.changed.rows);
        let name = |slot| committed.name(slot);
        let is_changed = |channel: &Channel| changed.contains_key(channel);
        let single = self.single.first(name, is_changed);
        let busy = self.busy.first(name, is_changed);
        self.with_events.first_with(earliest(single, busy))
    }

    /// Returns the channel that is idle the longest.
    ///
    /// A channel is idle if its last id is older than `cutoff_ms` and it has no keys. A channel
    /// that this batch has changed is not idle.
    pub(super) fn idlest(&mut self, cutoff_ms: u64) -> Option<(Channel, ChannelRow)> {
        let (committed, changed) = (self.committed, &self.changed.rows);
        let name = |slot| committed.name(slot);
        let is_changed = |channel: &Channel| changed.contains_key(channel);
        let empty = self.empty.first(name, is_changed);
        let single = self.single.first(name, is_changed);
        let (ms, channel) = earliest(empty, single)?;
        let row = self.row(channel)?;
        (ms < cutoff_ms).then(|| (channel.clone(), row))
    }

    /// Records that `channel` may expire from a time on.
    pub(super) fn change_due(&mut self, channel: &Channel, change: DueChange) {
        self.changed.due.push((channel.clone(), change));
    }

    /// Records that `channel` may have events to trim from a time on.
    pub(super) fn change_trim(&mut self, channel: &Channel, change: DueChange) {
        self.changed.trims.push((channel.clone(), change));
    }

    /// Returns up to `count_max` channels that may have events to trim, as of the last commit, and
    /// whether there are more.
    pub(super) fn due_for_trimming(&self, log_ms: u64, count_max: usize) -> (Vec<Channel>, bool) {
        let mut due = self.committed.trims().due(log_ms);
        let slots = due.by_ref().take(count_max);
        let names = slots.filter_map(|slot| self.committed.name(slot).cloned());
        (names.collect(), due.next().is_some())
    }

    /// Whether `needed` channels are idle.
    pub(super) fn has_idle(&self, needed: usize, cutoff_ms: u64) -> bool {
        // Counted each time, so that no call has many channels to count.
        let idle = self.committed.orders().count_idle_before(cutoff_ms);
        // Channels that this batch has changed do not count. The bound saves looking them up.
        idle >= needed + self.changed.rows.len()
            || idle >= needed + self.count_changed_idle(cutoff_ms)
    }

    /// Counts the channels that were idle, and that this batch has changed.
    fn count_changed_idle(&self, cutoff_ms: u64) -> usize {
        let was_idle = |channel: &&Channel| {
            let last = self.committed.row(channel).map(|row| row.last);
            let last = last.filter(|last| last.ms < cutoff_ms);
            last.is_some_and(|last| self.committed.is_idle_since(channel, last))
        };
        self.changed.rows.keys().filter(was_idle).count()
    }

    /// Returns the last id of a forgotten channel.
    pub(super) fn last_id(&self, channel: &Channel) -> Option<EventId> {
        match self.changed.last_ids.get(channel) {
            Some(changed) => *changed,
            None => self.committed.forgotten().get(channel),
        }
    }

    /// Sets the last id of a forgotten channel; `None` drops it.
    pub(super) fn set_last_id(&mut self, channel: &Channel, last: Option<EventId>) {
        let old = self.last_id(channel);
        self.forgotten_count =
            self.forgotten_count + usize::from(last.is_some()) - usize::from(old.is_some());
        let ms = |id: Option<EventId>| id.map(|id| id.ms);
        self.noted.replace(channel, ms(old), ms(last));
        self.changed.last_ids.insert(channel.clone(), last);
    }

    /// Returns the number of forgotten channels whose last id is known.
    pub(super) const fn forgotten_count(&self) -> usize {
        self.forgotten_count
    }

    /// Returns the forgotten channel with the oldest last id, and that id.
    pub(super) fn oldest_last_id(&mut self) -> Option<(Channel, EventId)> {
        let (committed, changed) = (self.committed, &self.changed.last_ids);
        let channel = self.noted.first(
            |slot| committed.forgotten().name(slot),
            |channel| changed.contains_key(channel),
        )?;
        let last = self.last_id(&channel)?;
        Some((channel, last))
    }
}

/// The time of the oldest event of a channel.
fn oldest_ms(row: ChannelRow) -> Option<u64> {
    (row.count > 0).then_some(row.oldest.ms)
}
