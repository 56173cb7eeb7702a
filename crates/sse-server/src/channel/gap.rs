//! Gap events: what a reader is sent in place of events that are missing before a page.
//!
//! The broker proves whether a page continues a position ([`Continuity`]). If it cannot, the reader
//! is sent a [`Gap`], which names the position, the reason, and the oldest event that follows. The
//! gaps of losses inside a page are records in the log, which are sent like events.

use sse_proto::{
    Channel, EventId,
    api::{Gap, GapReason},
};

use crate::broker::{Continuity, Page};

/// Returns the gap between a position and the page that was read from there.
///
/// Returns `None` if the page continues the position. `after` is the position as the reader sent
/// it.
pub(super) fn gap_before_page(channel: &Channel, after: String, page: &Page) -> Option<Gap> {
    let Continuity::Gap {
        reason,
        oldest,
        lost,
    } = page.start
    else {
        return None;
    };
    Some(Gap {
        channel: channel.clone(),
        after,
        oldest,
        reason,
        lost,
    })
}

/// Returns the gap of a reader whose cursor cannot be read, before the first page of the log.
pub(super) fn gap_after_unreadable(channel: &Channel, after: String, page: &Page) -> Gap {
    Gap {
        channel: channel.clone(),
        after,
        oldest: oldest_in(page),
        reason: GapReason::Unknown,
        lost: None,
    }
}

/// Returns the id of the first event of a page.
pub(super) fn oldest_in(page: &Page) -> Option<EventId> {
    page.events.first().map(|event| event.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Stored;

    fn page(start: Continuity) -> Page {
        let event = Stored {
            id: EventId::new(7, 0),
            kind: "click".into(),
            data: "7".into(),
        };
        Page {
            start,
            events: vec![event],
            more: false,
            last: EventId::new(7, 0),
        }
    }

    #[test]
    fn a_page_that_continues_the_position_has_no_gap_before_it() {
        let channel = Channel::default_channel();
        let page = page(Continuity::Contiguous);
        assert_eq!(gap_before_page(&channel, "6-0".to_owned(), &page), None);
    }

    #[test]
    fn a_gap_names_the_position_the_reason_and_the_oldest_event() {
        let channel = Channel::default_channel();
        let oldest = Some(EventId::new(7, 0));
        let page = page(Continuity::Gap {
            reason: GapReason::Trimmed,
            oldest,
            lost: None,
        });
        let gap = gap_before_page(&channel, "6-0".to_owned(), &page).unwrap();
        assert_eq!(
            (gap.after.as_str(), gap.reason, gap.oldest),
            ("6-0", GapReason::Trimmed, oldest)
        );
        let gap = gap_after_unreadable(&channel, "nonsense".to_owned(), &page);
        assert_eq!(
            (gap.after.as_str(), gap.reason, gap.oldest),
            ("nonsense", GapReason::Unknown, oldest)
        );
    }
}
