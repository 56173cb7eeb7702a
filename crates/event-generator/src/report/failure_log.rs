//! Messages about failed events: at most one per kind and second, with the number of suppressed
//! ones.
//!
//! Pure: the caller prints the messages.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use sse_cli::log_throttle::LogThrottle;

use crate::publisher::{FailureKind, Outcome};

/// Shortest time between two messages of a kind.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Limits the messages about failures.
#[derive(Debug)]
pub(crate) struct FailureLog {
    /// Hint for a run whose first event finds no server. It is shown at most once.
    hint: Option<String>,
    /// Per kind, of which there are few.
    throttles: BTreeMap<FailureKind, LogThrottle>,
}

impl FailureLog {
    /// Starts with the hint for a run whose first event finds no server.
    pub(crate) fn new(hint: String) -> Self {
        Self {
            hint: Some(hint),
            throttles: BTreeMap::new(),
        }
    }

    /// Returns the message about the events of a request; `None` if it is suppressed.
    pub(crate) fn message_for(
        &mut self,
        sequences: Range<u64>,
        outcome: &Outcome,
        now: Instant,
    ) -> Option<String> {
        let hint = self.hint.take();
        let (verdict, failure) = match outcome {
            Outcome::Acknowledged(_) => return None,
            Outcome::NotStored(failure) => ("failed", failure),
            Outcome::Unknown(failure) => ("may or may not be stored", failure),
        };
        let kind = failure.kind();
        let count = sequences.end.saturating_sub(sequences.start);
        let throttle = self.throttles.entry(kind);
        let throttle = throttle.or_insert_with(|| LogThrottle::every(LOG_INTERVAL));
        let suppressed = throttle.record_many(count, now)?;
        let line = format!("{} {verdict}: {failure}", name_events(&sequences));
        Some(match (kind, hint) {
            (FailureKind::Connect, Some(hint)) => format!("{line}\n{hint}"),
            _ if suppressed > 0 => {
                format!("{line} ({suppressed} more like it since the last message)")
            }
            _ => line,
        })
    }

    /// Drops the hint: an event was acknowledged, so there is a server.
    pub(crate) fn record_success(&mut self) {
        self.hint = None;
    }

    /// Returns the number of events that no message has mentioned.
    pub(crate) fn suppressed(&self) -> u64 {
        self.throttles.values().map(LogThrottle::suppressed).sum()
    }
}

fn name_events(sequences: &Range<u64>) -> String {
    let (first, last) = (sequences.start, sequences.end.saturating_sub(1));
    if first == last {
        format!("event {first}")
    } else {
        format!("events {first} to {last}")
    }
}

#[cfg(test)]
mod tests {
    use sse_proto::EventId;

    use super::*;
    use crate::publisher::{Failure, Ids};

    fn not_stored() -> Outcome {
        Outcome::NotStored(Failure::Connect("refused".to_owned()))
    }

    fn acknowledged() -> Outcome {
        Outcome::Acknowledged(Ids::Event(EventId::ZERO))
    }

    fn new_log() -> FailureLog {
        FailureLog::new("start a server".to_owned())
    }

    #[test]
    fn a_kind_has_one_message_per_second_which_counts_the_suppressed_ones() {
        let (mut log, start) = (new_log(), Instant::now());
        log.message_for(0..1, &acknowledged(), start);
        let mut message_at = |first, ms| {
            log.message_for(
                first..first + 1,
                &not_stored(),
                start + Duration::from_millis(ms),
            )
        };
        assert_eq!(
            message_at(1, 0).as_deref(),
            Some("event 1 failed: no connection: refused")
        );
        assert_eq!((message_at(2, 1), message_at(3, 999)), (None, None));
        let later = message_at(4, 1000);
        assert_eq!(
            later.as_deref(),
            Some("event 4 failed: no connection: refused (2 more like it since the last message)")
        );
        assert_eq!((message_at(5, 1001), log.suppressed()), (None, 1));
    }

    #[test]
    fn one_kind_does_not_suppress_another() {
        let (mut log, now) = (new_log(), Instant::now());
        assert!(log.message_for(0..1, &not_stored(), now).is_some());
        let unknown = Outcome::Unknown(Failure::Broken("reset".to_owned()));
        let line = log.message_for(1..4, &unknown, now);
        assert_eq!(
            line.as_deref(),
            Some(
                "events 1 to 3 may or may not be stored: the connection broke before the response: reset"
            )
        );
    }

    #[test]
    fn the_hint_is_shown_once_and_only_if_the_first_event_finds_no_server() {
        let start = Instant::now();
        let mut lost = new_log();
        assert!(
            lost.message_for(0..1, &not_stored(), start)
                .is_some_and(|line| line.ends_with("\nstart a server"))
        );
        assert!(
            lost.message_for(1..2, &not_stored(), start + 2 * LOG_INTERVAL)
                .is_some_and(|line| !line.contains("start a server"))
        );

        let mut found = new_log();
        assert_eq!(found.message_for(0..1, &acknowledged(), start), None);
        assert!(
            found
                .message_for(1..2, &not_stored(), start)
                .is_some_and(|line| !line.contains("start a server"))
        );
    }
}
