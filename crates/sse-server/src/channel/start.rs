//! Start positions: where a reader wants to begin, and which position in the log that is.
//!
//! A request names its start as a [`StartAt`]. [`resolve_start`] turns the start into a
//! [`Position`], which is from then on a cursor like any other. Whether the log still continues
//! that position is not checked here: the first page read proves it ([`Continuity`]).

use std::fmt;

use sse_proto::{Channel, EventId, Position};

use super::{Filter, Searcher};
use crate::broker::{BackPage, Broker, BrokerError, Continuity, PageLimits, ReadFrom};

/// Limits of one search for [`StartAt::Last`], because a filter may pass no event at all. The
/// search does not find events that are further back.
pub const SCAN_LIMITS: PageLimits = PageLimits {
    events_max: 100_000,
    bytes_max: 64 << 20,
};
/// Limits of one read within such a search.
const SCAN_PAGE: PageLimits = PageLimits {
    events_max: 1000,
    bytes_max: 1 << 20,
};
const ONE_EVENT: PageLimits = PageLimits {
    events_max: 1,
    bytes_max: 0,
};
/// Number of characters that a gap shows of a cursor that could not be parsed.
const SHOWN_CHARS_MAX: usize = 64;

/// A position that no event ever has, so a client that resumes here always gets a gap.
pub(super) const UNKNOWN_POSITION: Position = Position::At(EventId::ZERO);

/// Where a reader wants to start in one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// After the newest event.
    Now,
    /// At the oldest retained event.
    Oldest,
    /// At the first event with this time or a later one, in milliseconds since the Unix epoch, by
    /// the log's clock. A time in the future means [`Now`](Self::Now).
    Since(u64),
    /// At the n-th newest event that passes the filter.
    Last(usize),
    /// Where the client stopped reading. If its cursor is unreadable, the stream starts with a gap
    /// `unknown`.
    Resume(Result<Position, UnreadableCursor>),
}

/// The text of a `Last-Event-ID` that is no cursor of the channel.
///
/// An `EventSource` that gets an error status never reconnects, so the text is not an error of the
/// request. It is reported in a gap, cut to a length that is safe to send back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableCursor(String);

impl UnreadableCursor {
    /// Keeps the beginning of `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.chars().take(SHOWN_CHARS_MAX).collect())
    }
}

impl fmt::Display for UnreadableCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which events [`StartAt::Last`] counts, and how far back it looks for them.
#[derive(Debug, Clone, Copy)]
pub struct LastSearch<'a> {
    /// Only events that pass this filter count.
    pub filter: &'a Filter,
    /// Only events up to this id count; all events if there is none.
    pub until: Option<EventId>,
    /// The search stops at these limits.
    pub limits: PageLimits,
    /// Who searches.
    pub searcher: &'a Searcher,
}

/// Resolves a start to a position in `channel`.
///
/// [`StartAt::Last`] resolves to the n-th newest event that passes the filter. The search stops at
/// the limits of `search` and then returns the oldest match. [`StartAt::Resume`] returns the
/// client's `Last-Event-ID` (WHATWG HTML §9.2.4) without reading the log, because the first page
/// read proves continuity. For a cursor that is unreadable it returns `@0-0`, which no event has.
///
/// # Errors
///
/// - [`BrokerError::Unavailable`]: the broker did not answer. The caller can retry.
/// - [`BrokerError::TooManySearches`]: the search waited too long for its turn.
/// - [`BrokerError::Damaged`]: the log is unreadable at this position. A retry does not help.
pub async fn resolve_start(
    broker: &Broker,
    channel: &Channel,
    start: &StartAt,
    search: LastSearch<'_>,
) -> Result<Position, BrokerError> {
    match start {
        StartAt::Now | StartAt::Last(0) => {
            let last = broker.last_id_for(channel, search.searcher.client()).await;
            last.map(Position::After)
        }
        StartAt::Oldest => position_before_first(broker, channel, ReadFrom::Oldest, search).await,
        StartAt::Since(ms) => {
            position_before_first(broker, channel, ReadFrom::Time(*ms), search).await
        }
        StartAt::Last(count) => position_before_last(broker, channel, *count, search).await,
        StartAt::Resume(cursor) => Ok(*cursor.as_ref().unwrap_or(&UNKNOWN_POSITION)),
    }
}

/// Returns the position right before the first event that `from` reads.
///
/// The read waits for its turn like a search, because the event can be large.
async fn position_before_first(
    broker: &Broker,
    channel: &Channel,
    from: ReadFrom,
    search: LastSearch<'_>,
) -> Result<Position, BrokerError> {
    let turn = search.searcher.start_page(ONE_EVENT.events_max).await?;
    let page = broker.read(channel, from, ONE_EVENT).await?;
    turn.finish(page.events.len());
    Ok(match (page.start, from, page.events.first()) {
        // The oldest events are damaged, which the client must learn from a gap.
        (Continuity::Gap { .. }, ReadFrom::Oldest, _) => UNKNOWN_POSITION,
        // This position is older than the oldest event, so each read from it reports `trimmed`.
        (Continuity::Gap { .. }, ReadFrom::Time(ms), _) => Position::At(EventId::new(ms, 0)),
        (_, _, Some(event)) => Position::At(event.id),
        (_, _, None) => Position::After(page.last),
    })
}

/// Returns the position right before the `count` newest events that match the search.
async fn position_before_last(
    broker: &Broker,
    channel: &Channel,
    count: usize,
    search: LastSearch<'_>,
) -> Result<Position, BrokerError> {
    let mut scan = BackwardScan::new(search.filter, count, search.limits);
    let newest = search.until.and_then(EventId::next);
    let read_back = async |before, limits: PageLimits| {
        let turn = search.searcher.start_page(limits.events_max).await?;
        let page = broker.read_back(channel, before, limits).await?;
        turn.finish(page.events.len());
        Ok::<_, BrokerError>(page)
    };
    let mut page = read_back(newest, scan.next_page()).await?;
    let head = page.last;
    while scan.add_page(&page) {
        let before = page.events.last().map(|event| event.id);
        page = read_back(before, scan.next_page()).await?;
    }
    if scan.missing > 0 && !page.more {
        // The search reached the start of the log; damaged events there might have matched.
        let oldest = position_before_first(broker, channel, ReadFrom::Oldest, search).await?;
        if oldest == UNKNOWN_POSITION {
            return Ok(oldest);
        }
    }
    Ok(scan
        .oldest_match
        .map_or(Position::After(head), Position::At))
}

/// A search backwards for the newest events that pass a filter.
struct BackwardScan<'a> {
    filter: &'a Filter,
    /// Matches still to be found; more than zero while the scan runs.
    missing: usize,
    oldest_match: Option<EventId>,
    /// Events and bytes that the scan may still read.
    left: PageLimits,
}

impl<'a> BackwardScan<'a> {
    const fn new(filter: &'a Filter, count: usize, limits: PageLimits) -> Self {
        Self {
            filter,
            missing: count,
            oldest_match: None,
            left: limits,
        }
    }

    /// Returns the limits of the next read. Without a filter the scan reads no more than it needs.
    fn next_page(&self) -> PageLimits {
        let needed = if self.filter.is_all() {
            self.missing
        } else {
            usize::MAX
        };
        PageLimits {
            events_max: SCAN_PAGE.events_max.min(self.left.events_max).min(needed),
            bytes_max: SCAN_PAGE.bytes_max.min(self.left.bytes_max),
        }
    }

    /// Counts the matches of a page. Returns `true` if the scan needs another page.
    fn add_page(&mut self, page: &BackPage) -> bool {
        for event in &page.events {
            self.left.events_max = self.left.events_max.saturating_sub(1);
            self.left.bytes_max = self.left.bytes_max.saturating_sub(event.size());
            if event.is_event() && self.filter.passes(&event.kind) {
                self.oldest_match = Some(event.id);
                self.missing -= 1;
                if self.missing == 0 {
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

    /// Scans a log of events of type `b` (true) or `a`, in pages as a broker reads them.
    ///
    /// Returns the number of the oldest match, and how many events were read.
    fn scan_log(
        log: &[bool],
        only_b: bool,
        count: usize,
        limits: PageLimits,
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
        let mut scan = BackwardScan::new(&filter, count, limits);
        let mut read = 0;
        loop {
            let limits = scan.next_page();
            let count = limits.fit(rest.iter().rev().map(Stored::size));
            let mut events = rest.split_off(rest.len() - count);
            events.reverse();
            read += count;
            let page = BackPage {
                events,
                more: !rest.is_empty(),
                last: EventId::new(log.len() as u64, 0),
            };
            if !scan.add_page(&page) {
                let oldest_match = scan.oldest_match.and_then(|id| usize::try_from(id.ms).ok());
                return (oldest_match, read);
            }
        }
    }

    proptest! {
        #[test]
        fn it_finds_the_newest_that_match_and_reads_no_more_than_needed(
            log in prop::collection::vec(any::<bool>(), 0..3000),
            only_b: bool,
            count in 1_usize..2000,
        ) {
            let matching: Vec<usize> = log
                .iter()
                .zip(1..)
                .filter(|(is_b, _)| **is_b || !only_b)
                .map(|(_, nth)| nth)
                .collect();
            let expected = matching.iter().rev().take(count).next_back().copied();
            let (found, read) = scan_log(&log, only_b, count, SCAN_LIMITS);
            prop_assert_eq!(found, expected);
            let enough = if matching.len() < count {
                log.len()
            } else {
                log.len() + 1 - expected.unwrap_or(0)
            };
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
        assert_eq!(scan_log(&log, true, 2, events), (Some(4901), 1500));
        let bytes = PageLimits {
            bytes_max: 1500 * 9,
            ..SCAN_LIMITS
        };
        assert_eq!(scan_log(&log, true, 2, bytes), (Some(4901), 1500));
        assert_eq!(scan_log(&[false; 5000], true, 2, events), (None, 1500));
        assert_eq!(scan_log(&log, true, 2, SCAN_LIMITS).0, Some(101));
    }

    #[test]
    fn an_unreadable_cursor_keeps_its_first_64_characters() {
        let shown = UnreadableCursor::new(&"é".repeat(500)).to_string();
        assert_eq!(shown, "é".repeat(64));
    }
}
