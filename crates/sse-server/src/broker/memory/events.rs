//! The events of one channel in memory.
//!
//! Most channels are quiet and have one event. Such an event is a single block of bytes:
//!
//! ```text
//! ms u64 · seq u64 · type length u8 · type · data                             (little endian)
//! ```
//!
//! It takes a third of the space of a list with one event, and costs a copy of its text per read.

use std::{borrow::Cow, collections::VecDeque, ops::Range};

use bytes::Bytes;
use bytestring::ByteString;
use sse_proto::EventId;

use crate::broker::Stored;

/// Bytes of a packed event before its type.
const HEAD: usize = 17;

/// The events of a channel, in order.
#[derive(Debug, Default)]
pub(super) struct Events(Form);

#[derive(Debug, Default)]
enum Form {
    #[default]
    None,
    One(PackedEvent),
    Many(VecDeque<Stored>),
}

#[derive(Debug)]
struct PackedEvent(Box<[u8]>);

impl Events {
    /// The number of events.
    pub(super) fn len(&self) -> usize {
        match &self.0 {
            Form::None => 0,
            Form::One(_) => 1,
            Form::Many(events) => events.len(),
        }
    }

    /// Returns the id of the oldest event.
    pub(super) fn oldest(&self) -> Option<EventId> {
        match &self.0 {
            Form::None => None,
            Form::One(event) => Some(event.id()),
            Form::Many(events) => events.front().map(|event| event.id),
        }
    }

    /// Adds an event at the end.
    pub(super) fn push(&mut self, event: Stored) {
        self.0 = match std::mem::take(&mut self.0) {
            Form::None => Form::One(PackedEvent::new(&event)),
            Form::One(first) => Form::Many(VecDeque::from([first.unpack(), event])),
            Form::Many(mut events) => {
                events.push_back(event);
                Form::Many(events)
            }
        }
    }

    /// Removes and returns the oldest event.
    pub(super) fn pop_oldest(&mut self) -> Option<Stored> {
        let (oldest, rest) = match std::mem::take(&mut self.0) {
            Form::None => (None, Form::None),
            Form::One(event) => (Some(event.unpack()), Form::None),
            Form::Many(mut events) => {
                let oldest = events.pop_front();
                (oldest, packed_if_one(events))
            }
        };
        self.0 = rest;
        oldest
    }

    /// Whether there is an event with this id.
    pub(super) fn contains(&self, id: EventId) -> bool {
        match &self.0 {
            Form::None => false,
            Form::One(event) => event.id() == id,
            Form::Many(events) => events.binary_search_by_key(&id, |event| event.id).is_ok(),
        }
    }

    /// Returns the number of events with a lower id.
    pub(super) fn count_before(&self, id: EventId) -> usize {
        match &self.0 {
            Form::None => 0,
            Form::One(event) => (event.id() < id).into(),
            Form::Many(events) => events.partition_point(|event| event.id < id),
        }
    }

    /// Returns the events of a range, by their indexes.
    pub(super) fn range(
        &self,
        range: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = Cow<'_, Stored>> {
        let one = match &self.0 {
            Form::One(event) if range.contains(&0) => Some(Cow::Owned(event.unpack())),
            _ => None,
        };
        let many = match &self.0 {
            Form::Many(events) => Some(events.range(range)),
            _ => None,
        };
        let many = many.into_iter().flatten().map(Cow::Borrowed);
        one.into_iter().chain(many)
    }

    /// Returns all events.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Cow<'_, Stored>> {
        self.range(0..self.len())
    }
}

fn packed_if_one(events: VecDeque<Stored>) -> Form {
    match events.front() {
        Some(event) if events.len() == 1 => Form::One(PackedEvent::new(event)),
        Some(_) => Form::Many(events),
        None => Form::None,
    }
}

impl PackedEvent {
    fn new(event: &Stored) -> Self {
        let (kind, data) = (event.kind.as_bytes(), event.data.as_bytes());
        let kind_length = u8::try_from(kind.len()).expect("an event type has at most 128 bytes");
        let mut packed = Vec::with_capacity(HEAD + kind.len() + data.len());
        packed.extend_from_slice(&event.id.ms.to_le_bytes());
        packed.extend_from_slice(&event.id.seq.to_le_bytes());
        packed.push(kind_length);
        packed.extend_from_slice(kind);
        packed.extend_from_slice(data);
        Self(packed.into_boxed_slice())
    }

    fn id(&self) -> EventId {
        EventId::new(self.number(0), self.number(8))
    }

    fn number(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[at..at + 8]);
        u64::from_le_bytes(bytes)
    }

    fn unpack(&self) -> Stored {
        // Type and data share one copy of the text.
        let text = Bytes::copy_from_slice(&self.0[HEAD..]);
        let kind_length = usize::from(self.0[HEAD - 1]);
        let text_of = |bytes| ByteString::try_from(bytes).expect("the parts were texts");
        Stored {
            id: self.id(),
            kind: text_of(text.slice(..kind_length)),
            data: text_of(text.slice(kind_length..)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn event(ms: u64) -> Stored {
        Stored {
            id: EventId::new(ms, ms * 3),
            kind: "click".into(),
            data: format!("data {ms} é").into(),
        }
    }

    proptest! {
        /// `true` adds an event, and `false` removes the oldest one.
        #[test]
        fn events_behave_like_a_list(steps in vec(any::<bool>(), 1..40)) {
            let (mut events, mut model) = (Events::default(), VecDeque::new());
            for (ms, adds) in steps.into_iter().enumerate() {
                if adds {
                    events.push(event(ms as u64));
                    model.push_back(event(ms as u64));
                } else {
                    prop_assert_eq!(events.pop_oldest(), model.pop_front());
                }
                let all: VecDeque<Stored> = events.iter().map(Cow::into_owned).collect();
                prop_assert_eq!(&all, &model);
                prop_assert_eq!(events.len(), model.len());
                prop_assert_eq!(events.oldest(), model.front().map(|event| event.id));
                for wanted in 0..ms as u64 {
                    let id = event(wanted).id;
                    let before = model.iter().filter(|event| event.id < id).count();
                    prop_assert_eq!(events.count_before(id), before);
                    prop_assert_eq!(events.contains(id), model.iter().any(|event| event.id == id));
                }
                let mut newest = events.range(model.len().saturating_sub(1)..model.len());
                prop_assert_eq!(newest.next_back().map(Cow::into_owned), model.back().cloned());
            }
        }
    }
}
