//! Reasons for missing events: what happened on the connection between two events.

use std::ops::Range;

use serde::Serialize;

/// Counts of what can explain missing events on one connection.
///
/// Two events with different counts have an interruption between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Interruptions {
    /// Streams opened so far.
    pub(crate) opens: u32,
    /// Gaps announced by the server so far.
    pub(crate) gaps: u32,
}

impl Interruptions {
    /// Right after the first stream opened.
    pub(super) const FIRST_OPEN: Self = Self { opens: 1, gaps: 0 };

    /// What happened from here to `now`. A gap explains more than a reconnection.
    pub(super) const fn circumstance_until(self, now: Self) -> Circumstance {
        if now.gaps != self.gaps {
            Circumstance::Announced
        } else if now.opens != self.opens {
            Circumstance::AcrossReconnect
        } else {
            Circumstance::WhileOpen
        }
    }
}

/// What happened where events are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Circumstance {
    /// The server announced that events may be missing here.
    Announced,
    /// The connection was cut and resumed here.
    AcrossReconnect,
    /// The stream continued as if nothing were missing.
    WhileOpen,
}

/// A range of sequence numbers that were not received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) numbers: Range<u64>,
    pub(crate) circumstance: Circumstance,
}

impl Hole {
    /// Number of events in the hole.
    pub(super) const fn len(&self) -> u64 {
        self.numbers.end - self.numbers.start
    }

    /// The part of the hole below `end`. Returns `None` if that part is empty.
    pub(super) fn clip_to(&self, end: u64) -> Option<Self> {
        let numbers = self.numbers.start..self.numbers.end.min(end);
        (!numbers.is_empty()).then_some(Self {
            numbers,
            circumstance: self.circumstance,
        })
    }
}
