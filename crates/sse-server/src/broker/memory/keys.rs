//! The keys of publishes that may be sent again: what was stored in a channel under each, until it expires.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::broker::{
    Appended, BrokerError,
    idempotency::{Fingerprint, IdempotencyKey, KeyLimits, KnownKey},
};

/// Expired keys that an append may forget, beyond as many as it brings: so that they get fewer.
const SWEPT_PER_APPEND: usize = 16;

/// The keys of one channel. Times are by the log's clock, which never goes back.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// With when each expires.
    known: HashMap<Fingerprint, (u64, KnownKey)>,
    /// In the order in which they expire. One that came again after it had expired is here twice.
    expiries: VecDeque<(u64, Fingerprint)>,
}

impl Keys {
    /// Whether there are none, expired ones that are not yet forgotten included.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What is known of a key, unless it has expired.
    pub(super) fn look(&self, key: Fingerprint, now_ms: u64) -> Option<KnownKey> {
        self.known
            .get(&key)
            .filter(|(expires_ms, _)| *expires_ms > now_ms)
            .map(|(_, known)| *known)
    }

    /// Sees that there may be so many more.
    ///
    /// # Errors
    /// `TooManyKeys`.
    pub(super) fn make_room(
        &mut self,
        wanted: usize,
        now_ms: u64,
        limits: KeyLimits,
    ) -> Result<(), BrokerError> {
        self.forget_expired(now_ms, wanted + SWEPT_PER_APPEND);
        if self.known.len() + wanted <= limits.keys_max {
            return Ok(());
        }
        let oldest_ms = self
            .expiries
            .front()
            .map_or(u64::MAX, |(expires_ms, _)| *expires_ms);
        let expires_in = Duration::from_millis(oldest_ms.saturating_sub(now_ms));
        Err(BrokerError::TooManyKeys {
            keys_max: limits.keys_max,
            expires_in,
        })
    }

    /// Keeps what was stored under a key that is not known, or has expired.
    pub(super) fn remember(
        &mut self,
        idempotency: IdempotencyKey,
        ids: Appended,
        now_ms: u64,
        limits: KeyLimits,
    ) {
        let expires_ms = now_ms.saturating_add(limits.window_ms());
        self.known.insert(
            idempotency.key,
            (
                expires_ms,
                KnownKey {
                    ids,
                    content: idempotency.content,
                },
            ),
        );
        self.expiries.push_back((expires_ms, idempotency.key));
    }

    /// Forgets up to `most` expired keys, the oldest first; returns how many.
    pub(super) fn forget_expired(&mut self, now_ms: u64, most: usize) -> usize {
        let mut forgotten = 0;
        while forgotten < most
            && let Some((expires_ms, key)) = self.expiries.front().copied()
            && expires_ms <= now_ms
        {
            self.expiries.pop_front();
            if self
                .known
                .get(&key)
                .is_some_and(|(current_ms, _)| *current_ms == expires_ms)
            {
                self.known.remove(&key);
                forgotten += 1;
            }
        }
        forgotten
    }
}
