//! What is done with each item of a stream: it is counted, timed, and entered into its connection's sequences.

use std::time::{Duration, Instant, SystemTime};

use sse_proto::api::Gap;

use super::{
    events::{EventRef, Item},
    figures::{Figures, count_kind},
    publishers::{ConnectionSequences, NumberedEvent, Publishers},
    sequence_tracker::Interruptions,
    stamp::with_stamp,
};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) figures: Figures,
    pub(crate) publishers: Publishers,
    pub(crate) rules: Rules,
}

/// What is asked about the events.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// The key of the time at which an event was sent, instead of our own stamp.
    pub(crate) time_field: Option<String>,
    /// Numbers are to be judged: no filter makes holes.
    pub(crate) judged: bool,
    /// Events after which a connection is done.
    pub(crate) count: Option<u64>,
}

/// What a connection has got so far.
#[derive(Debug, Default)]
pub(crate) struct Got {
    pub(crate) events: u64,
    pub(crate) interruptions: Interruptions,
    pub(crate) sequences: ConnectionSequences,
}

impl Got {
    /// It has all that it is to get.
    pub(crate) fn is_enough(&self, rules: &Rules) -> bool {
        rules.count.is_some_and(|count| self.events >= count)
    }

    /// Takes an item of its stream, read at `now`, which is `now_us` by the clock.
    pub(crate) fn take(&mut self, item: Item<'_>, shared: &mut Shared, now: Instant, now_us: u64) {
        let figures = &mut shared.figures;
        match item {
            _ if self.is_enough(&shared.rules) => {}
            Item::Comment(_) => figures.comments += 1,
            Item::Event(event) => match gap(event) {
                Some(gap) => {
                    self.interruptions.gaps = self.interruptions.gaps.wrapping_add(1);
                    count_kind(&mut figures.gaps, gap.reason.as_str());
                }
                None => self.take_event(event, shared, now, now_us),
            },
        }
    }

    fn take_event(&mut self, event: EventRef<'_>, shared: &mut Shared, now: Instant, now_us: u64) {
        let Shared {
            figures,
            publishers,
            rules,
        } = shared;
        self.events += 1;
        figures.events += 1;
        figures.data_bytes += event.data.len() as u64;
        figures.types.count(event.kind);
        with_stamp(event.data, rules.time_field.as_deref(), |stamp| {
            if let Some(sent_us) = stamp.sent_us {
                figures.count_latency(sent_us, now_us);
            }
            if let Some((publisher, number)) = stamp.sequenced.filter(|_| rules.judged) {
                let event = NumberedEvent {
                    publisher: &publisher,
                    number,
                    sent_us: stamp.sent_us,
                };
                self.sequences
                    .record(publishers, event, self.interruptions, now);
            }
        });
    }
}

/// The gap that an event of our server tells, as [`crate::gap`] sees it.
fn gap(event: EventRef<'_>) -> Option<Gap> {
    if event.kind == b"gap" && event.data.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice(event.data).ok()
    } else {
        None
    }
}

/// Microseconds since the Unix epoch, by this machine's clock.
pub(crate) fn wall_clock_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(rules: Rules) -> Shared {
        Shared {
            figures: Figures::new(),
            publishers: Publishers::default(),
            rules,
        }
    }

    fn take(got: &mut Got, shared: &mut Shared, kind: &str, data: &str) {
        let item = Item::Event(EventRef {
            id: b"",
            kind: kind.as_bytes(),
            data: data.as_bytes(),
        });
        got.take(item, shared, Instant::now(), 1_000);
    }

    #[test]
    fn an_event_is_counted_timed_and_entered() {
        let (mut got, mut shared) = (
            Got::default(),
            shared(Rules {
                judged: true,
                ..Rules::default()
            }),
        );
        take(
            &mut got,
            &mut shared,
            "click",
            r#"{"publisher":"p","sequence":3,"sent_us":990}"#,
        );
        take(&mut got, &mut shared, "click", "plain");
        got.take(Item::Comment(b""), &mut shared, Instant::now(), 1_000);
        let figures = &shared.figures;
        assert_eq!(
            (figures.events, figures.comments, figures.data_bytes),
            (2, 1, 49)
        );
        assert_eq!(
            (
                figures.latency.quantile_us(1.0),
                shared.publishers.list()[0].highest
            ),
            (10, 3)
        );
    }

    #[test]
    fn a_gap_of_ours_is_no_event_and_another_one_is() {
        let (mut got, mut shared) = (Got::default(), shared(Rules::default()));
        let ours = r#"{"channel":"sse","after":"1-0","oldest":"5-0","reason":"trimmed"}"#;
        take(&mut got, &mut shared, "gap", ours);
        take(&mut got, &mut shared, "gap", "5 mm");
        assert_eq!(
            (
                shared.figures.gaps["trimmed"],
                got.interruptions.gaps,
                got.events
            ),
            (1, 1, 1)
        );
    }

    #[test]
    fn numbers_are_not_judged_behind_a_filter() {
        let (mut got, mut shared) = (Got::default(), shared(Rules::default()));
        take(
            &mut got,
            &mut shared,
            "click",
            r#"{"publisher":"p","sequence":3,"sent_us":990}"#,
        );
        assert!(shared.publishers.list().is_empty());
    }

    #[test]
    fn enough_is_enough() {
        let (mut got, mut shared) = (
            Got::default(),
            shared(Rules {
                count: Some(2),
                ..Rules::default()
            }),
        );
        (0..5).for_each(|_| take(&mut got, &mut shared, "a", "b"));
        assert_eq!((got.events, shared.figures.events), (2, 2));
    }
}
