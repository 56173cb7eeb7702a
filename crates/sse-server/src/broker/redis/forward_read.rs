//! A read towards newer events, and the proof that it continues a position.
//!
//! In the common case the event at the position is still there, and the same `XRANGE` that reads
//! the page proves it. Otherwise the read is repeated between two looks at the extent of the
//! stream, and [`continuity`](crate::broker::continuity) judges the position by it:
//!
//! ```text
//! position ─► XRANGE: is its event there? ── yes ─► the page continues it
//!                │ no
//!                ▼
//!             extent, XRANGE, extent, GET mark: judge ── contiguous ─► the page continues it
//!                │ gap: lost-tail or unknown
//!                ▼
//!             a gap record for its id? ── yes ─► gap, from the newest event that survived
//!                │ no, or gap: trimmed
//!                ▼
//!             gap, from the oldest event
//! ```
//!
//! `state_read` decides before that whether the channel was closed or deleted.

use redis::{Cmd, Value};
use sse_proto::{
    Channel, EventId, Position,
    api::{GapReason, Lost},
};

use super::{
    channel_state::parse_state,
    entries::{Entry, parse_entries},
    replies::{parse_gap_index, parse_last_id, parse_trim_mark},
    session::Session,
    streams::Streams,
    tail_reads::Prefetched,
};
use crate::broker::{
    BrokerError, Continuity, ReadFrom,
    continuity::{Extent, judge, judge_time},
};

/// Consecutive entries, before they are cut down to a page.
pub(super) struct Run {
    /// How the entries continue the position.
    pub(super) start: Continuity,
    pub(super) entries: Vec<Entry>,
    /// Whether the reply had as many entries as it may have, so that more can follow.
    pub(super) is_full: bool,
    /// The last id ever assigned, as far as this read has seen.
    pub(super) last: EventId,
}

/// Entries, and what is known of their stream around the time of the read.
struct BoundedEntries {
    entries: Vec<Entry>,
    /// Whether more entries can follow.
    is_full: bool,
    /// The last id before the read: the read has seen everything up to here.
    last: EventId,
    /// The extent after the read: the read has also seen what was not trimmed by then.
    extent: Extent,
}

impl BoundedEntries {
    /// Parses the replies to [`ForwardRead::bounded_range`].
    fn parse(
        [before, entries, after, mark]: [Value; 4],
        channel: &Channel,
        count: usize,
    ) -> Result<Self, BrokerError> {
        let mut extent = parse_state(after)?.extent;
        if let Some(mark) = parse_trim_mark(mark) {
            mark.apply(&mut extent);
        }
        let entries = parse_entries(channel, entries)?;
        Ok(Self {
            is_full: entries.len() >= count,
            entries,
            last: parse_last_id(before)?,
            extent,
        })
    }

    /// Whether the entry `id`, if it was ever added, was in the stream during the read.
    fn spans(&self, id: EventId) -> bool {
        let oldest = self.extent.oldest;
        oldest.is_some_and(|oldest| oldest <= id) && id <= self.last
    }

    fn into_run(self, start: Continuity) -> Run {
        Run {
            start,
            entries: self.entries,
            is_full: self.is_full,
            last: self.last,
        }
    }
}

/// A read of one channel, in one session.
pub(super) struct ForwardRead<'a> {
    pub(super) streams: &'a Streams,
    pub(super) channel: &'a Channel,
    pub(super) session: Session<'a>,
    /// Entries that each command asks for.
    pub(super) count: usize,
    /// What a read for a tail has got together with others.
    pub(super) prefetched: Option<Prefetched>,
}

impl<'a> ForwardRead<'a> {
    pub(super) async fn open(
        streams: &'a Streams,
        channel: &'a Channel,
        count: usize,
    ) -> Result<Self, BrokerError> {
        Ok(Self {
            streams,
            channel,
            session: streams.shards.read_session(channel).await?,
            count,
            prefetched: None,
        })
    }

    pub(super) async fn run(&mut self, from: ReadFrom) -> Result<Run, BrokerError> {
        match from {
            ReadFrom::Oldest => self.oldest_run().await,
            ReadFrom::Time(ms) => self.run_since(ms).await,
            ReadFrom::Position(position) => self.run_after(position).await,
        }
    }

    async fn oldest_run(&mut self) -> Result<Run, BrokerError> {
        let read = self.bounded_entries("-").await?;
        Ok(read.into_run(Continuity::Contiguous))
    }

    async fn run_since(&mut self, ms: u64) -> Result<Run, BrokerError> {
        let read = self.bounded_entries(&ms.to_string()).await?;
        match judge_time(ms, &read.extent) {
            Continuity::Gap { reason, .. } => self.oldest_run_after_gap(reason).await,
            start @ Continuity::Contiguous => Ok(read.into_run(start)),
        }
    }

    async fn run_after(&mut self, position: Position) -> Result<Run, BrokerError> {
        let (Position::After(id) | Position::At(id)) = position;
        let mut run = self.judged_run(position, id).await?;
        let Continuity::Gap { reason, .. } = run.start else {
            run.entries.retain(|entry| entry.id() > position.floor());
            return Ok(run);
        };
        match self.run_past_loss(id, reason).await? {
            Some(run) => Ok(run),
            None => self.oldest_run_after_gap(reason).await,
        }
    }

    /// The entries from `id` on, and whether they continue `position`.
    async fn judged_run(&mut self, position: Position, id: EventId) -> Result<Run, BrokerError> {
        let is_present = |entries: &[Entry]| entries.first().is_some_and(|entry| entry.id() == id);
        let start = id.to_string();
        let entries = self.entries(&start).await?;
        if is_present(&entries) {
            let losses = &self.streams.losses;
            losses.observe(self.channel, id, self.session.era());
            return Ok(Run {
                start: Continuity::Contiguous,
                is_full: entries.len() >= self.count,
                entries,
                last: id,
            });
        }
        let read = self.bounded_entries(&start).await?;
        let continuity = judge(position, is_present(&read.entries), &read.extent);
        Ok(read.into_run(continuity))
    }

    /// If `id` is in the range of a gap record, returns the entries after the newest event that
    /// survived that loss.
    ///
    /// Returns `None` if there is no such record, or if `reason` excludes one.
    async fn run_past_loss(
        &mut self,
        id: EventId,
        reason: GapReason,
    ) -> Result<Option<Run>, BrokerError> {
        if !matches!(reason, GapReason::LostTail | GapReason::Unknown) {
            return Ok(None);
        }
        if reason == GapReason::LostTail {
            // There may be no record yet: Redis may have lost events without a reconnect, or the
            // connection has not been verified since. What this node knows may be lost too.
            self.session.verify(self.channel).await?;
        }
        let records = self.records_after(id).await?;
        let Some(lost) = records.into_iter().find(|lost| lost.has(id)) else {
            return Ok(None);
        };
        let read = self.bounded_entries(&format!("({}", lost.after)).await?;
        Ok(past_loss(lost, read))
    }

    /// The losses whose record has an id above `id`.
    pub(super) async fn records_after(&mut self, id: EventId) -> Result<Vec<Lost>, BrokerError> {
        // Redis rejects a range that begins after the highest possible id.
        let Some(next) = id.next() else {
            return Ok(Vec::new());
        };
        self.records_from(next).await
    }

    async fn records_from(&mut self, id: EventId) -> Result<Vec<Lost>, BrokerError> {
        let range = self.streams.gap_range(self.channel, id);
        Ok(parse_gap_index(self.session.query_one(range).await?))
    }

    /// After a gap without a record, history begins with the oldest event that is kept.
    async fn oldest_run_after_gap(&mut self, reason: GapReason) -> Result<Run, BrokerError> {
        let mut run = self.oldest_run().await?;
        run.start = gap_before(&run.entries, reason, None);
        Ok(run)
    }

    /// `XRANGE` from `start` on.
    pub(super) async fn entries(&mut self, start: &str) -> Result<Vec<Entry>, BrokerError> {
        let [entries] = self.session.query_values([self.range(start)]).await?;
        parse_entries(self.channel, entries)
    }

    /// The entries after `id`, and whether more can follow them.
    pub(super) async fn entries_after(
        &mut self,
        id: EventId,
    ) -> Result<(Vec<Entry>, bool), BrokerError> {
        let entries = self.entries(&format!("({id}")).await?;
        let is_full = entries.len() >= self.count;
        Ok((entries, is_full))
    }

    /// Logs that this read has skipped the entry `id`.
    pub(super) fn log_foreign(&self, id: EventId) {
        self.streams.foreign_log.record(self.channel, id);
    }

    pub(super) fn range(&self, start: &str) -> Cmd {
        self.streams.range(self.channel, start, self.count)
    }

    /// `XRANGE` from `start` on, between two looks at the extent, and the trim mark.
    ///
    /// The four commands are not a transaction, because a Redis at its `maxmemory` rejects a
    /// transaction even if it only reads.
    async fn bounded_entries(&mut self, start: &str) -> Result<BoundedEntries, BrokerError> {
        let commands = self.bounded_range(start);
        let replies = self.session.query_values(commands).await?;
        BoundedEntries::parse(replies, self.channel, self.count)
    }

    fn bounded_range(&self, start: &str) -> [Cmd; 4] {
        let extent = || self.streams.stream_extent(self.channel);
        let mark = Cmd::get(self.streams.names.trimmed(self.channel));
        [extent(), self.range(start), extent(), mark]
    }
}

/// The run that follows the survivors of `lost`; returns `None` if the record is not in the stream.
fn past_loss(lost: Lost, read: BoundedEntries) -> Option<Run> {
    let start = gap_before(&read.entries, GapReason::LostTail, Some(lost));
    // Without the record, the stream may be another one since the index was read.
    read.spans(lost.before).then(|| read.into_run(start))
}

/// The gap after which a read continues with `entries`.
pub(super) fn gap_before(entries: &[Entry], reason: GapReason, lost: Option<Lost>) -> Continuity {
    Continuity::Gap {
        reason,
        oldest: entries.first().map(Entry::id),
        lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::continuity::Trimmed;

    fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    #[test]
    fn a_loss_is_passed_only_while_its_record_is_in_the_stream() {
        let lost = Lost {
            after: id(2),
            before: id(5),
        };
        let read = |oldest: Option<u64>, last: u64| BoundedEntries {
            entries: Vec::new(),
            is_full: false,
            last: id(last),
            extent: Extent {
                oldest: oldest.map(id),
                last: id(last),
                trimmed: Trimmed::Somewhere,
            },
        };
        for (oldest, last, is_passed) in [
            (Some(1), 9, true),
            (Some(5), 5, true),
            (Some(6), 9, false),
            (Some(1), 4, false),
            (None, 9, false),
        ] {
            let run = past_loss(lost, read(oldest, last));
            assert_eq!(run.is_some(), is_passed, "{oldest:?} {last}");
        }
    }
}
