//! Checks that records form a chain: each event names the event before it in its channel.
//!
//! ```text
//! record    1-0 (before: 0-0)   1-1 (before: 1-0)   damaged   1-3 (before: 1-2)
//! page 1    1-0, 1-1; ends before the damage
//! page 2    starts with a gap, because 1-3 names 1-2 and not 1-1
//! ```
//!
//! A read can therefore prove that no event is missing between two events, without a count. These
//! types know no table: the reader feeds them with decoded records.

use std::ops::ControlFlow;

use sse_proto::EventId;

use crate::broker::{PageLimits, Stored};

/// Collects consecutive events after a position, until a limit or a hole.
#[derive(Debug)]
pub(super) struct Chain {
    run: Run,
    limits: PageLimits,
    bytes: usize,
    /// The last collected event, or the position.
    end: EventId,
}

/// Consecutive events.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// True if nothing lies between the position and the first event, or the end of the log.
    pub(super) is_joined: bool,
    /// The events in id order.
    pub(super) events: Vec<Stored>,
    /// True if events or damaged records follow.
    pub(super) more: bool,
}

impl Chain {
    /// Starts a chain after `position`.
    pub(super) const fn after(position: EventId, limits: PageLimits) -> Self {
        Self {
            run: Run {
                is_joined: true,
                events: Vec::new(),
                more: false,
            },
            limits,
            bytes: 0,
            end: position,
        }
    }

    /// Returns the last collected event, or the position.
    pub(super) const fn end(&self) -> EventId {
        self.end
    }

    /// Returns true if the chain is past `id`. A damaged tree can return a record twice.
    pub(super) fn has_passed(&self, id: EventId) -> bool {
        id <= self.end
    }

    /// Returns true if the chain has no event yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.run.events.is_empty()
    }

    /// Adds an event whose record names `previous`. Breaks if the page ends before the event.
    pub(super) fn push(&mut self, event: Stored, previous: EventId) -> ControlFlow<()> {
        if self.is_empty() {
            self.run.is_joined = previous <= self.end;
        } else if previous > self.end || !self.has_room(event.size()) {
            return ControlFlow::Break(());
        }
        self.collect(event);
        ControlFlow::Continue(())
    }

    const fn has_room(&self, size: usize) -> bool {
        let count = self.run.events.len();
        self.limits.has_room(count, self.bytes, size)
    }

    fn collect(&mut self, event: Stored) {
        self.end = event.id;
        self.bytes += event.size();
        self.run.events.push(event);
    }

    /// Returns the run. `newest` is the newest event of the channel, or `None` if it has none.
    pub(super) fn finish(self, newest: Option<EventId>) -> Run {
        let more = newest.is_some_and(|newest| self.end < newest);
        if more && self.is_empty() {
            // Every record up to the end of the log is damaged, so another read would find nothing.
            return Run {
                is_joined: false,
                ..self.run
            };
        }
        Run { more, ..self.run }
    }
}

/// Collects events backwards, until a limit. It skips damaged records.
#[derive(Debug)]
pub(super) struct BackChain {
    limits: PageLimits,
    bytes: usize,
    /// The events, newest first.
    pub(super) events: Vec<Stored>,
}

impl BackChain {
    pub(super) const fn new(limits: PageLimits) -> Self {
        Self {
            limits,
            bytes: 0,
            events: Vec::new(),
        }
    }

    /// Returns true if the chain is past `id`. A damaged tree can return a record twice.
    fn has_passed(&self, id: EventId) -> bool {
        self.events.last().is_some_and(|newer| id >= newer.id)
    }

    /// Adds an older event. Breaks if the page ends before the event.
    pub(super) fn push(&mut self, event: Stored) -> ControlFlow<()> {
        if self.has_passed(event.id) {
            return ControlFlow::Continue(());
        }
        let size = event.size();
        if !self.limits.has_room(self.events.len(), self.bytes, size) {
            return ControlFlow::Break(());
        }
        self.bytes += size;
        self.events.push(event);
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PageLimits = PageLimits {
        events_max: 3,
        bytes_max: 100,
    };

    fn id(seq: u64) -> EventId {
        EventId::new(1, seq)
    }

    fn event(seq: u64) -> Stored {
        Stored {
            id: id(seq),
            kind: "click".into(),
            data: "x".into(),
        }
    }

    /// Feeds events with the ids that they name, and returns what the chain makes of them.
    fn run(position: u64, records: &[(u64, u64)], newest: u64) -> (bool, Vec<u64>, bool) {
        let mut chain = Chain::after(id(position), LIMITS);
        for (seq, previous) in records {
            if !chain.has_passed(id(*seq)) && chain.push(event(*seq), id(*previous)).is_break() {
                break;
            }
        }
        let run = chain.finish(Some(id(newest)));
        let seqs = run.events.iter().map(|event| event.id.seq).collect();
        (run.is_joined, seqs, run.more)
    }

    #[test]
    fn a_chain_without_a_hole_is_one_run_up_to_the_limits() {
        assert_eq!(run(0, &[(1, 0), (2, 1)], 2), (true, vec![1, 2], false));
        let four = [(1, 0), (2, 1), (3, 2), (4, 3)];
        assert_eq!(run(0, &four, 4), (true, vec![1, 2, 3], true));
    }

    #[test]
    fn a_run_ends_at_a_hole_and_the_next_run_is_not_joined() {
        let with_hole = [(1, 0), (2, 1), (4, 3)];
        assert_eq!(run(0, &with_hole, 4), (true, vec![1, 2], true));
        assert_eq!(run(2, &with_hole[2..], 4), (false, vec![4], false));
    }

    #[test]
    fn a_record_that_comes_twice_is_skipped() {
        let twice = [(1, 0), (2, 1), (1, 0), (3, 2)];
        assert_eq!(run(0, &twice, 3), (true, vec![1, 2, 3], false));
    }

    #[test]
    fn a_damaged_rest_of_the_log_is_a_gap_without_more() {
        assert_eq!(run(1, &[], 3), (false, vec![], false));
        assert_eq!(run(3, &[], 3), (true, vec![], false));
        let empty = Chain::after(id(1), LIMITS).finish(None);
        assert!(empty.is_joined && !empty.more);
    }

    #[test]
    fn backwards_a_page_ends_at_its_limits_and_skips_what_comes_twice() {
        let mut chain = BackChain::new(LIMITS);
        let ended: Vec<bool> = [5, 4, 5, 3, 2]
            .map(|seq| chain.push(event(seq)).is_break())
            .to_vec();
        assert_eq!(ended, [false, false, false, false, true]);
        let seqs: Vec<u64> = chain.events.iter().map(|event| event.id.seq).collect();
        assert_eq!(seqs, [5, 4, 3]);
    }
}
