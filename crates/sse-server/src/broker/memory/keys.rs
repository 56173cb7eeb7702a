//! The idempotency keys of one channel: what was stored under each key, until it expires.

use std::collections::{HashMap, VecDeque};

use crate::broker::{
    client_shares::StoredKeys,
    idempotency::{Fingerprint, KnownKey},
};

/// Expired keys that an append may forget in addition to as many as it adds. The number of expired
/// keys therefore falls with every append.
const FORGET_PER_APPEND: usize = 16;

/// The keys of one channel. Times are by the log's clock, which never goes back.
///
/// Most channels have none, and pay for a pointer.
#[derive(Debug, Default)]
pub(super) struct Keys(Option<Box<KnownKeys>>);

#[derive(Debug, Default)]
struct KnownKeys {
    /// The known keys, each with the millisecond in which it expires.
    known: HashMap<Fingerprint, (u64, KnownKey)>,
    /// The keys in the order of their expiry. A key that was stored again after its expiry has two
    /// entries.
    expiries: VecDeque<(u64, Fingerprint)>,
}

impl Keys {
    /// Returns true if there are no keys. An expired key counts until it is forgotten.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns what is stored under a key, or `None` if the key is unknown or has expired.
    pub(super) fn find(&self, key: Fingerprint, log_ms: u64) -> Option<KnownKey> {
        let (expiry_ms, known) = *self.0.as_ref()?.known.get(&key)?;
        (expiry_ms > log_ms).then_some(known)
    }

    /// Returns the number of keys. An expired key counts until it is forgotten.
    pub(super) fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |keys| keys.known.len() as u64)
    }

    /// Makes room for `wanted` more keys, as far as keys have expired. Returns how many it forgot.
    pub(super) fn make_room(&mut self, wanted: usize, log_ms: u64) -> usize {
        self.forget_expired(log_ms, wanted + FORGET_PER_APPEND)
    }

    /// Returns when the last key expires; zero if there are no keys.
    pub(super) fn last_expiry_ms(&self) -> u64 {
        let last = self.0.as_ref().and_then(|keys| keys.expiries.back());
        last.map_or(0, |(expiry_ms, _)| *expiry_ms)
    }

    /// Returns what there is, if all channels together have `in_all` keys.
    pub(super) fn stored_beside(&self, in_all: u64) -> StoredKeys {
        StoredKeys {
            in_channel: self.count(),
            in_all,
            first_expiry_ms: self.first_expiry_ms().unwrap_or(u64::MAX),
        }
    }

    /// Returns when the first key expires.
    pub(super) fn first_expiry_ms(&self) -> Option<u64> {
        let first = self.0.as_ref()?.expiries.front();
        first.map(|(expiry_ms, _)| *expiry_ms)
    }

    /// Stores a key that is unknown or has expired, with the ids of its events.
    pub(super) fn remember(&mut self, key: Fingerprint, known: KnownKey, expiry_ms: u64) {
        let keys = self.0.get_or_insert_default();
        keys.known.insert(key, (expiry_ms, known));
        keys.expiries.push_back((expiry_ms, key));
    }

    /// Forgets up to `forget_max` expired keys, the oldest first. Returns how many.
    pub(super) fn forget_expired(&mut self, log_ms: u64, forget_max: usize) -> usize {
        let Some(keys) = &mut self.0 else {
            return 0;
        };
        let forgotten = (0..forget_max)
            .take_while(|_| keys.forget_first_expired(log_ms))
            .count();
        if keys.known.is_empty() {
            self.0 = None;
        }
        forgotten
    }
}

impl KnownKeys {
    /// Forgets the key that expired first. Returns false if no key has expired.
    fn forget_first_expired(&mut self, log_ms: u64) -> bool {
        while let Some((expiry_ms, key)) = self.pop_expired(log_ms) {
            if self.forget(key, expiry_ms) {
                return true;
            }
        }
        false
    }

    fn pop_expired(&mut self, log_ms: u64) -> Option<(u64, Fingerprint)> {
        self.expiries
            .pop_front_if(|(expiry_ms, _)| *expiry_ms <= log_ms)
    }

    /// Forgets a key, unless it was stored again after this expiry. Returns true if it is gone.
    fn forget(&mut self, key: Fingerprint, expiry_ms: u64) -> bool {
        let is_current = self.is_current(key, expiry_ms);
        if is_current {
            self.known.remove(&key);
        }
        is_current
    }

    fn is_current(&self, key: Fingerprint, expiry_ms: u64) -> bool {
        let current = self.known.get(&key);
        current.is_some_and(|(current_ms, _)| *current_ms == expiry_ms)
    }
}
