//! Fingerprints of idempotency keys and of published content.

use bytestring::ByteString;
use sha2::{Digest as _, Sha256};
use sse_proto::{Event, EventType};

use super::{lifecycle::CloseReason, publisher::KeyOwner};

/// The first 128 bits of a SHA-256 hash.
///
/// Two texts with the same fingerprint cannot be found, nor a text for a given fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Hashes an idempotency key.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(key))
    }

    /// Hashes events, in their order.
    #[must_use]
    pub fn of_events<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut hash = Sha256::new();
        for event in events {
            hash_event(&mut hash, &event.kind, Some(&event.data));
        }
        Self::finish(hash)
    }

    /// Hashes an event as its publisher sent it.
    ///
    /// `data` is `None` if the server generates the data, because that text differs on every
    /// request.
    #[must_use]
    pub fn of_sent(kind: &EventType, data: Option<&ByteString>) -> Self {
        let mut hash = Sha256::new();
        hash_event(&mut hash, kind, data);
        Self::finish(hash)
    }

    /// Returns the fingerprint of this key among the keys that only `owner` uses.
    #[must_use]
    pub(super) fn owned_by(self, owner: KeyOwner) -> Self {
        let hash = Sha256::new_with_prefix("owned:").chain_update(self.0.to_be_bytes());
        Self::finish(hash.chain_update(owner.number().to_be_bytes()))
    }

    /// Returns the fingerprint of this key among the keys of the principal with this number. The
    /// keys of anonymous callers, who have none, stay as they are.
    #[must_use]
    pub fn of_principal(self, number: Option<u64>) -> Self {
        number.map_or(self, |number| self.owned_by(number.into()))
    }

    /// Returns the fingerprint of this content together with the end of its channel.
    #[must_use]
    pub fn closing(self, reason: &CloseReason) -> Self {
        let hash = Sha256::new_with_prefix("close:").chain_update(self.0.to_be_bytes());
        Self::finish(hash.chain_update(reason.as_str()))
    }

    /// Returns the fingerprint as a number.
    #[must_use]
    pub const fn number(self) -> u128 {
        self.0
    }

    fn finish(hash: Sha256) -> Self {
        let hash = hash.finalize();
        let half = hash.first_chunk().expect("32 bytes have a first half");
        Self(u128::from_be_bytes(*half))
    }
}

impl From<u128> for Fingerprint {
    fn from(number: u128) -> Self {
        Self(number)
    }
}

/// Hashes type and data with their lengths, so that two lists of events never hash the same bytes.
fn hash_event(hash: &mut Sha256, kind: &EventType, data: Option<&ByteString>) {
    hash_text(hash, kind.as_str());
    match data {
        Some(data) => hash_text(hash, data),
        None => hash.update(u64::MAX.to_le_bytes()),
    }
}

/// Hashes a text with its length.
fn hash_text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

#[cfg(test)]
mod tests {
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
    fn different_events_have_different_fingerprints() {
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
}
