//! Where a subscription begins that does not come back with a cursor: now, at the oldest event, at a time, or before
//! the newest few. Each becomes a position in the log, which then is a cursor like any other.

use sse_proto::{Channel, EventId, Position};

use super::Filter;
use crate::broker::{self, BackPage, Broker, BrokerError, PageLimits, ReadFrom};

/// Events, and bytes of them, that a search for [`Beginning::Newest`] looks through at the most, because a filter may
/// pass none of them. What lies beyond is not found.
pub const SCAN_LIMITS: PageLimits = PageLimits {
    events_max: 100_000,
    bytes_max: 64 << 20,
};
/// One read of such a search.
const SCAN_PAGE: PageLimits = PageLimits {
    events_max: 1000,
    bytes_max: 1 << 20,
};
const ONE_EVENT: PageLimits = PageLimits {
    events_max: 1,
    bytes_max: 0,
};

/// Where to begin in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// After the newest event.
    Now,
    /// At the oldest event that is kept.
    Oldest,
    /// At the first event of this millisecond, by the log's clock, or later. A time to come is now.
    Since(u64),
    /// Before the newest so many events that pass the filter; if the reader ends somewhere, before the newest up to there.
    Newest(usize),
}

impl Beginning {
    /// The position in `channel`, for a reader that ends at `until`. A search for the newest stops at the limits of `scan`, with what it has found.
    ///
    /// # Errors
    /// `Unavailable`, `Damaged`.
    pub async fn locate(
        self,
        broker: &Broker,
        channel: &Channel,
        filter: &Filter,
        until: Option<EventId>,
        scan: PageLimits,
    ) -> Result<Position, BrokerError> {
        match self {
            Self::Now | Self::Newest(0) => broker.last_id(channel).await.map(Position::After),
            Self::Oldest => first(broker, channel, ReadFrom::Oldest).await,
            Self::Since(ms) => first(broker, channel, ReadFrom::Time(ms)).await,
            Self::Newest(count) => {
                newest(broker, channel, until, Search::new(filter, count, scan)).await
            }
        }
    }
}

/// The position right before the first event from `from` on.
async fn first(
    broker: &Broker,
    channel: &Channel,
    from: ReadFrom,
) -> Result<Position, BrokerError> {
    let page = broker.read(channel, from, ONE_EVENT).await?;
    Ok(match (page.start, from, page.events.first()) {
        // The oldest events are damaged. No event has this position either.
        (broker::Continuity::Gap { .. }, ReadFrom::Oldest, _) => Position::At(EventId::ZERO),
        // Older than the oldest event, so no event has this position: it says `trimmed` whenever it is asked for.
        (broker::Continuity::Gap { .. }, ReadFrom::Time(ms), _) => {
            Position::At(EventId::new(ms, 0))
        }
        (_, _, Some(event)) => Position::At(event.id),
        (_, _, None) => Position::After(page.last),
    })
}

async fn newest(
    broker: &Broker,
    channel: &Channel,
    until: Option<EventId>,
    mut search: Search<'_>,
) -> Result<Position, BrokerError> {
    let mut page = broker
        .read_back(channel, until.and_then(EventId::next), search.page())
        .await?;
    let head = page.last;
    while search.take(&page) {
        let before = page.events.last().map(|event| event.id);
        page = broker.read_back(channel, before, search.page()).await?;
    }
    if search.wanted > 0 && !page.more {
        // It has come to the beginning. What is damaged there may have been wanted.
        let oldest = first(broker, channel, ReadFrom::Oldest).await?;
        if oldest == Position::At(EventId::ZERO) {
            return Ok(oldest);
        }
    }
    Ok(search.found.map_or(Position::After(head), Position::At))
}

/// A search backwards for the newest events that pass a filter.
struct Search<'a> {
    filter: &'a Filter,
    /// How many are still to be found; more than zero.
    wanted: usize,
    /// The oldest one found so far.
    found: Option<EventId>,
    /// What may still be looked through.
    left: PageLimits,
}

impl<'a> Search<'a> {
    const fn new(filter: &'a Filter, wanted: usize, left: PageLimits) -> Self {
        Self {
            filter,
            wanted,
            found: None,
            left,
        }
    }

    /// What to read next: no more than is needed.
    fn page(&self) -> PageLimits {
        let needed = if self.filter.is_all() {
            self.wanted
        } else {
            usize::MAX
        };
        PageLimits {
            events_max: SCAN_PAGE.events_max.min(self.left.events_max).min(needed),
            bytes_max: SCAN_PAGE.bytes_max.min(self.left.bytes_max),
        }
    }

    /// Takes what was read; whether to read on.
    fn take(&mut self, page: &BackPage) -> bool {
        for event in &page.events {
            self.left.events_max = self.left.events_max.saturating_sub(1);
            self.left.bytes_max = self.left.bytes_max.saturating_sub(event.size());
            if !event.is_gap() && self.filter.passes(&event.kind) {
                self.found = Some(event.id);
                self.wanted -= 1;
                if self.wanted == 0 {
                    return false;
                }
            }
        }
        page.more && !page.events.is_empty() && self.left.events_max > 0 && self.left.bytes_max > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::broker::Stored;

    /// Searches a log whose events are of type `a` or `b`, as a broker would have it read.
    fn search(
        log: &[bool],
        only_b: bool,
        wanted: usize,
        left: PageLimits,
    ) -> (Option<usize>, usize) {
        let filter = Filter::new(if only_b {
            vec!["b".parse().unwrap()]
        } else {
            Vec::new()
        });
        let stored = |(nth, is_b): (usize, &bool)| Stored {
            id: EventId::new(nth as u64 + 1, 0),
            kind: if *is_b { "b".into() } else { "a".into() },
            data: "12345678".into(),
        };
        let mut rest: Vec<Stored> = log.iter().enumerate().map(stored).collect();
        let mut search = Search::new(&filter, wanted, left);
        let mut read = 0;
        loop {
            let limits = search.page();
            let count = limits.fit(rest.iter().rev().map(Stored::size));
            let mut events = rest.split_off(rest.len() - count);
            events.reverse();
            read += count;
            let page = BackPage {
                events,
                more: !rest.is_empty(),
                last: EventId::new(log.len() as u64, 0),
            };
            if !search.take(&page) {
                return (
                    search.found.and_then(|id| usize::try_from(id.ms).ok()),
                    read,
                );
            }
        }
    }

    proptest! {
        #[test]
        fn it_finds_the_newest_that_match_and_reads_no_more_than_needed(
            log in prop::collection::vec(any::<bool>(), 0..3000), only_b: bool, wanted in 1_usize..2000,
        ) {
            let matching: Vec<usize> =
                log.iter().zip(1..).filter(|(is_b, _)| **is_b || !only_b).map(|(_, nth)| nth).collect();
            let expected = matching.iter().rev().take(wanted).next_back().copied();
            let (found, read) = search(&log, only_b, wanted, SCAN_LIMITS);
            prop_assert_eq!(found, expected);
            let enough = if matching.len() < wanted { log.len() } else { log.len() + 1 - expected.unwrap_or(0) };
            let page = if only_b { SCAN_PAGE.events_max } else { 0 };
            prop_assert!(read <= enough + page);
        }
    }

    #[test]
    fn it_stops_at_its_limits_with_what_it_has() {
        let mut log = vec![false; 5000];
        (log[100], log[4900]) = (true, true);
        let events = PageLimits {
            events_max: 1500,
            ..SCAN_LIMITS
        };
        assert_eq!(search(&log, true, 2, events), (Some(4901), 1500));
        let bytes = PageLimits {
            bytes_max: 1500 * 9,
            ..SCAN_LIMITS
        };
        assert_eq!(search(&log, true, 2, bytes), (Some(4901), 1500));
        assert_eq!(search(&[false; 5000], true, 2, events), (None, 1500));
        assert_eq!(search(&log, true, 2, SCAN_LIMITS).0, Some(101));
    }
}
