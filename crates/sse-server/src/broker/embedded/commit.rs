//! One commit's worth of work: appends and trims, staged in a transaction and in a copy of the state beside it.
//!
//! The state in memory changes only after the transaction is on disk: a [`CommitBatch`] collects the changes as a
//! [`CommittedChange`], which the writer applies then, or throws away.

use std::collections::HashMap;

use redb::{ReadableTable, Table, WriteTransaction};
use sse_proto::{Channel, EventId};

use super::{
    keys::{KeyCount, Keys},
    record::{ChannelRow, Key, LogHeader, encode_event, encode_forgotten, id_of, key},
    store::{CHANNELS, EVENTS, FORGOTTEN, NUMBERS, StoreError},
};
use crate::broker::{
    Appended, BrokerError, Retention,
    clock::Clock,
    idempotency::{AppendItem, AppendOutcome, Disposition, dispositions},
};

/// What the writer knows of the log: the same as its tables, as of the last commit.
#[derive(Debug)]
pub(super) struct CommittedState {
    pub(super) rows: HashMap<Channel, ChannelRow>,
    pub(super) clock: Clock,
    /// The keys of channels, by the channel's number; none where there are no keys.
    pub(super) key_counts: HashMap<u32, KeyCount>,
    /// The number for the next new channel.
    pub(super) next_number: u32,
    /// The last ids of channels that were forgotten: where they begin if they come again.
    pub(super) forgotten: HashMap<Channel, EventId>,
    /// Where all other new channels begin: after every channel whose last id is no longer known.
    pub(super) origin: EventId,
    /// Bytes of all events.
    pub(super) bytes: u64,
}

/// What a committed group changed.
#[derive(Debug)]
pub(super) struct CommittedChange {
    rows: HashMap<Channel, Option<ChannelRow>>,
    key_counts: HashMap<u32, KeyCount>,
    /// Channels that are forgotten now, and those that no longer are.
    forgotten: HashMap<Channel, Option<EventId>>,
    clock: Clock,
    next_number: u32,
    origin: EventId,
    bytes: u64,
    /// The group left trimming undone, because it had done enough for one commit.
    pub(super) more_to_trim: bool,
}

impl CommittedState {
    /// Takes over what is now on disk.
    pub(super) fn apply(&mut self, change: CommittedChange) {
        for (channel, row) in change.rows {
            match row {
                Some(row) => drop(self.rows.insert(channel, row)),
                None => drop(self.rows.remove(&channel)),
            }
        }
        for (number, key_count) in change.key_counts {
            match key_count.count {
                0 => drop(self.key_counts.remove(&number)),
                _ => drop(self.key_counts.insert(number, key_count)),
            }
        }
        for (channel, last) in change.forgotten {
            match last {
                Some(last) => drop(self.forgotten.insert(channel, last)),
                None => drop(self.forgotten.remove(&channel)),
            }
        }
        self.clock = change.clock;
        self.next_number = change.next_number;
        self.origin = change.origin;
        self.bytes = change.bytes;
    }
}

impl CommittedChange {
    /// The channels whose last id changed, with it; none for those of which nothing is known any more.
    pub(super) fn last_ids(&self) -> impl Iterator<Item = (&Channel, Option<EventId>)> {
        let kept = self
            .rows
            .iter()
            .filter_map(|(channel, row)| row.map(|row| (channel, Some(row.last))));
        let forgotten = self
            .forgotten
            .iter()
            .filter(|(channel, _)| !self.rows.get(*channel).is_some_and(Option::is_some));
        kept.chain(forgotten.map(|(channel, last)| (channel, *last)))
    }

    /// The highest id given out or passed.
    pub(super) const fn highest(&self) -> EventId {
        self.clock.highest()
    }

    /// Where new channels begin from now on.
    pub(super) const fn origin(&self) -> EventId {
        self.origin
    }
}

/// A transaction being filled.
pub(super) struct CommitBatch<'a> {
    state: &'a CommittedState,
    change: CommittedChange,
    retention: &'a Retention,
    now_ms: u64,
    events: Table<'a, Key, &'static [u8]>,
    channels: Table<'a, &'static str, &'static [u8]>,
    forgotten: Table<'a, &'static str, &'static [u8]>,
    numbers: Table<'a, &'static str, &'static [u8]>,
    keys: Keys<'a>,
    record: Vec<u8>,
    /// How many events this commit may still remove.
    trims_left: u64,
}

impl<'a> CommitBatch<'a> {
    /// An empty group. It may trim twice what it appends, and `trims_max` more.
    pub(super) fn open(
        transaction: &'a WriteTransaction,
        state: &'a CommittedState,
        retention: &'a Retention,
        now_ms: u64,
        trims_max: u64,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            state,
            change: CommittedChange {
                rows: HashMap::new(),
                key_counts: HashMap::new(),
                forgotten: HashMap::new(),
                clock: state.clock,
                next_number: state.next_number,
                origin: state.origin,
                bytes: state.bytes,
                more_to_trim: false,
            },
            retention,
            now_ms,
            events: transaction.open_table(EVENTS)?,
            channels: transaction.open_table(CHANNELS)?,
            forgotten: transaction.open_table(FORGOTTEN)?,
            numbers: transaction.open_table(NUMBERS)?,
            keys: Keys::new(transaction, retention.keys, &state.key_counts),
            record: Vec::new(),
            trims_left: trims_max,
        })
    }

    /// Appends to a channel the parts that it does not have yet. The inner error refuses all parts, and leaves the group
    /// as it was. Where there is no `room` for events, parts that are known are told all the same.
    pub(super) fn append(
        &mut self,
        channel: &Channel,
        items: &[AppendItem],
        room: &Result<(), BrokerError>,
    ) -> Result<Result<Vec<AppendOutcome>, BrokerError>, StoreError> {
        let row = self.row(channel);
        let plans = match self.plan(row, items) {
            Ok(Ok(plans)) => plans,
            Ok(Err(refused)) => return Ok(Err(refused)),
            // Only of this key: the group can go on.
            Err(StoreError::Damaged(what)) => {
                return Ok(Err(BrokerError::Damaged(format!(
                    "channel {channel}: {what}"
                ))));
            }
            Err(error) => return Err(error),
        };
        let before = |plan: &Disposition| match plan {
            Disposition::Duplicate(ids) => Some(AppendOutcome {
                ids: *ids,
                duplicate: true,
            }),
            Disposition::New | Disposition::SameAs(_) => None,
        };
        if let Some(placed) = plans.iter().map(before).collect() {
            return Ok(Ok(placed)); // there is nothing to add
        }
        if let Err(full) = room {
            return Ok(Err(full.clone()));
        }
        let mut row = match row {
            Some(row) => row,
            None => match self.create_channel(channel)? {
                Ok(row) => row,
                Err(refused) => return Ok(Err(refused)),
            },
        };
        let mut placed: Vec<AppendOutcome> = Vec::with_capacity(items.len());
        for (item, plan) in items.iter().zip(plans) {
            placed.push(match plan {
                Disposition::New => AppendOutcome {
                    ids: self.add(&mut row, item)?,
                    duplicate: false,
                },
                Disposition::Duplicate(ids) => AppendOutcome {
                    ids,
                    duplicate: true,
                },
                Disposition::SameAs(nth) => AppendOutcome {
                    duplicate: true,
                    ..placed[nth]
                },
            });
        }
        self.change.rows.insert(channel.clone(), Some(row));
        let over = row
            .count
            .saturating_sub(self.retention.events_max.get() as u64);
        if over > 0 {
            self.trim(channel, over)?;
        }
        Ok(Ok(placed))
    }

    /// Decides what is to be done with parts, and sees that there is room for their keys.
    fn plan(
        &mut self,
        row: Option<ChannelRow>,
        items: &[AppendItem],
    ) -> Result<Result<Vec<Disposition>, BrokerError>, StoreError> {
        let now_ms = self.log_ms();
        let planned = dispositions(items, |key| match row {
            Some(row) => self.keys.look(row.number, key, now_ms),
            None => Ok(None),
        })?;
        let Ok(plans) = planned else {
            return Ok(planned);
        };
        let is_new = |(item, plan): &(&AppendItem, &Disposition)| {
            item.idempotency.is_some() && **plan == Disposition::New
        };
        let wanted = items.iter().zip(&plans).filter(is_new).count() as u64;
        if wanted > 0 {
            // A channel that has no row yet has no keys, under any number.
            let number = row.map_or(self.change.next_number, |row| row.number);
            if let Err(refused) = self.keys.make_room(number, wanted, now_ms)? {
                return Ok(Err(refused));
            }
        }
        Ok(Ok(plans))
    }

    /// Adds the events of a part to the end of a channel, and keeps its key.
    fn add(&mut self, row: &mut ChannelRow, item: &AppendItem) -> Result<Appended, StoreError> {
        let mut first = None;
        for event in &item.events {
            let id = self.change.clock.next(self.now_ms);
            let key = key(row.number, id);
            encode_event(
                &mut self.record,
                key,
                row.last,
                event.kind.as_str(),
                &event.data,
            );
            self.events.insert(key, self.record.as_slice())?;
            let bytes = record_bytes(self.record.len());
            if row.count == 0 {
                row.oldest = id;
            }
            row.last = id;
            row.count += 1;
            row.bytes += bytes;
            self.change.bytes += bytes;
            self.trims_left += 2;
            first.get_or_insert(id);
        }
        let ids = Appended {
            first: first.unwrap_or(row.last),
            last: row.last,
        };
        if let Some(idempotency) = item.idempotency {
            self.keys
                .remember(row.number, idempotency, ids, self.log_ms())?;
        }
        Ok(ids)
    }

    /// The log's clock: it never goes back.
    fn log_ms(&self) -> u64 {
        self.now_ms.max(self.change.clock.highest().ms)
    }

    /// Lets the clock go past `bound`, if it is time.
    pub(super) fn pass(&mut self, bound: EventId) {
        self.change.clock.pass(bound, self.now_ms);
    }

    /// A row for a new channel, if there is room for one more.
    fn create_channel(
        &mut self,
        new: &Channel,
    ) -> Result<Result<ChannelRow, BrokerError>, StoreError> {
        let channels = self.all_rows().count();
        if channels >= self.retention.channels_max {
            let cutoff = self.cutoff_ms();
            let dead = self
                .all_rows()
                // While it has keys a publish may be sent again, and must find its channel.
                .filter(|(_, row)| {
                    row.last.ms < cutoff && row.count <= 1 && !self.keys.any(row.number)
                })
                .min_by_key(|(_, row)| row.last)
                .map(|(channel, row)| (channel.clone(), row));
            let Some((channel, row)) = dead else {
                return Ok(Err(BrokerError::Full(format!(
                    "there are {channels} channels already, which is the limit (--channels-max), and all have recent \
                     events"
                ))));
            };
            self.forget(&channel, row)?;
        }
        let origin = match self.last_forgotten(new) {
            Some(last) => {
                self.change.forgotten.insert(new.clone(), None);
                last
            }
            None => self.change.origin,
        };
        let row = ChannelRow::new(self.change.next_number, origin);
        self.change.next_number += 1;
        Ok(Ok(row))
    }

    /// Removes a channel whose events are all too old. Whoever comes back to it with an id is told of a gap.
    fn forget(&mut self, channel: &Channel, row: ChannelRow) -> Result<(), StoreError> {
        self.trims_left += row.count;
        self.trim(channel, row.count)?;
        self.channels.remove(channel.as_str())?;
        self.change.rows.insert(channel.clone(), None);
        self.change
            .forgotten
            .insert(channel.clone(), Some(row.last));
        // As many as there may be channels; beyond that, of the one that is quiet for longest nothing is known any more.
        let all: Vec<(Channel, EventId)> = self
            .all_forgotten()
            .map(|(channel, last)| (channel.clone(), last))
            .collect();
        if all.len() > self.retention.channels_max
            && let Some((oldest, last)) = all.into_iter().min_by_key(|(_, last)| *last)
        {
            self.change.forgotten.insert(oldest, None);
            self.change.origin = self.change.origin.max(last);
        }
        Ok(())
    }

    fn last_forgotten(&self, channel: &Channel) -> Option<EventId> {
        match self.change.forgotten.get(channel) {
            Some(changed) => *changed,
            None => self.state.forgotten.get(channel).copied(),
        }
    }

    fn all_forgotten(&self) -> impl Iterator<Item = (&Channel, EventId)> {
        let unchanged = self
            .state
            .forgotten
            .iter()
            .filter(|(channel, _)| !self.change.forgotten.contains_key(*channel));
        let changed = self
            .change
            .forgotten
            .iter()
            .filter_map(|(channel, last)| last.map(|last| (channel, last)));
        unchanged
            .map(|(channel, last)| (channel, *last))
            .chain(changed)
    }

    /// Trims by count, by age and by total bytes, and forgets expired keys, as far as this commit may.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        self.change.more_to_trim |= self.keys.sweep(self.log_ms())?;
        let events_max = self.retention.events_max.get() as u64;
        let over: Vec<(Channel, u64)> = self
            .all_rows()
            .filter(|(_, row)| row.count > events_max)
            .map(|(channel, row)| (channel.clone(), row.count - events_max))
            .collect();
        for (channel, excess) in over {
            self.trim(&channel, excess)?;
        }
        let cutoff = self.cutoff_ms();
        let aged: Vec<Channel> = self
            .all_rows()
            .filter(|(_, row)| row.count > 1 && row.oldest.ms < cutoff)
            .map(|(channel, _)| channel.clone())
            .collect();
        for channel in aged {
            self.trim_aged(&channel, cutoff)?;
        }
        while self.change.bytes > self.retention.bytes_max {
            let fullest = self
                .all_rows()
                .filter(|(_, row)| row.count > 0)
                .min_by_key(|(_, row)| row.oldest);
            let Some(channel) = fullest.map(|(channel, _)| channel.clone()) else {
                break;
            };
            if self.trim(&channel, 64)? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn trim_aged(&mut self, channel: &Channel, cutoff_ms: u64) -> Result<(), StoreError> {
        while let Some(row) = self.row(channel)
            && row.oldest.ms < cutoff_ms
            && row.count > 1
        {
            // Ids tell the age, so count how many of the oldest are too old; the last one stays.
            let range = key(row.number, row.oldest)
                ..key(row.number, EventId::new(cutoff_ms, 0).min(row.last));
            let aged = self.events.range(range)?.take(1024).count() as u64;
            if self.trim(channel, aged)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Removes up to `wanted` of the oldest events of a channel; returns how many.
    fn trim(&mut self, channel: &Channel, wanted: u64) -> Result<u64, StoreError> {
        let Some(mut row) = self.row(channel) else {
            return Ok(0);
        };
        let allowed = wanted.min(self.trims_left).min(row.count);
        self.change.more_to_trim |= allowed < wanted.min(row.count);
        let range = key(row.number, row.oldest)..=key(row.number, row.last);
        let mut removed: Vec<(Key, u64)> = Vec::new();
        row.oldest = EventId::ZERO;
        for entry in self.events.range(range)? {
            let (entry_key, record) = entry?;
            if removed.len() as u64 == allowed {
                row.oldest = id_of(entry_key.value());
                break;
            }
            removed.push((entry_key.value(), record_bytes(record.value().len())));
        }
        for (entry_key, bytes) in &removed {
            self.events.remove(*entry_key)?;
            row.trimmed = row.trimmed.max(id_of(*entry_key));
            row.count = row.count.saturating_sub(1);
            row.bytes = row.bytes.saturating_sub(*bytes);
            self.change.bytes = self.change.bytes.saturating_sub(*bytes);
        }
        self.trims_left -= removed.len() as u64;
        self.change.rows.insert(channel.clone(), Some(row));
        Ok(removed.len() as u64)
    }

    /// Writes what changed beside the events. Nothing of the group is on disk before the transaction commits.
    pub(super) fn finish(mut self) -> Result<CommittedChange, StoreError> {
        for (channel, row) in &self.change.rows {
            if let Some(row) = row {
                self.channels
                    .insert(channel.as_str(), row.encode(channel.as_str()).as_slice())?;
            }
        }
        for (channel, last) in &self.change.forgotten {
            match last {
                Some(last) => {
                    let row = encode_forgotten(channel.as_str(), *last);
                    drop(self.forgotten.insert(channel.as_str(), row.as_slice())?);
                }
                None => drop(self.forgotten.remove(channel.as_str())?),
            }
        }
        let numbers = LogHeader {
            highest: self.change.clock.highest(),
            origin: self.change.origin,
            next_number: self.change.next_number,
        };
        self.numbers
            .insert(LogHeader::KEY, numbers.encode().as_slice())?;
        self.change.key_counts = self.keys.finish()?;
        Ok(self.change)
    }

    fn row(&self, channel: &Channel) -> Option<ChannelRow> {
        match self.change.rows.get(channel) {
            Some(changed) => *changed,
            None => self.state.rows.get(channel).copied(),
        }
    }

    fn all_rows(&self) -> impl Iterator<Item = (&Channel, ChannelRow)> {
        let unchanged = self
            .state
            .rows
            .iter()
            .filter(|(channel, _)| !self.change.rows.contains_key(*channel));
        let changed = self
            .change
            .rows
            .iter()
            .filter_map(|(channel, row)| row.map(|row| (channel, row)));
        unchanged
            .map(|(channel, row)| (channel, *row))
            .chain(changed)
    }

    fn cutoff_ms(&self) -> u64 {
        let age_ms = u64::try_from(self.retention.age_max.as_millis()).unwrap_or(u64::MAX);
        self.now_ms.saturating_sub(age_ms)
    }
}

/// What an event counts towards the limit of bytes: its record and its key.
const fn record_bytes(record: usize) -> u64 {
    (record + size_of::<Key>()) as u64
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, time::Duration};

    use proptest::{collection::vec, prelude::*};
    use sse_proto::{Event, Position};

    use super::*;
    use crate::broker::{
        Continuity, PageLimits, ReadFrom,
        embedded::{
            load_state, reader,
            store::{KEYS, Place, Store},
        },
        idempotency::{Fingerprint, IdempotencyKey, KeyLimits},
    };

    /// A log whose clock the test sets, with room for two channels and events of a second.
    struct Log {
        store: Store,
        state: CommittedState,
        retention: Retention,
        /// It cannot be opened again.
        is_damaged: bool,
    }

    impl Log {
        fn new() -> Self {
            let store = Store::open(Place::Memory).unwrap();
            let state = load_state(&store, EventId::ZERO).unwrap();
            let retention = Retention {
                events_max: NonZeroUsize::new(5).unwrap(),
                age_max: Duration::from_secs(1),
                bytes_max: u64::MAX,
                channels_max: 2,
                keys: KeyLimits {
                    window: Duration::from_millis(100),
                    keys_max: 3,
                },
            };
            Self {
                store,
                state,
                retention,
                is_damaged: false,
            }
        }

        /// Appends to a channel and sweeps, in one commit that may trim only `trims_max` events more than it should.
        fn append(
            &mut self,
            channel: &str,
            count: usize,
            now_ms: u64,
            trims_max: u64,
        ) -> Result<bool, BrokerError> {
            let event = Event {
                kind: "click".parse().unwrap(),
                data: "x".into(),
            };
            let item = AppendItem {
                events: vec![event; count],
                idempotency: None,
            };
            let items = if count == 0 { vec![] } else { vec![item] };
            self.append_items(channel, &items, now_ms, trims_max)
                .map(|(_, more_to_trim)| more_to_trim)
        }

        /// The same for parts; returns where they are, too.
        fn append_items(
            &mut self,
            channel: &str,
            items: &[AppendItem],
            now_ms: u64,
            trims_max: u64,
        ) -> Result<(Vec<AppendOutcome>, bool), BrokerError> {
            let (answer, change) = self
                .store
                .write(|transaction| {
                    let mut batch = CommitBatch::open(
                        transaction,
                        &self.state,
                        &self.retention,
                        now_ms,
                        trims_max,
                    )?;
                    let answer = batch.append(&channel.parse().unwrap(), items, &Ok(()))?;
                    batch.sweep()?;
                    Ok((answer, batch.finish()?))
                })
                .unwrap();
            let more_to_trim = change.more_to_trim;
            self.state.apply(change);
            if !self.is_damaged {
                // What is on disk is what is in memory.
                let loaded = load_state(&self.store, self.state.clock.highest()).unwrap();
                assert_eq!(
                    (&loaded.rows, &loaded.forgotten),
                    (&self.state.rows, &self.state.forgotten)
                );
                assert_eq!(
                    (loaded.bytes, loaded.origin),
                    (self.state.bytes, self.state.origin)
                );
                assert_eq!(loaded.key_counts, self.state.key_counts);
            }
            answer.map(|placed| (placed, more_to_trim))
        }

        fn start(&self, channel: &str, after: EventId) -> Continuity {
            let limits = PageLimits {
                events_max: 100,
                bytes_max: 1 << 20,
            };
            let from = ReadFrom::Position(Position::After(after));
            self.store
                .read(|read| reader::page(read, &channel.parse().unwrap(), from, limits))
                .unwrap()
                .start
        }

        fn count(&self, channel: &str) -> u64 {
            self.state
                .rows
                .get(&channel.parse().unwrap())
                .map_or(0, |row| row.count)
        }
    }

    #[test]
    fn a_dead_channel_makes_room_and_comes_back_where_it_ended() {
        let mut log = Log::new();
        log.append("a", 3, 1000, 100).unwrap();
        log.append("b", 3, 1500, 100).unwrap();
        let refused = log.append("c", 1, 1900, 100);
        assert!(matches!(refused, Err(BrokerError::Full(_))), "{refused:?}");
        // The events of `a` are too old now; `c` takes its place.
        log.append("b", 1, 2100, 100).unwrap();
        log.append("c", 1, 2200, 100).unwrap();
        assert_eq!((log.count("a"), log.count("c")), (0, 1));
        let last_of_a = EventId::new(1000, 2);
        assert_eq!(log.start("a", last_of_a), Continuity::Contiguous);
        assert_ne!(
            log.start("a", EventId::new(1000, 1)),
            Continuity::Contiguous
        );
        assert_eq!(log.start("never", EventId::ZERO), Continuity::Contiguous);
        log.append("a", 1, 4000, 100).unwrap();
        assert_eq!(log.start("a", last_of_a), Continuity::Contiguous);
        assert_ne!(log.start("a", EventId::ZERO), Continuity::Contiguous);
    }

    #[test]
    fn of_too_many_forgotten_channels_nothing_is_proved() {
        let mut log = Log::new();
        for (number, channel) in ["a", "b", "c", "d", "e", "f"].iter().enumerate() {
            log.append(channel, 1, 10_000 * (number as u64 + 1), 100)
                .unwrap();
        }
        assert_eq!((log.state.rows.len(), log.state.forgotten.len()), (2, 2));
        assert_ne!(
            log.start("a", EventId::new(10_000, 0)),
            Continuity::Contiguous
        );
        assert_eq!(
            log.start("d", EventId::new(40_000, 0)),
            Continuity::Contiguous
        );
        assert_ne!(log.start("never", EventId::ZERO), Continuity::Contiguous);
    }

    #[test]
    fn a_commit_trims_a_bounded_number_and_says_that_more_is_left() {
        let mut log = Log::new();
        log.retention.events_max = NonZeroUsize::new(1000).unwrap();
        log.append("a", 900, 1000, 0).unwrap();
        assert!(log.append("a", 0, 5000, 300).unwrap());
        assert_eq!(log.count("a"), 600);
        while log.append("a", 0, 5000, 300).unwrap() {}
        assert_eq!(log.count("a"), 1, "the newest stays");
        log.retention.events_max = NonZeroUsize::new(5).unwrap();
        log.append("b", 50, 5000, 0).unwrap();
        assert_eq!(log.count("b"), 5);
    }

    /// An event with this data and key.
    fn item(key: u128, data: &str) -> AppendItem {
        let events = vec![Event {
            kind: "click".parse().unwrap(),
            data: data.into(),
        }];
        let idempotency = Some(IdempotencyKey {
            key: key.into(),
            content: Fingerprint::of_events(&events),
        });
        AppendItem {
            events,
            idempotency,
        }
    }

    /// Where one event with a key is, and whether it was there before.
    fn keyed(
        log: &mut Log,
        channel: &str,
        item: AppendItem,
        now_ms: u64,
    ) -> Result<(u64, bool), BrokerError> {
        let (placed, _) = log.append_items(channel, &[item], now_ms, 100)?;
        Ok((placed[0].ids.first.ms, placed[0].duplicate))
    }

    #[test]
    fn a_key_expires_by_the_clock_of_the_log() {
        let mut log = Log::new();
        assert_eq!(
            keyed(&mut log, "a", item(1, "x"), 1000).unwrap(),
            (1000, false)
        );
        assert_eq!(
            keyed(&mut log, "a", item(1, "x"), 1099).unwrap(),
            (1000, true)
        );
        assert!(matches!(
            keyed(&mut log, "a", item(1, "y"), 1099),
            Err(BrokerError::KeyReused { item: 0 })
        ));
        // The clock of the machine goes back, that of the log does not.
        log.append("b", 1, 1050, 100).unwrap();
        assert_eq!(
            keyed(&mut log, "a", item(1, "x"), 10).unwrap(),
            (1000, true)
        );
        log.append("b", 1, 1100, 100).unwrap();
        assert_eq!(
            keyed(&mut log, "a", item(1, "y"), 10).unwrap(),
            (1100, false)
        );
        // A shorter window is for new keys only.
        log.retention.keys.window = Duration::from_millis(1);
        assert_eq!(
            keyed(&mut log, "a", item(1, "y"), 1199).unwrap(),
            (1100, true)
        );
        assert_eq!(
            keyed(&mut log, "a", item(2, "y"), 1199).unwrap(),
            (1199, false)
        );
        assert_eq!(
            keyed(&mut log, "a", item(2, "y"), 1200).unwrap(),
            (1200, false)
        );
    }

    #[test]
    fn keys_beyond_the_limit_are_refused_until_the_oldest_expires() {
        let mut log = Log::new();
        for (key, now_ms) in [(1, 1000), (2, 1010), (3, 1020)] {
            keyed(&mut log, "a", item(key, "x"), now_ms).unwrap();
        }
        match keyed(&mut log, "a", item(4, "x"), 1030) {
            Err(BrokerError::TooManyKeys {
                keys_max: 3,
                expires_in,
            }) => {
                assert_eq!(expires_in, Duration::from_millis(70));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            keyed(&mut log, "a", item(3, "x"), 1099).unwrap(),
            (1020, true)
        );
        assert_eq!(
            keyed(&mut log, "a", item(4, "x"), 1100).unwrap(),
            (1100, false)
        );
        let two = [item(5, "x"), item(6, "x")];
        assert!(matches!(
            log.append_items("a", &two, 1110, 100),
            Err(BrokerError::TooManyKeys { .. })
        ));
        log.append_items("a", &two, 1120, 100).unwrap();
    }

    #[test]
    fn a_commit_forgets_a_bounded_number_of_expired_keys() {
        let mut log = Log::new();
        log.retention.keys.keys_max = 5000;
        let all: Vec<AppendItem> = (1..=2500).map(|key| item(key, "x")).collect();
        log.append_items("a", &all, 1000, 100).unwrap();
        let count = |log: &Log| {
            log.state
                .key_counts
                .values()
                .map(|key_count| key_count.count)
                .sum::<u64>()
        };
        assert!(log.append("a", 0, 1100, 100).unwrap(), "more is left");
        assert_eq!(count(&log), 1500);
        // What has expired is not known any more, forgotten or not; and it is counted once.
        assert_eq!(
            keyed(&mut log, "a", item(2500, "y"), 1100).unwrap(),
            (1100, false)
        );
        while log.append("a", 0, 1150, 100).unwrap() {}
        assert_eq!(count(&log), 1);
        assert_eq!(
            keyed(&mut log, "a", item(2500, "y"), 1199).unwrap(),
            (1100, true)
        );
        while log.append("a", 0, 1200, 100).unwrap() {}
        assert!(log.state.key_counts.is_empty());
    }

    #[test]
    fn a_channel_with_keys_is_not_dead() {
        let mut log = Log::new();
        log.retention.keys.window = Duration::from_secs(10);
        keyed(&mut log, "a", item(1, "x"), 1000).unwrap();
        log.append("b", 1, 1500, 100).unwrap();
        log.append("c", 1, 5000, 100).unwrap();
        assert_eq!((log.count("a"), log.count("b"), log.count("c")), (1, 0, 1));
        assert!(matches!(
            log.append("d", 1, 5001, 100),
            Err(BrokerError::Full(_))
        ));
        assert_eq!(
            keyed(&mut log, "a", item(1, "x"), 10_999).unwrap(),
            (1000, true)
        );
        // Without keys it is.
        log.append("c", 0, 11_000, 100).unwrap();
        log.append("d", 1, 11_001, 100).unwrap();
        assert_eq!(log.count("d"), 1);
    }

    #[test]
    fn a_changed_row_of_a_key_is_an_error_of_that_key_only_until_the_log_is_opened_again() {
        let mut log = Log::new();
        keyed(&mut log, "a", item(1, "x"), 1000).unwrap();
        keyed(&mut log, "a", item(2, "x"), 1000).unwrap();
        let change = |transaction: &WriteTransaction| {
            let mut keys = transaction.open_table(KEYS)?;
            let mut row = keys.get((1, 1))?.expect("it is there").value().to_vec();
            row[20] ^= 1;
            keys.insert((1, 1), row.as_slice())?;
            Ok(())
        };
        log.store.write(change).unwrap();
        log.is_damaged = true;
        assert!(matches!(
            keyed(&mut log, "a", item(1, "x"), 1001),
            Err(BrokerError::Damaged(_))
        ));
        assert_eq!(
            keyed(&mut log, "a", item(2, "x"), 1001).unwrap(),
            (1000, true)
        );
        assert_eq!(log.count("a"), 2);
        // Which key it was cannot be known then, so another one may be missing.
        let refused = load_state(&log.store, EventId::ZERO)
            .err()
            .map(|error| error.to_string());
        assert!(
            refused
                .as_ref()
                .is_some_and(|why| why.contains("key of a publish")),
            "{refused:?}"
        );
    }

    proptest! {
        /// Of each publish its key, its data, and how much later than the one before it comes.
        #[test]
        fn keys_do_what_a_model_does(publishes in vec((1..7_u128, "[xy]", 0..60_u64), 1..40)) {
            let mut log = Log::new();
            let mut known: HashMap<u128, (String, u64)> = HashMap::new();
            let mut now_ms = 1000;
            for (key, data, later_ms) in publishes {
                now_ms += later_ms;
                known.retain(|_, (_, since_ms)| *since_ms + 100 > now_ms);
                let answer = keyed(&mut log, "a", item(key, &data), now_ms);
                match (known.get(&key), answer) {
                    (Some((same, since_ms)), Ok((ms, true))) => prop_assert_eq!((same, *since_ms), (&data, ms)),
                    (Some((other, _)), Err(BrokerError::KeyReused { item: 0 })) => prop_assert_ne!(other, &data),
                    (None, Err(BrokerError::TooManyKeys { .. })) => prop_assert_eq!(known.len(), 3),
                    (None, Ok((ms, false))) => {
                        prop_assert!(known.len() < 3 && ms == now_ms);
                        known.insert(key, (data, now_ms));
                    }
                    (expected, found) => prop_assert!(false, "{expected:?} {found:?}"),
                }
            }
        }
    }
}
