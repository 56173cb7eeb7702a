//! What a read gets in a channel that may be closed or deleted.
//!
//! A closed channel has an end, and a deleted one a tombstone, which decides first. The common case, in
//! which the event at the position is still there, reads only the end: in one pipeline with the
//! `XRANGE`, and before it. If the channel is closed then, the `XRANGE` has its last event.

use sse_proto::{EventId, Position, api::GapReason};

use super::{
    channel_state::{ChannelState, parse_end, parse_state},
    entries::parse_entries,
    forward_read::{ForwardRead, Run, gap_before},
    replies::{check_rejection, text},
    tail_reads::Prefetched,
};
use crate::broker::{
    BrokerError, Continuity, Page, ReadFrom,
    lifecycle::{EndMark, TombstoneRead},
};

/// What a read finds.
pub(super) enum Found {
    /// Entries, and the end of the channel if it was closed before they were read.
    Run(Run, Option<EndMark>),
    /// A page that has no entry.
    Page(Page),
}

impl ForwardRead<'_> {
    /// Reads from `from` on, as the state of the channel demands.
    pub(super) async fn find(&mut self, from: ReadFrom) -> Result<Found, BrokerError> {
        if let ReadFrom::Position(position) = from
            && let Some(found) = self.present_run(position).await?
        {
            return Ok(found);
        }
        let state = self.state().await?;
        let (from, gap) = match self.resolve(&state, from) {
            Ok(resolved) => resolved,
            Err(page) => return Ok(Found::Page(page)),
        };
        let mut run = self.run(from).await?;
        if let Some(reason) = gap {
            run.start = gap_before(&run.entries, reason, None);
        }
        Ok(Found::Run(run, state.end))
    }

    /// Returns where to read, and the reason of a gap before it. The error is a page without entries,
    /// for a reader that has seen the end or needs that of a deleted channel.
    fn resolve(
        &self,
        state: &ChannelState,
        from: ReadFrom,
    ) -> Result<(ReadFrom, Option<GapReason>), Page> {
        let (mut from, mut gap) = (from, None);
        if let Some(tombstone) = state.tombstone {
            match tombstone.resolve(from, state.exists) {
                TombstoneRead::Other(other) => from = other,
                TombstoneRead::GapAndNext => {
                    (from, gap) = (ReadFrom::Oldest, Some(GapReason::Deleted));
                }
                TombstoneRead::End(start) => {
                    return Err(tombstone.page(start, Some(tombstone.record(self.channel))));
                }
                TombstoneRead::Nothing => return Err(tombstone.page(Continuity::Contiguous, None)),
            }
        }
        if let Some(end) = &state.end {
            from = end.resolve(from).ok_or_else(|| end.nothing())?;
        }
        Ok((from, gap))
    }

    /// The entries from a position whose own entry is still there; `None` if it is not.
    async fn present_run(&mut self, position: Position) -> Result<Option<Found>, BrokerError> {
        let (Position::After(id) | Position::At(id)) = position;
        let Prefetched { end, entries, era } = self.present_entries(id).await?;
        let mut entries = parse_entries(self.channel, entries)?;
        if entries.first().is_none_or(|entry| entry.id() != id) {
            return Ok(None);
        }
        let losses = &self.streams.losses;
        losses.observe(self.channel, id, era);
        let is_full = entries.len() >= self.count;
        entries.retain(|entry| entry.id() > position.floor());
        let run = Run {
            start: Continuity::Contiguous,
            is_full,
            entries,
            last: id,
        };
        let end = text(check_rejection(end)?).and_then(|end| parse_end(&end));
        Ok(Some(Found::Run(run, end)))
    }

    /// The end of the channel and its entries from `id` on, unless they were read already.
    async fn present_entries(&mut self, id: EventId) -> Result<Prefetched, BrokerError> {
        if let Some(prefetched) = self.prefetched.take() {
            return Ok(prefetched);
        }
        let commands = self.streams.present_commands(self.channel, id, self.count);
        let [end, entries] = self.session.query_values(commands).await?;
        let era = self.session.era();
        Ok(Prefetched { end, entries, era })
    }

    /// The state of the channel.
    async fn state(&mut self) -> Result<ChannelState, BrokerError> {
        let extent = self.streams.stream_extent(self.channel);
        let [state] = self.session.query_values([extent]).await?;
        parse_state(state)
    }
}
