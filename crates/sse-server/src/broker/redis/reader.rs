//! Pages of a channel's history, forwards and backwards.

use redis::Cmd;
use sse_proto::{Channel, EventId, api::Gap};

use super::{
    forward_read::{ForwardRead, Run},
    page_size::truncate_to_page,
    replies::{parse_entries, parse_last_id},
    streams::Streams,
};
use crate::broker::{BackPage, BrokerError, Page, PageLimits, ReadFrom};

impl Streams {
    /// Reads a page forwards.
    pub(super) async fn read(
        &self,
        channel: &Channel,
        from: ReadFrom,
        limits: PageLimits,
    ) -> Result<Page, BrokerError> {
        let page = self.page_sizes.next_page(channel, limits);
        // One more entry shows whether more follow, and one may be the event at the position.
        let mut read = ForwardRead::open(self, channel, page.events_max + 2).await?;
        self.page_sizes.forget(channel);
        let Run {
            start,
            entries: mut events,
            mut last,
        } = read.run(from).await?;
        self.page_sizes.record(channel, page, &events);
        let more = truncate_to_page(&mut events, page);
        if let Some(newest) = events.last() {
            self.losses.observe(channel, newest.id, read.session.era());
            last = last.max(newest.id);
        }
        Ok(Page {
            start,
            events,
            more,
            last,
        })
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
        let page = self.page_sizes.next_page(channel, limits);
        self.page_sizes.forget(channel);
        // One more entry shows whether more precede the page.
        let commands = self.back_commands(channel, before, page.events_max + 1);
        let [info, entries] = self.query(channel, commands).await?;
        let (last, mut events) = (parse_last_id(info)?, parse_entries(entries)?);
        self.page_sizes.record(channel, page, &events);
        let more = truncate_to_page(&mut events, page);
        let last = events.first().map_or(last, |newest| newest.id.max(last));
        Ok(BackPage { events, more, last })
    }

    fn back_commands(&self, channel: &Channel, before: Option<EventId>, count: usize) -> [Cmd; 2] {
        [
            self.stream_info(channel),
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
        let mut read = ForwardRead::open(self, channel, 1).await?;
        for lost in read.records_after(bound).await? {
            if lost.after >= bound {
                continue;
            }
            let entries = read.entries(&lost.before.to_string()).await?;
            if let Some(record) = entries.into_iter().find(|entry| entry.id == lost.before) {
                return Ok(record.gap());
            }
        }
        Ok(None)
    }
}

/// The upper end of a range that ends before `before`, or with the newest entry.
fn newest_before(before: Option<EventId>) -> String {
    before.map_or_else(|| "+".to_owned(), |before| format!("({before}"))
}
