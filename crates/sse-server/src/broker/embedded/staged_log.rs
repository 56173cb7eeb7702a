//! The log as a transaction has it: the committed state with the changes of the current batch on
//! top. [`StagedChannels`] has the channels.
//!
//! Events are written to their table at once, because a commit can contain many. The rows of the
//! small tables are written once, by [`StagedLog::finish`].

use std::collections::HashMap;

use redb::{ReadableTable as _, Table, WriteTransaction};
use sse_proto::{Channel, Event, EventId};

use super::{
    committed_state::{CommittedChange, CommittedState},
    error::StoreError,
    key_record::KeyCount,
    numbers::free_numbers,
    record::{
        ChannelRow, Key, LogHeader, encode_event, encode_forgotten, event_key, id_of, record_bytes,
    },
    staged_channels::StagedChannels,
    staged_lives::{write_changes, write_lives},
    tables::{CHANNELS, EVENTS, FORGOTTEN, write_header},
};
use crate::broker::{
    Retention,
    lifecycle::{ChannelLife, Classes, Effective},
};

/// The state of the log within a transaction.
pub(super) struct StagedLog<'a> {
    transaction: &'a WriteTransaction,
    pub(super) channels: StagedChannels<'a>,
    change: CommittedChange,
    retention: &'a Retention,
    classes: &'a Classes,
    now_ms: u64,
    events: Table<'a, Key, &'static [u8]>,
    /// Reused for the encoding of every event.
    record: Vec<u8>,
    /// How many events this commit may still remove.
    trims_left: u64,
}

impl<'a> StagedLog<'a> {
    /// Stages no change. The commit may remove two events per appended event, and `trims_max` more.
    pub(super) fn open(
        transaction: &'a WriteTransaction,
        committed: &'a CommittedState,
        (retention, classes): (&'a Retention, &'a Classes),
        now_ms: u64,
        trims_max: u64,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            transaction,
            channels: StagedChannels::new(&committed.channels),
            change: CommittedChange::new(committed),
            retention,
            classes,
            now_ms,
            events: transaction.open_table(EVENTS)?,
            record: Vec::new(),
            trims_left: trims_max,
        })
    }

    pub(super) const fn retention(&self) -> &'a Retention {
        self.retention
    }

    pub(super) const fn classes(&self) -> &'a Classes {
        self.classes
    }

    /// Returns what applies to `channel`.
    pub(super) fn effective(&self, channel: &Channel) -> Effective {
        let life = self.channels.life(channel);
        let own = life.map(|life| life.settings).unwrap_or_default();
        self.classes.effective(channel, own, self.retention)
    }

    /// Assigns an id that belongs to no event.
    pub(super) fn next_id(&mut self) -> EventId {
        self.change.clock.next_id(self.now_ms)
    }

    /// Raises the origin to `id`.
    pub(super) fn raise_origin(&mut self, id: EventId) {
        self.change.origin = self.change.origin.max(id);
    }

    /// Subtracts the bytes of a channel that is deleted. Its events are removed later.
    pub(super) const fn subtract_bytes(&mut self, bytes: u64) {
        self.change.bytes = self.change.bytes.saturating_sub(bytes);
    }

    /// Returns the id after which `channel` begins if it is created now.
    pub(super) fn origin_of(&self, channel: &Channel) -> EventId {
        let last = self.channels.last_id(channel);
        let deleted = || {
            self.channels
                .tombstone(channel)
                .map(|tombstone| tombstone.at)
        };
        last.or_else(deleted).unwrap_or(self.change.origin)
    }

    /// Returns the log's time, which never goes back.
    pub(super) fn log_ms(&self) -> u64 {
        self.change.clock.log_ms(self.now_ms)
    }

    /// Returns the millisecond before which an event is too old.
    pub(super) fn cutoff_ms(&self) -> u64 {
        self.retention.cutoff_ms(self.now_ms)
    }

    /// Moves the log's clock past `bound`, if the time is later than `bound`.
    pub(super) fn advance_clock_past(&mut self, bound: EventId) {
        self.change.clock.advance_past(bound, self.now_ms);
    }

    /// Returns the bytes of all events.
    pub(super) const fn bytes(&self) -> u64 {
        self.change.bytes
    }

    /// Records that trimming is left for a later commit.
    pub(super) const fn defer_trimming(&mut self) {
        self.change.more_to_trim = true;
    }

    /// Whether this commit may remove one more event.
    pub(super) const fn may_trim(&self) -> bool {
        self.trims_left > 0
    }

    /// Takes a number that the file has nothing of.
    fn take_number(&mut self) -> Result<u32, StoreError> {
        if self.change.numbers.is_empty() {
            let (used, next) = (self.channels.used_numbers(), self.change.numbers.end);
            self.change.numbers = free_numbers(&self.events, used, next)?;
        }
        let number = self.change.numbers.next();
        number.ok_or_else(|| StoreError::Damaged("every channel number is used".to_owned()))
    }

    /// Creates the row of a new channel, which the caller stages together with its first events.
    ///
    /// The channel begins after its last id if it was forgotten, and after the origin otherwise.
    pub(super) fn new_row(&mut self, channel: &Channel) -> Result<ChannelRow, StoreError> {
        let number = self.take_number()?;
        Ok(ChannelRow::new(number, self.take_origin(channel)))
    }

    /// Returns the id after which a new channel begins, and drops its last id if it was forgotten.
    fn take_origin(&mut self, channel: &Channel) -> EventId {
        let origin = self.origin_of(channel);
        if self.channels.last_id(channel).is_some() {
            self.channels.set_last_id(channel, None);
        }
        origin
    }

    /// Replaces a channel and all its events by a note of its last id.
    pub(super) fn replace_by_last_id(
        &mut self,
        channel: &Channel,
        row: ChannelRow,
    ) -> Result<(), StoreError> {
        // A channel is removed in one commit, whatever the commit has trimmed before.
        self.trims_left += row.count;
        self.remove_oldest(channel, row.count)?;
        self.channels.set_row(channel, None);
        self.channels.set_life(channel, ChannelLife::default());
        self.channels.set_last_id(channel, Some(row.last));
        Ok(())
    }

    /// Drops the oldest last id of a forgotten channel. New channels then begin after it, so that
    /// no position in the forgotten channel passes as proved.
    pub(super) fn drop_oldest_last_id(&mut self) {
        if let Some((channel, last)) = self.channels.oldest_last_id() {
            self.channels.set_last_id(&channel, None);
            self.change.origin = self.change.origin.max(last);
        }
    }

    /// Appends an event to the channel of `row`, and updates `row`. Returns the id of the event.
    pub(super) fn append_event(
        &mut self,
        row: &mut ChannelRow,
        event: &Event,
    ) -> Result<EventId, StoreError> {
        let id = self.change.clock.next_id(self.now_ms);
        let key = event_key(row.number, id);
        let kind = event.kind.as_str();
        encode_event(&mut self.record, key, row.last, kind, &event.data);
        self.events.insert(key, self.record.as_slice())?;
        let bytes = record_bytes(self.record.len());
        row.add(id, bytes);
        self.change.bytes += bytes;
        self.trims_left += 2;
        Ok(id)
    }

    /// Removes up to `wanted` of the oldest events of `channel`, as far as this commit may.
    ///
    /// Returns how many events it removed.
    pub(super) fn remove_oldest(
        &mut self,
        channel: &Channel,
        wanted: u64,
    ) -> Result<u64, StoreError> {
        let Some(mut row) = self.channels.row(channel) else {
            return Ok(0);
        };
        let wanted = wanted.min(row.count);
        let allowed = self.limit_trims(wanted);
        let (oldest, next) = self.find_oldest(&row, allowed)?;
        row.oldest = next;
        for (key, bytes) in &oldest {
            self.events.remove(*key)?;
            row.subtract(id_of(*key), *bytes);
            self.change.bytes = self.change.bytes.saturating_sub(*bytes);
        }
        let removed = oldest.len() as u64;
        self.trims_left -= removed;
        self.channels.set_row(channel, Some(row));
        Ok(removed)
    }

    /// Removes events of deleted channels, as far as this commit may.
    pub(super) fn remove_deleted(&mut self) -> Result<(), StoreError> {
        while self.trims_left > 0
            && let Some(number) = self.channels.first_deleted()
        {
            let keys = (number, 0, 0)..=(number, u64::MAX, u64::MAX);
            let count = usize::try_from(self.trims_left).unwrap_or(usize::MAX);
            let mut found = Vec::new();
            for entry in self.events.range(keys)?.take(count) {
                found.push(entry?.0.value());
            }
            for key in &found {
                self.events.remove(*key)?;
            }
            self.trims_left -= found.len() as u64;
            if found.len() < count {
                self.channels.set_deleted(number, false);
            }
        }
        self.change.more_to_trim |= self.channels.first_deleted().is_some();
        Ok(())
    }

    /// Counts the oldest events whose removal leaves at most `bytes_max` bytes, without the newest.
    pub(super) fn count_beyond_bytes(
        &self,
        row: &ChannelRow,
        bytes_max: u64,
    ) -> Result<u64, StoreError> {
        let (mut count, mut bytes) = (0, row.bytes);
        for entry in self.events.range(row.keys(row.oldest, row.last))? {
            if bytes <= bytes_max || count + 1 >= row.count {
                break;
            }
            bytes = bytes.saturating_sub(record_bytes(entry?.1.value().len()));
            count += 1;
        }
        Ok(count)
    }

    /// Returns how many of the `wanted` events this commit may remove.
    fn limit_trims(&mut self, wanted: u64) -> u64 {
        let allowed = wanted.min(self.trims_left);
        self.change.more_to_trim |= allowed < wanted;
        allowed
    }

    /// Returns the keys and bytes of the `count` oldest events, and the id of the event after them.
    fn find_oldest(
        &self,
        row: &ChannelRow,
        count: u64,
    ) -> Result<(Vec<(Key, u64)>, EventId), StoreError> {
        let mut oldest = Vec::new();
        for entry in self.events.range(row.keys(row.oldest, row.last))? {
            let (key, record) = entry?;
            if oldest.len() as u64 == count {
                return Ok((oldest, id_of(key.value())));
            }
            oldest.push((key.value(), record_bytes(record.value().len())));
        }
        Ok((oldest, EventId::ZERO))
    }

    /// Counts the events that are older than `cutoff_ms`, up to `count_max` and without the newest.
    pub(super) fn count_older(
        &self,
        row: &ChannelRow,
        cutoff_ms: u64,
        count_max: usize,
    ) -> Result<u64, StoreError> {
        let end = EventId::new(cutoff_ms, 0).min(row.last);
        let range = event_key(row.number, row.oldest)..event_key(row.number, end);
        Ok(self.events.range(range)?.take(count_max).count() as u64)
    }

    /// Writes the staged rows. Nothing is on disk before the transaction commits.
    pub(super) fn finish(
        mut self,
        key_counts: HashMap<u32, KeyCount>,
    ) -> Result<CommittedChange, StoreError> {
        self.change.key_counts = key_counts;
        self.change.channels = self.channels.take_changes();
        self.write_rows()?;
        write_lives(self.transaction, &self.change.channels)?;
        self.write_header()?;
        Ok(self.change)
    }

    fn write_rows(&self) -> Result<(), StoreError> {
        let channels = self.transaction.open_table(CHANNELS)?;
        let changes = &self.change.channels;
        write_changes(channels, &changes.rows, |name, row| row.encode(name))?;
        let forgotten = self.transaction.open_table(FORGOTTEN)?;
        write_changes(forgotten, &changes.last_ids, |name, last| {
            encode_forgotten(name, *last)
        })
    }

    fn write_header(&self) -> Result<(), StoreError> {
        write_header(
            self.transaction,
            &LogHeader {
                highest: self.change.clock.highest(),
                origin: self.change.origin,
                next_number: self.change.numbers.start,
            },
        )
    }
}
