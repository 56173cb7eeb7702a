//! Pages of a channel's history, forwards and backwards.

use redis::Cmd;
use sse_proto::{Channel, EventId, Position, api::Gap};

use super::{
    entries::{Entry, parse_entries},
    foreign_entries::ForwardRun,
    forward_read::ForwardRead,
    page_size::truncate_to_page,
    read_gate::ReadKind,
    replies::parse_last_id,
    state_read::Found,
    streams::Streams,
};
use crate::broker::{BackPage, BrokerError, Page, PageLimits, ReadFrom, Stored};

impl Streams {
    /// Reads a page forwards.
    pub(super) async fn read(
        &self,
        channel: &Channel,
        from: ReadFrom,
        limits: PageLimits,
        kind: ReadKind,
    ) -> Result<Page, BrokerError> {
        let page = self.page_sizes.next_page(channel, limits);
        // One more entry shows whether more follow, and one may be the event at the position.
        let count = page.events_max + 2;
        self.page_sizes.forget(channel);
        let prefetched = match (kind, from) {
            (ReadKind::Tail, ReadFrom::Position(Position::After(id) | Position::At(id))) => {
                Some(self.prefetch(channel, id, count).await?)
            }
            _ => None,
        };
        let shard = self.shard(channel).await?;
        let _place = self.enter_gate(&shard, kind).await?;
        let mut read = ForwardRead::open(self, channel, count).await?;
        read.prefetched = prefetched;
        let (run, end) = match read.find(from).await? {
            Found::Page(page) => return Ok(page),
            Found::Run(run, end) => (run, end),
        };
        let ForwardRun {
            start,
            mut events,
            more,
            mut last,
        } = read.skip_foreign(run).await?;
        self.page_sizes.record(channel, page, &events);
        let more = truncate_to_page(&mut events, page) || more;
        if let Some(newest) = events.last() {
            self.losses.observe(channel, newest.id, read.session.era());
            last = last.max(newest.id);
        }
        let mut page = Page {
            start,
            events,
            more,
            last,
        };
        if let Some(end) = end {
            end.add_to(channel, &mut page);
            // A failover can lose the end too.
            self.losses.observe(channel, end.id, read.session.era());
        }
        Ok(page)
    }

    /// Reads a page backwards.
    ///
    /// Trimming during the read removes entries from the end of the page, where the next page would
    /// begin.
    pub(super) async fn read_back(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        limits: PageLimits,
    ) -> Result<BackPage, BrokerError> {
        let shard = self.shard(channel).await?;
        let _place = self.enter_gate(&shard, ReadKind::History).await?;
        let page = self.page_sizes.next_page(channel, limits);
        self.page_sizes.forget(channel);
        // One more entry shows whether more precede the page.
        let count = page.events_max + 1;
        let mut run = self.back_run(channel, before, count).await?;
        let last = run.last;
        while let (true, Some(oldest)) = (run.events.is_empty(), run.older) {
            run = self.back_run(channel, Some(oldest), count).await?;
        }
        let mut events = run.events;
        self.page_sizes.record(channel, page, &events);
        let more = truncate_to_page(&mut events, page) || run.older.is_some();
        Ok(BackPage { events, more, last })
    }

    /// Reads up to `count` entries backwards, and removes the foreign ones.
    async fn back_run(
        &self,
        channel: &Channel,
        before: Option<EventId>,
        count: usize,
    ) -> Result<BackRun, BrokerError> {
        let commands = self.back_commands(channel, before, count);
        let [extent, entries] = self.query(channel, commands).await?;
        let (last, entries) = (parse_last_id(extent)?, parse_entries(channel, entries)?);
        Ok(BackRun::new(entries, last, count))
    }

    fn back_commands(&self, channel: &Channel, before: Option<EventId>, count: usize) -> [Cmd; 2] {
        [
            self.stream_extent(channel),
            self.range_back(channel, &newest_before(before), count),
        ]
    }

    /// The gap of a loss that begins before `bound` and whose record has a higher id.
    ///
    /// There is at most one: a later loss that goes back so far has also lost the earlier record.
    pub(super) async fn loss_spanning(
        &self,
        channel: &Channel,
        bound: EventId,
    ) -> Result<Option<Gap>, BrokerError> {
        let shard = self.shard(channel).await?;
        let _place = self.enter_gate(&shard, ReadKind::History).await?;
        let mut read = ForwardRead::open(self, channel, 1).await?;
        for lost in read.records_after(bound).await? {
            if lost.after >= bound {
                continue;
            }
            let entries = read.entries(&lost.before.to_string()).await?;
            let mut records = entries.into_iter().filter_map(Entry::into_stored);
            if let Some(record) = records.find(|entry| entry.id == lost.before) {
                return Ok(record.gap());
            }
        }
        Ok(None)
    }
}

/// Entries in descending id order, without foreign ones.
struct BackRun {
    events: Vec<Stored>,
    /// The oldest id of a full reply, which older entries can precede.
    older: Option<EventId>,
    /// The last id ever assigned, as far as this read has seen.
    last: EventId,
}

impl BackRun {
    fn new(entries: Vec<Entry>, last: EventId, count: usize) -> Self {
        let newest = entries.first().map_or(last, Entry::id);
        let oldest = entries.last().map(Entry::id);
        Self {
            older: oldest.filter(|_| entries.len() >= count),
            events: entries.into_iter().filter_map(Entry::into_stored).collect(),
            last: newest.max(last),
        }
    }
}

/// The upper end of a range that ends before `before`, or with the newest entry.
fn newest_before(before: Option<EventId>) -> String {
    before.map_or_else(|| "+".to_owned(), |before| format!("({before}"))
}
