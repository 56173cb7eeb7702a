//! The result of a sequence tracker: what is lost, repeated or out of order.

use std::ops::Range;

use serde::Serialize;

use super::interruptions::{Circumstance, Hole, Interruptions};

/// Number of lost events, by circumstance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LostCounts {
    pub(crate) total: u64,
    /// Lost where the server announced a gap.
    pub(crate) announced: u64,
    /// Lost between a cut and the resumption.
    pub(crate) across_reconnect: u64,
    /// Lost in the middle of a stream.
    pub(crate) while_open: u64,
}

impl LostCounts {
    pub(super) fn add_hole(&mut self, hole: &Hole) {
        let by_circumstance = match hole.circumstance {
            Circumstance::Announced => &mut self.announced,
            Circumstance::AcrossReconnect => &mut self.across_reconnect,
            Circumstance::WhileOpen => &mut self.while_open,
        };
        *by_circumstance = by_circumstance.saturating_add(hole.len());
        self.total = self.total.saturating_add(hole.len());
    }

    /// These counts and the events of `holes`.
    pub(super) fn with_holes(mut self, holes: &[Hole]) -> Self {
        for hole in holes {
            self.add_hole(hole);
        }
        self
    }

    /// Adds the counts of another connection.
    pub(crate) fn add_counts(&mut self, other: &Self) {
        self.total = self.total.saturating_add(other.total);
        self.announced = self.announced.saturating_add(other.announced);
        self.across_reconnect = self.across_reconnect.saturating_add(other.across_reconnect);
        self.while_open = self.while_open.saturating_add(other.while_open);
    }
}

/// What a connection received of a publisher's events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) lost: LostCounts,
    /// The missing ranges that are still known one by one.
    pub(crate) holes: Vec<Hole>,
    /// Number of missing ranges that are not in `holes`.
    pub(crate) holes_unlisted: u64,
    /// Events that were received again.
    pub(crate) twice: u64,
    /// The first ranges of repeated events.
    pub(crate) twice_listed: Vec<Range<u64>>,
    /// Events that were received for the first time, but after a higher number.
    pub(crate) out_of_order: u64,
    /// Events that came too late to know whether they are repeated.
    pub(crate) unjudged: u64,
}

impl Verdict {
    /// All events are lost: the connection received none of `first..=last`.
    pub(crate) fn nothing_received(first: u64, last: u64, interruptions: Interruptions) -> Self {
        let holes = vec![Hole {
            numbers: first..last.saturating_add(1),
            circumstance: Interruptions::FIRST_OPEN.circumstance_until(interruptions),
        }];
        Self {
            lost: LostCounts::default().with_holes(&holes),
            holes,
            ..Self::default()
        }
    }

    /// Returns `true` if every event was received once and in order.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.total == 0 && self.twice == 0 && self.out_of_order == 0 && self.unjudged == 0
    }
}
