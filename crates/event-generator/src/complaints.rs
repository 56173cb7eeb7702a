//! What to say about events that failed: at most one message of a kind a second, and how many were held back.
//!
//! Pure: it gives the lines, the caller prints them.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use crate::outcome::{Kind, Outcome};

/// A kind that was just spoken of is held back for this long.
const QUIET: Duration = Duration::from_secs(1);

/// Remembers what was said.
#[derive(Debug)]
pub(crate) struct Complaints {
    /// What to do if the very first event finds no server. Said at most once.
    advice: Option<String>,
    /// When each kind was last spoken of, and how many of it were held back since. There are few kinds.
    kinds: BTreeMap<Kind, (Instant, u64)>,
}

impl Complaints {
    /// With the advice for a run whose first event finds no server.
    pub(crate) fn new(advice: String) -> Self {
        Self {
            advice: Some(advice),
            kinds: BTreeMap::new(),
        }
    }

    /// The line to print about the events of a request, if one is due.
    pub(crate) fn about(
        &mut self,
        sequences: Range<u64>,
        outcome: &Outcome,
        now: Instant,
    ) -> Option<String> {
        let advice = self.advice.take();
        let (verdict, failure) = match outcome {
            Outcome::Acknowledged(_) => return None,
            Outcome::Refused(failure) => ("failed", failure),
            Outcome::Unknown(failure) => ("may or may not be stored", failure),
        };
        let kind = failure.kind();
        let count = sequences.end.saturating_sub(sequences.start);
        let held_back = self.admit(kind, count, now)?;
        let line = match count {
            1 => format!("event {} {verdict}: {failure}", sequences.start),
            _ => format!(
                "events {} to {} {verdict}: {failure}",
                sequences.start,
                sequences.end.saturating_sub(1)
            ),
        };
        Some(match (kind, advice) {
            (Kind::Connect, Some(advice)) => format!("{line}\n{advice}"),
            _ if held_back > 0 => {
                format!("{line} ({held_back} more like it since the last message)")
            }
            _ => line,
        })
    }

    /// An event was acknowledged: there is a server, and no need for advice any more.
    pub(crate) fn calm(&mut self) {
        self.advice = None;
    }

    /// How many events were held back and not told of since.
    pub(crate) fn untold(&self) -> u64 {
        self.kinds.values().map(|(_, held_back)| held_back).sum()
    }

    /// Whether to speak of this kind now, and how many were held back before.
    fn admit(&mut self, kind: Kind, events: u64, now: Instant) -> Option<u64> {
        match self.kinds.get_mut(&kind) {
            Some((told, held_back)) if now.duration_since(*told) < QUIET => {
                *held_back += events;
                None
            }
            Some(quiet) => Some(std::mem::replace(quiet, (now, 0)).1),
            None => {
                self.kinds.insert(kind, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sse_proto::EventId;

    use super::*;
    use crate::outcome::{Failure, Ids};

    fn refused() -> Outcome {
        Outcome::Refused(Failure::Connect("refused".to_owned()))
    }

    fn acknowledged() -> Outcome {
        Outcome::Acknowledged(Ids::One(EventId::ZERO))
    }

    fn complaints() -> Complaints {
        Complaints::new("start a server".to_owned())
    }

    #[test]
    fn a_kind_is_spoken_of_once_a_second_and_says_what_was_held_back() {
        let (mut complaints, start) = (complaints(), Instant::now());
        complaints.about(0..1, &acknowledged(), start);
        let mut about = |first, ms| {
            complaints.about(
                first..first + 1,
                &refused(),
                start + Duration::from_millis(ms),
            )
        };
        assert_eq!(
            about(1, 0).as_deref(),
            Some("event 1 failed: no connection: refused")
        );
        assert_eq!((about(2, 1), about(3, 999)), (None, None));
        let later = about(4, 1000);
        assert_eq!(
            later.as_deref(),
            Some("event 4 failed: no connection: refused (2 more like it since the last message)")
        );
        assert_eq!((about(5, 1001), complaints.untold()), (None, 1));
    }

    #[test]
    fn one_kind_does_not_silence_another() {
        let (mut complaints, now) = (complaints(), Instant::now());
        assert!(complaints.about(0..1, &refused(), now).is_some());
        let unknown = Outcome::Unknown(Failure::Broken("reset".to_owned()));
        let line = complaints.about(1..4, &unknown, now);
        assert_eq!(
            line.as_deref(),
            Some(
                "events 1 to 3 may or may not be stored: the connection broke before the answer: reset"
            )
        );
    }

    #[test]
    fn advice_is_given_once_and_only_if_the_first_event_finds_no_server() {
        let start = Instant::now();
        let mut lost = complaints();
        assert!(
            lost.about(0..1, &refused(), start)
                .is_some_and(|line| line.ends_with("\nstart a server"))
        );
        assert!(
            lost.about(1..2, &refused(), start + 2 * QUIET)
                .is_some_and(|line| !line.contains("start a server"))
        );

        let mut found = complaints();
        assert_eq!(found.about(0..1, &acknowledged(), start), None);
        assert!(
            found
                .about(1..2, &refused(), start)
                .is_some_and(|line| !line.contains("start a server"))
        );
    }
}
