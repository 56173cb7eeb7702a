//! The ids of events that a response reports.

use sse_proto::{
    EventId,
    api::{BatchPublished, Published},
};

/// The response that acknowledges a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpectedResponse {
    /// The response of sse-server to one event.
    Event,
    /// The response of sse-server to a batch with this number of events.
    Batch(u64),
    /// Any 2xx response to one event, of any server.
    AnySuccess,
}

/// The ids of the events of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// The server reported no id.
    NotReported,
    /// The id of one event.
    Event(EventId),
    /// The first and the last id of a batch.
    Batch {
        first: EventId,
        last: EventId,
        count: u64,
    },
}

impl Ids {
    /// Returns the id of the event at `index`, from 0; `None` if it is not certain.
    ///
    /// The ids between the first and the last one belong to this batch, and they grow. So if there
    /// are exactly as many ids as events, the id of each event is known. Otherwise only the first
    /// and the last id are known: for three events from `5-1` to `5-3` the second id is `5-2`, but
    /// from `5-1` to `5-4` it may be `5-2` or `5-3`.
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

/// Returns the ids in a response of sse-server; `None` if the body is not the expected one.
pub(super) fn parse_ids(expected: ExpectedResponse, body: &[u8]) -> Option<Ids> {
    match expected {
        ExpectedResponse::Event | ExpectedResponse::AnySuccess => Some(Ids::Event(
            serde_json::from_slice::<Published>(body).ok()?.id,
        )),
        ExpectedResponse::Batch(count) => {
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
    fn an_id_in_a_batch_is_known_if_no_other_is_possible() {
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
