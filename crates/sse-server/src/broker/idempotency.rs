//! Idempotent publishing: a publish with a key can be sent again and is stored once.
//!
//! A broker stores each key together with the events: which ids they got and what they contained,
//! until the key expires. Keys and contents are stored as fingerprints. The cost of a key therefore
//! does not depend on its length, and contents can be compared after the events were trimmed.

use std::collections::HashMap;

use sse_proto::Event;

pub(crate) use super::retention::KEY_BYTES;
use super::{Appended, BrokerError, types::event_size};
pub use super::{fingerprint::Fingerprint, retention::KeyLimits};

/// What identifies a publish that may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Fingerprint of the publisher's key.
    pub key: Fingerprint,
    /// Fingerprint of the content that is published under the key.
    pub content: Fingerprint,
}

impl IdempotencyKey {
    /// Returns what the log knows about the key once the events have these ids.
    pub(super) const fn stored_with(self, ids: Appended) -> KnownKey {
        KnownKey {
            ids,
            content: self.content,
        }
    }
}

/// Events of an append that share a key or have none.
#[derive(Debug, Clone)]
pub struct AppendItem {
    /// The events, at least one.
    pub events: Vec<Event>,
    /// The key; without one, the events are stored each time they are sent.
    pub idempotency: Option<IdempotencyKey>,
}

impl AppendItem {
    /// An item whose events are stored each time they are sent.
    pub(super) const fn without_key(events: Vec<Event>) -> Self {
        Self {
            events,
            idempotency: None,
        }
    }

    /// Returns the bytes of types and data.
    pub(super) fn size(&self) -> usize {
        self.events.iter().map(event_size).sum()
    }

    /// Returns true if the append stores the key of this item.
    fn has_new_key(&self, disposition: Disposition) -> bool {
        self.idempotency.is_some() && disposition == Disposition::New
    }
}

/// Where the events of an item are in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendOutcome {
    /// The ids that the events got when the item was first stored.
    pub ids: Appended,
    /// True if the key was known: the append added nothing for this item.
    pub duplicate: bool,
}

impl AppendOutcome {
    /// The outcome of an item that was stored now.
    pub(super) const fn new(ids: Appended) -> Self {
        Self {
            ids,
            duplicate: false,
        }
    }

    /// The outcome of an item that was stored before with these ids.
    pub(super) const fn duplicate_of(ids: Appended) -> Self {
        Self {
            ids,
            duplicate: true,
        }
    }

    /// Returns how many events the append added for `item`.
    const fn count_added(&self, item: &AppendItem) -> usize {
        if self.duplicate { 0 } else { item.events.len() }
    }
}

/// What a log knows about a key that has not expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownKey {
    /// The ids of the events that were stored under the key.
    pub(super) ids: Appended,
    /// Fingerprint of their content.
    pub(super) content: Fingerprint,
}

/// What an append does with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    /// Store the events of the item.
    New,
    /// The item was stored before, with these ids.
    Duplicate(Appended),
    /// The item equals an earlier item of the same append, which has this index.
    SameAs(usize),
}

impl Disposition {
    /// Returns the outcome if the item was stored before.
    fn known_outcome(&self) -> Option<AppendOutcome> {
        match self {
            Self::Duplicate(ids) => Some(AppendOutcome::duplicate_of(*ids)),
            Self::New | Self::SameAs(_) => None,
        }
    }
}

/// Decides about all items of an append before any of them is stored.
///
/// `look_up` finds a key of the channel that has not expired.
///
/// ```text
/// items             known keys   dispositions
/// A: "x"            A: "x"       Duplicate(ids of A)
/// B: "y"                         New
/// without key                    New
/// B: "y"                         SameAs(1)
/// ```
///
/// # Errors
///
/// [`BrokerError::KeyReused`] if a key comes with other content, and the errors of `look_up`.
pub(super) fn dispositions<E: From<BrokerError>>(
    items: &[AppendItem],
    mut look_up: impl FnMut(Fingerprint) -> Result<Option<KnownKey>, E>,
) -> Result<Vec<Disposition>, E> {
    let mut first_uses = HashMap::new();
    let mut dispositions = Vec::with_capacity(items.len());
    for (nth, item) in items.iter().enumerate() {
        dispositions.push(match item.idempotency {
            None => Disposition::New,
            Some(idempotency) => {
                let known = look_up(idempotency.key)?;
                decide_keyed(&mut first_uses, nth, idempotency, known)?
            }
        });
    }
    Ok(dispositions)
}

/// Decides about the item with the index `nth`, which has a key.
///
/// `first_uses` has the index and content of the first item per new key.
fn decide_keyed(
    first_uses: &mut HashMap<Fingerprint, (usize, Fingerprint)>,
    nth: usize,
    idempotency: IdempotencyKey,
    known: Option<KnownKey>,
) -> Result<Disposition, BrokerError> {
    let IdempotencyKey { key, content } = idempotency;
    let (disposition, known_content) = match (first_uses.get(&key), known) {
        (Some((first, content)), _) => (Disposition::SameAs(*first), *content),
        (None, Some(known)) => (Disposition::Duplicate(known.ids), known.content),
        (None, None) => {
            first_uses.insert(key, (nth, content));
            (Disposition::New, content)
        }
    };
    if known_content == content {
        Ok(disposition)
    } else {
        Err(BrokerError::KeyReused { item: nth })
    }
}

/// Returns the outcomes if every item was stored before, so that the append has nothing to store.
pub(super) fn known_outcomes(dispositions: &[Disposition]) -> Option<Vec<AppendOutcome>> {
    let outcomes = dispositions.iter().map(Disposition::known_outcome);
    outcomes.collect()
}

/// Returns how many new keys an append stores.
pub(super) fn count_new_keys(items: &[AppendItem], dispositions: &[Disposition]) -> usize {
    items
        .iter()
        .zip(dispositions)
        .filter(|(item, disposition)| item.has_new_key(**disposition))
        .count()
}

/// Returns how many items have a key, which is at least as many as an append stores.
pub(super) fn count_keys(items: &[AppendItem]) -> u64 {
    let keyed = items.iter().filter(|item| item.idempotency.is_some());
    keyed.count() as u64
}

/// Returns how many keys an append has stored.
pub(super) fn count_stored_keys(items: &[AppendItem], outcomes: &[AppendOutcome]) -> u64 {
    let stored = items
        .iter()
        .zip(outcomes)
        .filter(|(item, outcome)| item.idempotency.is_some() && !outcome.duplicate);
    stored.count() as u64
}

/// Carries out `dispositions`: calls `store` for each new item, and returns all outcomes in order.
pub(super) fn store_new_items<E>(
    items: &[AppendItem],
    dispositions: &[Disposition],
    mut store: impl FnMut(&AppendItem) -> Result<Appended, E>,
) -> Result<Vec<AppendOutcome>, E> {
    let mut outcomes: Vec<AppendOutcome> = Vec::with_capacity(items.len());
    for (item, disposition) in items.iter().zip(dispositions) {
        outcomes.push(match disposition {
            Disposition::New => AppendOutcome::new(store(item)?),
            Disposition::Duplicate(ids) => AppendOutcome::duplicate_of(*ids),
            Disposition::SameAs(nth) => AppendOutcome::duplicate_of(outcomes[*nth].ids),
        });
    }
    Ok(outcomes)
}

/// Returns how many events an append added.
pub(super) fn count_added(items: &[AppendItem], outcomes: &[AppendOutcome]) -> usize {
    items
        .iter()
        .zip(outcomes)
        .map(|(item, outcome)| outcome.count_added(item))
        .sum()
}

/// Returns the ids of an append that has only one item.
pub(super) fn ids_of_only_item(outcomes: Vec<AppendOutcome>) -> Result<Appended, BrokerError> {
    outcomes
        .into_iter()
        .next()
        .map(|outcome| outcome.ids)
        .ok_or_else(|| BrokerError::OutcomeUnknown("the log returned no id".to_owned()))
}

#[cfg(test)]
mod tests {
    use sse_proto::EventId;

    use super::*;

    fn event(kind: &str, data: &str) -> Event {
        Event {
            kind: kind.parse().unwrap(),
            data: data.into(),
        }
    }

    #[test]
    fn all_items_are_decided_before_any_is_stored() {
        let item = |key: u128, content: u128| AppendItem {
            events: vec![event("a", "b")],
            idempotency: (key > 0).then_some(IdempotencyKey {
                key: key.into(),
                content: content.into(),
            }),
        };
        let ids = Appended {
            first: EventId::new(1, 0),
            last: EventId::new(1, 0),
        };
        let decide = |items: &[AppendItem]| {
            let look_up = |key: Fingerprint| {
                Ok((key.number() == 1).then_some(KnownKey {
                    ids,
                    content: 10.into(),
                }))
            };
            dispositions(items, look_up).map_err(|error| match error {
                BrokerError::KeyReused { item } => item,
                error => panic!("{error}"),
            })
        };
        let good = [
            item(1, 10),
            item(2, 20),
            item(0, 0),
            item(2, 20),
            item(1, 10),
        ];
        assert_eq!(
            decide(&good),
            Ok(vec![
                Disposition::Duplicate(ids),
                Disposition::New,
                Disposition::New,
                Disposition::SameAs(1),
                Disposition::Duplicate(ids)
            ])
        );
        assert_eq!(decide(&[item(2, 20), item(1, 11)]), Err(1));
        assert_eq!(decide(&[item(2, 20), item(0, 0), item(2, 21)]), Err(2));
    }
    #[test]
    fn an_item_that_equals_an_earlier_one_gets_its_ids() {
        let item = AppendItem {
            events: vec![event("a", "b"); 2],
            idempotency: None,
        };
        let ids = |ms| Appended {
            first: EventId::new(ms, 0),
            last: EventId::new(ms, 1),
        };
        let items = vec![item; 3];
        let decided = [
            Disposition::Duplicate(ids(1)),
            Disposition::New,
            Disposition::SameAs(1),
        ];
        let store = |_: &AppendItem| Ok::<_, BrokerError>(ids(2));
        let outcomes = store_new_items(&items, &decided, store).unwrap();
        let found: Vec<_> = outcomes
            .iter()
            .map(|outcome| (outcome.ids, outcome.duplicate))
            .collect();
        assert_eq!(found, [(ids(1), true), (ids(2), false), (ids(2), true)]);
        assert_eq!(count_added(&items, &outcomes), 2);
        assert_eq!(known_outcomes(&decided), None);
        assert!(known_outcomes(&decided[..1]).is_some());
    }
}
