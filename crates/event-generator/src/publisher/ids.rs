//! The ids that a reply reports.

use sse_proto::{
    EventId,
    api::{BatchPublished, Published},
};

/// What is asked for, and so which answer says that it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpectedReply {
    /// One event, of our API.
    Event,
    /// So many events, of our API.
    Batch(u64),
    /// One event, of any server: each 2xx will do.
    AnySuccess,
}

/// The ids that events got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// The server did not say.
    NotReported,
    /// Of one event.
    Event(EventId),
    /// Of the first and the last event of a batch of so many.
    Batch {
        first: EventId,
        last: EventId,
        count: u64,
    },
}

impl Ids {
    /// The id of the event at this place, from 0, if it is known.
    ///
    /// Between the first and the last id of a batch lie only events of it, and ids grow. So where there are just as many
    /// ids between the two as events, each event's id is known; else only those of the first and the last one.
    pub(crate) fn id_at(&self, place: u64) -> Option<EventId> {
        match *self {
            Self::NotReported => None,
            Self::Event(id) => (place == 0).then_some(id),
            Self::Batch { first, .. } if place == 0 => Some(first),
            Self::Batch { last, count, .. } if place + 1 == count => Some(last),
            Self::Batch { first, last, count } => {
                let leaves_no_gap =
                    first.ms == last.ms && last.seq.checked_sub(first.seq) == Some(count - 1);
                (leaves_no_gap && place < count).then(|| EventId::new(first.ms, first.seq + place))
            }
        }
    }
}

/// The ids in an answer of our API, if it is one.
pub(super) fn parse_ids(expected: ExpectedReply, body: &[u8]) -> Option<Ids> {
    match expected {
        ExpectedReply::Event | ExpectedReply::AnySuccess => Some(Ids::Event(
            serde_json::from_slice::<Published>(body).ok()?.id,
        )),
        ExpectedReply::Batch(count) => {
            let BatchPublished {
                first_id: first,
                last_id: last,
                count: stored,
                ..
            } = serde_json::from_slice(body).ok()?;
            (u64::try_from(stored) == Ok(count)).then_some(Ids::Batch { first, last, count })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_within_a_batch_is_known_where_no_other_is_possible() {
        let known = |first, last: (u64, u64), count| {
            let ids = Ids::Batch {
                first,
                last: EventId::new(last.0, last.1),
                count,
            };
            (0..=count)
                .map(|place| ids.id_at(place).map(|id| (id.ms, id.seq)))
                .collect::<Vec<_>>()
        };
        let first = EventId::new(5, 1);
        assert_eq!(
            known(first, (5, 3), 3),
            [Some((5, 1)), Some((5, 2)), Some((5, 3)), None]
        );
        assert_eq!(
            known(first, (5, 4), 3),
            [Some((5, 1)), None, Some((5, 4)), None]
        );
        assert_eq!(
            known(first, (6, 2), 3),
            [Some((5, 1)), None, Some((6, 2)), None]
        );
        assert_eq!(known(first, (5, 1), 1), [Some((5, 1)), None]);
        assert_eq!(
            (Ids::Event(first).id_at(0), Ids::NotReported.id_at(0)),
            (Some(first), None)
        );
    }
}
