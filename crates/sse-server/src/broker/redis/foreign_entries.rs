//! Reads past foreign entries, and logs them.
//!
//! A read begins with an event or ends with the stream. It continues while all entries of a reply
//! are foreign, so that a long run of them hides no event that follows.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sse_cli::log_throttle::LogThrottle;
use sse_proto::{Channel, EventId, api::GapReason};

use super::{
    entries::Entry,
    forward_read::{ForwardRead, Run},
};
use crate::broker::{BrokerError, Continuity, Stored};

/// Anyone who can write to Redis can cause the lines, so they are limited.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Logs foreign entries.
#[derive(Debug)]
pub(super) struct ForeignEntryLog(Mutex<LogThrottle>);

impl Default for ForeignEntryLog {
    fn default() -> Self {
        Self(Mutex::new(LogThrottle::every(LOG_INTERVAL)))
    }
}

impl ForeignEntryLog {
    /// Logs that a read has skipped the entry `id`.
    pub(super) fn record(&self, channel: &Channel, id: EventId) {
        let mut throttle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = throttle.record(Instant::now()) {
            tracing::warn!(
                %channel, %id, suppressed,
                "skipped an entry in Redis that no sse-server wrote; subscribers receive a gap \
                 (logged at most once per minute)"
            );
        }
    }
}

/// Entries of which the foreign ones were removed.
pub(super) struct ForwardRun {
    /// How the events continue the position.
    pub(super) start: Continuity,
    /// The events in id order, up to the first foreign entry between them.
    pub(super) events: Vec<Stored>,
    /// Whether the events end before a foreign entry, or the reply was full.
    pub(super) more: bool,
    /// The last id ever assigned, as far as this read has seen.
    pub(super) last: EventId,
}

impl ForwardRead<'_> {
    /// Reads on until the run begins with an event or ends with the stream, and cuts it before the
    /// first foreign entry that follows an event.
    pub(super) async fn skip_foreign(&mut self, mut run: Run) -> Result<ForwardRun, BrokerError> {
        let mut skipped = None;
        while let Some(last) = remove_leading_foreign(&mut run.entries) {
            skipped = Some(last);
            run.last = run.last.max(last);
            if !run.entries.is_empty() || !run.is_full {
                break;
            }
            (run.entries, run.is_full) = self.entries_after(last).await?;
        }
        if let Some(id) = skipped {
            self.log_foreign(id);
            run.start = after_foreign(run.start, &run.entries);
        }
        Ok(cut_before_foreign(run))
    }
}

/// Removes the foreign entries at the start; returns the id of the last one.
fn remove_leading_foreign(entries: &mut Vec<Entry>) -> Option<EventId> {
    let leading = entries.iter().take_while(|entry| entry.is_foreign());
    let count = leading.count();
    entries.drain(..count).next_back().map(|entry| entry.id())
}

/// How `entries` continue a position that is before foreign entries.
fn after_foreign(start: Continuity, entries: &[Entry]) -> Continuity {
    let oldest = entries.first().map(Entry::id);
    match start {
        // The range of a loss is more exact.
        Continuity::Gap {
            reason,
            lost: lost @ Some(_),
            ..
        } => Continuity::Gap {
            reason,
            oldest,
            lost,
        },
        Continuity::Contiguous | Continuity::Gap { .. } => Continuity::Gap {
            reason: GapReason::Damaged,
            oldest,
            lost: None,
        },
    }
}

fn cut_before_foreign(run: Run) -> ForwardRun {
    let count = run.entries.len();
    let stored = run.entries.into_iter().map_while(Entry::into_stored);
    let events: Vec<Stored> = stored.collect();
    ForwardRun {
        start: run.start,
        more: run.is_full || events.len() < count,
        events,
        last: run.last,
    }
}

#[cfg(test)]
mod tests {
    use sse_proto::api::Lost;

    use super::*;

    fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    fn event(ms: u64) -> Entry {
        Entry::Stored(Stored {
            id: id(ms),
            kind: "click".into(),
            data: "x".into(),
        })
    }

    fn foreign(ms: u64) -> Entry {
        Entry::Foreign(id(ms))
    }

    #[test]
    fn leading_foreign_entries_are_removed() {
        for (mut entries, last, left) in [
            (vec![event(1), foreign(2)], None, 2),
            (vec![foreign(1), foreign(2), event(3)], Some(id(2)), 1),
            (vec![foreign(1)], Some(id(1)), 0),
            (vec![], None, 0),
        ] {
            assert_eq!(remove_leading_foreign(&mut entries), last);
            assert_eq!(entries.len(), left);
        }
    }

    #[test]
    fn foreign_entries_are_damage_unless_the_gap_has_the_range_of_a_loss() {
        let gap = |reason, oldest, lost| Continuity::Gap {
            reason,
            oldest,
            lost,
        };
        let damaged = gap(GapReason::Damaged, Some(id(3)), None);
        let unknown = gap(GapReason::Unknown, Some(id(1)), None);
        for start in [Continuity::Contiguous, unknown] {
            assert_eq!(after_foreign(start, &[event(3)]), damaged);
        }
        let lost = Some(Lost {
            after: id(1),
            before: id(9),
        });
        let lost_tail = gap(GapReason::LostTail, Some(id(1)), lost);
        assert_eq!(
            after_foreign(lost_tail, &[]),
            gap(GapReason::LostTail, None, lost)
        );
    }

    #[test]
    fn events_end_before_a_foreign_entry_and_more_follows() {
        let run = |entries, is_full| Run {
            start: Continuity::Contiguous,
            entries,
            is_full,
            last: id(9),
        };
        for (entries, is_full, events, more) in [
            (vec![event(1), event(2)], false, 2, false),
            (vec![event(1), event(2)], true, 2, true),
            (vec![event(1), foreign(2), event(3)], false, 1, true),
        ] {
            let cut = cut_before_foreign(run(entries, is_full));
            assert_eq!((cut.events.len(), cut.more), (events, more));
        }
    }
}
