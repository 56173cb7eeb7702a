//! The idempotency keys of one channel: what was stored under each key, until it expires.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::broker::{
    Appended, BrokerError,
    idempotency::{Fingerprint, IdempotencyKey, KeyLimits, KnownKey},
};

/// Expired keys that an append may forget in addition to as many as it adds. The number of expired
/// keys therefore falls with every append.
const FORGET_PER_APPEND: usize = 16;

/// The keys of one channel. Times are by the log's clock, which never goes back.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The known keys, each with the millisecond in which it expires.
    known: HashMap<Fingerprint, (u64, KnownKey)>,
    /// The keys in the order of their expiry. A key that was stored again after its expiry has two
    /// entries.
    expiries: VecDeque<(u64, Fingerprint)>,
}

impl Keys {
    /// Returns true if there are no keys. An expired key counts until it is forgotten.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Returns what is stored under a key, or `None` if the key is unknown or has expired.
    pub(super) fn find(&self, key: Fingerprint, log_ms: u64) -> Option<KnownKey> {
        self.known
            .get(&key)
            .filter(|(expiry_ms, _)| *expiry_ms > log_ms)
            .map(|(_, known)| *known)
    }

    /// Makes room for `wanted` more keys.
    ///
    /// # Errors
    ///
    /// [`BrokerError::TooManyKeys`] if too many keys have not expired yet.
    pub(super) fn make_room(
        &mut self,
        wanted: usize,
        log_ms: u64,
        limits: KeyLimits,
    ) -> Result<(), BrokerError> {
        self.forget_expired(log_ms, wanted + FORGET_PER_APPEND);
        if self.known.len() + wanted <= limits.keys_max {
            return Ok(());
        }
        let first_expiry_ms = self
            .expiries
            .front()
            .map_or(u64::MAX, |(expiry_ms, _)| *expiry_ms);
        Err(BrokerError::TooManyKeys {
            keys_max: limits.keys_max,
            expires_in: Duration::from_millis(first_expiry_ms.saturating_sub(log_ms)),
        })
    }

    /// Stores a key that is unknown or has expired, with the ids of its events.
    pub(super) fn remember(
        &mut self,
        idempotency: IdempotencyKey,
        ids: Appended,
        log_ms: u64,
        limits: KeyLimits,
    ) {
        let expiry_ms = log_ms.saturating_add(limits.window_ms());
        let known = KnownKey {
            ids,
            content: idempotency.content,
        };
        self.known.insert(idempotency.key, (expiry_ms, known));
        self.expiries.push_back((expiry_ms, idempotency.key));
    }

    /// Forgets up to `forget_max` expired keys, the oldest first. Returns how many.
    pub(super) fn forget_expired(&mut self, log_ms: u64, forget_max: usize) -> usize {
        let mut forgotten = 0;
        while forgotten < forget_max
            && let Some((expiry_ms, key)) = self.expiries.front().copied()
            && expiry_ms <= log_ms
        {
            self.expiries.pop_front();
            if self
                .known
                .get(&key)
                .is_some_and(|(current_ms, _)| *current_ms == expiry_ms)
            {
                self.known.remove(&key);
                forgotten += 1;
            }
        }
        forgotten
    }
}
