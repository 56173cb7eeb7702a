//! The publishers of numbered events, and the numbers that any connection received of each.

use std::{collections::HashMap, time::Instant};

/// Limit of publishers that are tracked. `event-generator` counts as one publisher per request that
/// it has in flight.
pub(super) const PUBLISHERS_MAX: usize = 4096;

/// All publishers of numbered events.
#[derive(Debug, Default)]
pub(crate) struct Publishers {
    known: Vec<Publisher>,
    by_name: HashMap<Box<str>, usize>,
    /// Events of publishers beyond [`PUBLISHERS_MAX`].
    pub(crate) unjudged_events: u64,
}

/// A publisher of numbered events.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) name: Box<str>,
    /// The highest number that any connection received.
    pub(crate) highest: u64,
    lowest: LowestEvent,
    /// The number that every connection must reach; set at the end of the run.
    pub(crate) target: Option<u64>,
}

/// The event with the lowest number that any connection received.
#[derive(Debug, Clone, Copy)]
struct LowestEvent {
    number: u64,
    /// When a connection received the event first.
    received: Instant,
    /// When the event was sent, in microseconds since the Unix epoch, if it has a stamp.
    sent_us: Option<u64>,
}

/// When a connection's stream opened for the first time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FirstOpen {
    pub(crate) at: Instant,
    /// The wall clock, in microseconds since the Unix epoch.
    pub(crate) at_us: u64,
}

/// A numbered event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberedEvent<'a> {
    pub(crate) publisher: &'a str,
    pub(crate) number: u64,
    /// When the event was sent, in microseconds since the Unix epoch, if it has a stamp.
    pub(crate) sent_us: Option<u64>,
}

impl Publishers {
    pub(crate) fn list(&self) -> &[Publisher] {
        &self.known
    }

    /// Ends the run: every connection must reach the highest number that any connection has
    /// received.
    pub(crate) fn set_targets(&mut self) {
        for publisher in &mut self.known {
            publisher.target = Some(publisher.highest);
        }
    }

    /// Records that a connection received `event`, and returns the index of its publisher.
    ///
    /// `likely` is the index to try first. Returns `None`, and counts the event as unjudged, if
    /// there are too many publishers.
    pub(super) fn observe(
        &mut self,
        likely: Option<usize>,
        event: NumberedEvent<'_>,
        now: Instant,
    ) -> Option<usize> {
        let is_publisher = |index: &usize| &*self.known[*index].name == event.publisher;
        let index = likely
            .filter(is_publisher)
            .or_else(|| self.by_name.get(event.publisher).copied())
            .or_else(|| self.add_publisher(event, now));
        match index {
            Some(index) => self.known[index].observe(event, now),
            None => self.unjudged_events += 1,
        }
        index
    }

    fn add_publisher(&mut self, event: NumberedEvent<'_>, now: Instant) -> Option<usize> {
        let index = self.known.len();
        if index == PUBLISHERS_MAX {
            return None;
        }
        self.by_name.insert(event.publisher.into(), index);
        self.known.push(Publisher {
            name: event.publisher.into(),
            highest: 0,
            lowest: LowestEvent::new(event, now),
            target: None,
        });
        Some(index)
    }
}

impl Publisher {
    /// The lowest number that a connection is entitled to, beyond those after its first event.
    ///
    /// A connection is entitled to the lowest known event if its stream was open before the event
    /// was sent. Both clocks must agree on that, because the publisher's clock can be ahead of
    /// ours:
    ///
    /// ```text
    /// our clock:      stream opens ──── event received
    /// wall clocks:    stream opens ──── event sent (its stamp)
    /// ```
    ///
    /// An event without a stamp may have been sent before the stream opened. Then only a connection
    /// that has received nothing at all (`received_any` is false) is entitled to it.
    pub(super) fn expected_from(
        &self,
        opened: Option<FirstOpen>,
        received_any: bool,
    ) -> Option<u64> {
        let (opened, lowest) = (opened?, self.lowest);
        let is_sent_later = lowest
            .sent_us
            .map_or(!received_any, |sent_us| opened.at_us < sent_us);
        (is_sent_later && opened.at < lowest.received).then_some(lowest.number)
    }

    fn observe(&mut self, event: NumberedEvent<'_>, now: Instant) {
        self.highest = self.highest.max(event.number);
        if event.number < self.lowest.number {
            self.lowest = LowestEvent::new(event, now);
        }
    }
}

impl LowestEvent {
    fn new(event: NumberedEvent<'_>, received: Instant) -> Self {
        Self {
            number: event.number,
            received,
            sent_us: event.sent_us,
        }
    }
}
