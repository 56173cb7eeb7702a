//! Publishing exactly once: a publish with a key may be sent again, and is stored once.
//!
//! A broker keeps for each key, in the same step as the events, which ids they got and what they were, until the key
//! expires. Keys and contents are kept as fingerprints: what a key costs does not depend on its length, and contents can
//! be told apart after the events themselves were trimmed.

use std::{collections::HashMap, time::Duration};

use bytestring::ByteString;
use sha2::{Digest as _, Sha256};
use sse_proto::{Event, EventType};

use super::{Appended, BrokerError};

/// How long keys are known, and how many of them.
#[derive(Debug, Clone, Copy)]
pub struct KeyLimits {
    /// From the publish on, by the log's clock. A key keeps the time that it got, also across a restart.
    pub window: Duration,
    /// Of one channel. A new key beyond is refused: the window never gets shorter.
    pub keys_max: usize,
}

impl KeyLimits {
    /// The window in the log's unit.
    #[must_use]
    pub fn window_ms(&self) -> u64 {
        u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The first 128 bits of a SHA-256: nobody can find two texts that share them, and no text for those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Of a key.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self::finished(Sha256::new_with_prefix(key))
    }

    /// Of events, in their order.
    #[must_use]
    pub fn of_events<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut hash = Sha256::new();
        for event in events {
            add_event(&mut hash, &event.kind, Some(&event.data));
        }
        Self::finished(hash)
    }

    /// Of an event as its publisher sent it: without data, if the server makes it up, another each time.
    #[must_use]
    pub fn of_sent(kind: &EventType, data: Option<&ByteString>) -> Self {
        let mut hash = Sha256::new();
        add_event(&mut hash, kind, data);
        Self::finished(hash)
    }

    /// The number that it is.
    #[must_use]
    pub const fn number(self) -> u128 {
        self.0
    }

    fn finished(hash: Sha256) -> Self {
        let hash: [u8; 32] = hash.finalize().into();
        let (half, _) = hash
            .split_first_chunk()
            .expect("32 bytes have a first half");
        Self(u128::from_be_bytes(*half))
    }
}

impl From<u128> for Fingerprint {
    fn from(number: u128) -> Self {
        Self(number)
    }
}

/// With lengths, so that no two lists of events give the same bytes.
fn add_event(hash: &mut Sha256, kind: &EventType, data: Option<&ByteString>) {
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    add(kind.as_str());
    match data {
        Some(data) => add(data),
        None => hash.update(u64::MAX.to_le_bytes()),
    }
}

/// What a publisher gives to be able to send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The publisher's key.
    pub key: Fingerprint,
    /// What is published under it.
    pub content: Fingerprint,
}

/// Events of an append that share a key, or have none.
#[derive(Debug, Clone)]
pub struct AppendItem {
    /// At least one.
    pub events: Vec<Event>,
    /// None: these are stored each time they are sent.
    pub idempotency: Option<IdempotencyKey>,
}

/// Where a part is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendOutcome {
    /// The ids that it got when it came for the first time.
    pub ids: Appended,
    /// Its key was known: nothing was added.
    pub duplicate: bool,
}

/// What a log knows of a key that has not expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownKey {
    pub(super) ids: Appended,
    pub(super) content: Fingerprint,
}

/// What is to be done with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    /// Its events are to be added.
    New,
    /// It was added before, with these ids.
    Duplicate(Appended),
    /// It is the same as this part of the same append.
    SameAs(usize),
}

/// Decides about all parts of an append, before anything is done.
///
/// The outer error is of `look_up`, which finds a key of the channel; the inner one refuses all parts.
pub(super) fn dispositions<E>(
    items: &[AppendItem],
    mut look_up: impl FnMut(Fingerprint) -> Result<Option<KnownKey>, E>,
) -> Result<Result<Vec<Disposition>, BrokerError>, E> {
    let mut new: HashMap<Fingerprint, (usize, Fingerprint)> = HashMap::new();
    let mut dispositions = Vec::with_capacity(items.len());
    for (nth, item) in items.iter().enumerate() {
        let Some(idempotency) = item.idempotency else {
            dispositions.push(Disposition::New);
            continue;
        };
        let (disposition, content) = match (new.get(&idempotency.key), look_up(idempotency.key)?) {
            (Some((same, content)), _) => (Disposition::SameAs(*same), *content),
            (None, Some(known)) => (Disposition::Duplicate(known.ids), known.content),
            (None, None) => {
                new.insert(idempotency.key, (nth, idempotency.content));
                (Disposition::New, idempotency.content)
            }
        };
        if content != idempotency.content {
            return Ok(Err(BrokerError::KeyReused { item: nth }));
        }
        dispositions.push(disposition);
    }
    Ok(Ok(dispositions))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use sse_proto::EventId;

    use super::*;

    fn event(kind: &str, data: &str) -> Event {
        Event {
            kind: kind.parse().unwrap(),
            data: data.into(),
        }
    }

    #[test]
    fn a_fingerprint_is_what_sha256sum_prints_first() {
        // printf abc | sha256sum | cut -c 1-32
        assert_eq!(
            Fingerprint::of_key(b"abc").number(),
            0xba78_16bf_8f01_cfea_4141_40de_5dae_2223
        );
    }

    #[test]
    fn other_events_have_another_fingerprint() {
        let contents = [
            vec![event("a", "b")],
            vec![event("ab", "")],
            vec![event("a", "")],
            vec![event("b", "a")],
            vec![event("a", "b"), event("a", "b")],
            vec![event("a", "ba"), event("b", "")],
            vec![event("a", "b"), event("b", "a")],
            vec![event("b", "a"), event("a", "b")],
        ];
        let mut found: Vec<Fingerprint> = contents.iter().map(Fingerprint::of_events).collect();
        found.push(Fingerprint::of_sent(&"a".parse().unwrap(), None));
        for (nth, one) in found.iter().enumerate() {
            assert!(found[..nth].iter().all(|other| other != one), "{nth}");
        }
        let alone = event("a", "b");
        assert_eq!(
            Fingerprint::of_events(&contents[0]),
            Fingerprint::of_sent(&alone.kind, Some(&alone.data))
        );
    }

    #[test]
    fn all_parts_are_decided_before_any_is_added() {
        let item = |key: u128, content: u128| AppendItem {
            events: vec![event("a", "b")],
            idempotency: (key > 0).then_some(IdempotencyKey {
                key: Fingerprint(key),
                content: Fingerprint(content),
            }),
        };
        let ids = Appended {
            first: EventId::new(1, 0),
            last: EventId::new(1, 0),
        };
        let planned = |items: &[AppendItem]| {
            let look_up = |key: Fingerprint| {
                Ok::<_, Infallible>((key.0 == 1).then_some(KnownKey {
                    ids,
                    content: Fingerprint(10),
                }))
            };
            let Ok(planned) = dispositions(items, look_up);
            planned.map_err(|error| match error {
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
            planned(&good),
            Ok(vec![
                Disposition::Duplicate(ids),
                Disposition::New,
                Disposition::New,
                Disposition::SameAs(1),
                Disposition::Duplicate(ids)
            ])
        );
        assert_eq!(planned(&[item(2, 20), item(1, 11)]), Err(1));
        assert_eq!(planned(&[item(2, 20), item(0, 0), item(2, 21)]), Err(2));
    }
}
