//! What a subscription does about events that are missing.

use sse_proto::{Position, api::Gap};

use super::{Envelope, Page, Subscription, lost_tail::LostTail, progress::Progress};
use crate::channel::gap::{gap_after_unreadable, gap_before_page};

impl Subscription {
    /// Whether a gap ends the subscription, because its client cannot understand one. A client that
    /// reconnects is rejected then.
    pub(super) fn ends_at_gaps(&self) -> bool {
        self.envelope == Envelope::Data
    }

    /// Returns the gap before the page, if the page does not continue the position, and the
    /// position that the client gets with it.
    ///
    /// That is *at* the oldest event, so that the next reconnect neither loses nor repeats the gap
    /// or the event.
    pub(super) fn note_gap_before(&mut self, page: &Page) -> Option<(Position, Gap)> {
        let gap = self.gap_before(page)?;
        let lost_tail = LostTail::after_gap(self.lost_tail.as_deref(), &gap, self.newest_sent);
        if let Some(lost_tail) = lost_tail {
            self.lost_tail = Some(Box::new(lost_tail));
        }
        let position = gap.oldest.map_or(Position::After(page.last), Position::At);
        self.sent_position = Some(position);
        Some((position, gap))
    }

    pub(super) fn gap_before(&self, page: &Page) -> Option<Gap> {
        if let Progress::Unreadable(unreadable) = &self.progress {
            return Some(gap_after_unreadable(
                &self.channel,
                unreadable.to_string(),
                page,
            ));
        }
        gap_before_page(&self.channel, self.position().to_string(), page)
    }
}
