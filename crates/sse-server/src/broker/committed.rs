//! Committed groups: what one append has added to a channel, as an in-process log hands it over.
//!
//! A watcher that holds everything up to the group's predecessor can continue with the group, and
//! needs no read of the log. Every other watcher reads.

use sse_proto::{Event, EventId};

use super::{
    Stored,
    idempotency::{AppendItem, AppendOutcome},
};

/// The events that one append has added to a channel, at least one. They are committed.
#[derive(Debug, Clone, Copy)]
pub struct CommittedGroup<'a> {
    /// The last id of the channel before the group.
    pub previous: EventId,
    /// How many times the log had been opened again when it committed the group.
    pub reopenings: u64,
    items: &'a [AppendItem],
    outcomes: &'a [AppendOutcome],
}

impl<'a> CommittedGroup<'a> {
    /// The events that an append of `items` has added, by its `outcomes`.
    #[must_use]
    pub const fn new(
        previous: EventId,
        reopenings: u64,
        items: &'a [AppendItem],
        outcomes: &'a [AppendOutcome],
    ) -> Self {
        Self {
            previous,
            reopenings,
            items,
            outcomes,
        }
    }

    /// Returns the events with their ids. Returns `None` if the ids of an item do not follow from its
    /// first and last id.
    #[must_use]
    pub fn events(&self) -> Option<Vec<Stored>> {
        let mut events = Vec::new();
        for (item, outcome) in self.items.iter().zip(self.outcomes) {
            if outcome.duplicate {
                continue;
            }
            let mut next = Some(outcome.ids.first);
            for event in &item.events {
                let id = next?;
                events.push(stored(id, event));
                next = id.next();
            }
            if events.last().map(|event| event.id) != Some(outcome.ids.last) {
                return None;
            }
        }
        Some(events)
    }
}

fn stored(id: EventId, event: &Event) -> Stored {
    Stored {
        id,
        kind: event.kind.text().clone(),
        data: event.data.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Appended;

    const fn id(ms: u64, seq: u64) -> EventId {
        EventId::new(ms, seq)
    }

    fn item(data: &[&'static str]) -> AppendItem {
        let event = |data: &&'static str| Event {
            kind: "click".parse().unwrap(),
            data: (*data).into(),
        };
        AppendItem::without_key(data.iter().map(event).collect())
    }

    fn outcome(first: EventId, last: EventId, duplicate: bool) -> AppendOutcome {
        AppendOutcome {
            ids: Appended { first, last },
            duplicate,
        }
    }

    #[test]
    fn a_group_has_the_events_that_were_added() {
        let items = [item(&["a", "b"]), item(&["known"]), item(&["c"])];
        let outcomes = [
            outcome(id(7, 0), id(7, 1), false),
            outcome(id(3, 0), id(3, 0), true),
            outcome(id(7, 2), id(7, 2), false),
        ];
        let events = CommittedGroup::new(id(6, 0), 0, &items, &outcomes).events();
        let events = events.unwrap();
        let events: Vec<_> = events
            .iter()
            .map(|event| (event.id, &*event.data))
            .collect();
        assert_eq!(events, [(id(7, 0), "a"), (id(7, 1), "b"), (id(7, 2), "c")]);
    }

    #[test]
    fn ids_that_are_not_consecutive_make_no_group() {
        let items = [item(&["a", "b"])];
        let outcomes = [outcome(id(7, u64::MAX), id(8, 5), false)];
        let group = CommittedGroup::new(id(6, 0), 0, &items, &outcomes);
        assert_eq!(group.events(), None);
    }
}
