//! Idempotent publishing: a publish with a key can be sent again and is stored once.
//!
//! A broker stores each key together with the events: which ids they got and what they contained,
//! until the key expires. Keys and contents are stored as fingerprints. The cost of a key therefore
//! does not depend on its length, and contents can be compared after the events were trimmed.

use std::collections::HashMap;

use sse_proto::Event;

pub(crate) use super::retention::KEY_BYTES;
use super::{Appended, BrokerError, publisher::KeyOwner, types::event_size};
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
    pub(super) const fn stored_with(self, ids: Appended, owner: KeyOwner) -> KnownKey {
        KnownKey {
            ids,
            content: self.content,
            owner,
        }
    }

    /// Returns the same publish under a key that only `owner` uses.
    fn owned_by(self, owner: KeyOwner) -> Self {
        Self {
            key: self.key.owned_by(owner),
            ..self
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
    pub(in crate::broker) const fn new(ids: Appended) -> Self {
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
    /// Who stored it.
    pub(super) owner: KeyOwner,
}

impl KnownKey {
    /// Whether another client used the key for something else.
    fn is_used_by_another(&self, idempotency: IdempotencyKey, owner: KeyOwner) -> bool {
        self.content != idempotency.content && self.owner.is_another_than(owner)
    }
}

/// What an append does with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    /// Store the events of the item, under this key.
    New(Option<IdempotencyKey>),
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
            Self::New(_) | Self::SameAs(_) => None,
        }
    }
}

/// Decides about all items of an append before any of them is stored.
///
/// `look_up` finds a key of the channel that has not expired. A key is common to all clients, so
/// that a publisher can repeat a request from another address. If another client has used the key
/// for other content, the publisher gets a key of the same name that only `owner` uses.
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
    owner: KeyOwner,
    mut look_up: impl FnMut(Fingerprint) -> Result<Option<KnownKey>, E>,
) -> Result<Vec<Disposition>, E> {
    let mut first_uses = HashMap::new();
    let mut dispositions = Vec::with_capacity(items.len());
    for (nth, item) in items.iter().enumerate() {
        dispositions.push(match item.idempotency {
            None => Disposition::New(None),
            Some(idempotency) => {
                let (idempotency, known) = choose_key(idempotency, owner, &mut look_up)?;
                decide_keyed(&mut first_uses, nth, idempotency, known)?
            }
        });
    }
    Ok(dispositions)
}

/// Returns the key that a publish of `owner` uses, and what is known about it.
fn choose_key<E>(
    idempotency: IdempotencyKey,
    owner: KeyOwner,
    look_up: &mut impl FnMut(Fingerprint) -> Result<Option<KnownKey>, E>,
) -> Result<(IdempotencyKey, Option<KnownKey>), E> {
    let known = look_up(idempotency.key)?;
    if !known.is_some_and(|known| known.is_used_by_another(idempotency, owner)) {
        return Ok((idempotency, known));
    }
    let own_key = idempotency.owned_by(owner);
    Ok((own_key, look_up(own_key.key)?))
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
            (Disposition::New(Some(idempotency)), content)
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
pub(super) fn count_new_keys(dispositions: &[Disposition]) -> usize {
    let has_new_key = |disposition: &&Disposition| matches!(disposition, Disposition::New(Some(_)));
    dispositions.iter().filter(has_new_key).count()
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
    mut store: impl FnMut(&AppendItem, Option<IdempotencyKey>) -> Result<Appended, E>,
) -> Result<Vec<AppendOutcome>, E> {
    let mut outcomes: Vec<AppendOutcome> = Vec::with_capacity(items.len());
    for (item, disposition) in items.iter().zip(dispositions) {
        outcomes.push(match disposition {
            Disposition::New(key) => AppendOutcome::new(store(item, *key)?),
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
mod tests;
