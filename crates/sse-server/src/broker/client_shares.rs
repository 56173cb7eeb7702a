//! The part that one client may have of the limits of a log.
//!
//! `budget::holdings` has the rule. Holdings belong to the process: a restart forgets them, and
//! over Redis each node counts for itself.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sse_proto::Channel;

use super::{BrokerError, Publisher, Retention, idempotency::KeyLimits};
use crate::budget::{ClientNet, Holdings, free_needed};

/// A client should try again after this time at the latest, because channels of other clients may be
/// forgotten meanwhile.
const RETRY_MAX: Duration = Duration::from_hours(1);

/// What the clients of a log hold.
#[derive(Debug)]
pub(super) struct ClientShares {
    /// New channels. A channel can be forgotten once its events are too old.
    channels: Mutex<Holdings<ClientNet>>,
    keys: Mutex<KeyHoldings>,
}

/// The idempotency keys that the clients of a log hold.
#[derive(Debug)]
struct KeyHoldings {
    in_channel: Holdings<(Channel, ClientNet)>,
    in_all: Holdings<ClientNet>,
}

/// Idempotency keys that an append would store.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewKeys<'a> {
    pub(super) publisher: Publisher,
    pub(super) channel: &'a Channel,
    pub(super) count: u64,
    /// The log's time.
    pub(super) log_ms: u64,
}

/// Idempotency keys that a log has already.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredKeys {
    pub(super) in_channel: u64,
    pub(super) in_all: u64,
    /// When the first key of the channel expires.
    pub(super) first_expiry_ms: u64,
}

impl ClientShares {
    pub(super) fn new(retention: &Retention) -> Self {
        Self {
            channels: Mutex::new(Holdings::new(retention.age_max)),
            keys: Mutex::new(KeyHoldings {
                in_channel: Holdings::new(retention.keys.window),
                in_all: Holdings::new(retention.keys.window),
            }),
        }
    }

    /// Checks that `publisher` may create one more channel.
    ///
    /// `has_free` returns whether at least that number of channels is free.
    ///
    /// # Errors
    ///
    /// [`BrokerError::TooManyNewChannels`] if the client has its part.
    pub(super) fn check_new_channel(
        &self,
        publisher: Publisher,
        now_ms: u64,
        has_free: impl FnOnce(usize) -> bool,
    ) -> Result<(), BrokerError> {
        let Some(client) = publisher.client() else {
            return Ok(());
        };
        let mut channels = lock(&self.channels);
        let created = channels.held(&client, now_ms);
        if has_free(usize::try_from(free_needed(created, 1)).unwrap_or(usize::MAX)) {
            return Ok(());
        }
        Err(BrokerError::TooManyNewChannels {
            created,
            retry_in: channels.time_until_release(&client, now_ms).min(RETRY_MAX),
        })
    }

    /// Records that `publisher` created a channel.
    pub(super) fn record_new_channel(&self, publisher: Publisher, now_ms: u64) {
        if let Some(client) = publisher.client() {
            lock(&self.channels).take(client, 1, now_ms);
        }
    }

    /// Takes back a channel that was recorded at `now_ms` and not created.
    pub(super) fn take_back_new_channel(&self, publisher: Publisher, now_ms: u64) {
        if let Some(client) = publisher.client() {
            lock(&self.channels).take_back(&client, 1, now_ms);
        }
    }

    /// Checks that there is room for new keys, in the channel, in the log, and in the part of the
    /// client.
    ///
    /// # Errors
    ///
    /// [`BrokerError::TooManyKeys`], [`BrokerError::KeyBytesFull`],
    /// [`BrokerError::TooManyKeysOfClient`].
    pub(super) fn check_keys(
        &self,
        new: NewKeys<'_>,
        stored: StoredKeys,
        limits: KeyLimits,
    ) -> Result<(), BrokerError> {
        let free_in_channel = (limits.keys_max as u64).saturating_sub(stored.in_channel);
        if free_in_channel < new.count {
            return Err(limits.too_many_keys(stored.first_expiry_ms, new.log_ms));
        }
        let free_in_all = limits.all_keys_max().saturating_sub(stored.in_all);
        if free_in_all < new.count {
            return Err(limits.key_bytes_full());
        }
        let Some(held) = self.held_keys(new) else {
            return Ok(());
        };
        if free_in_channel < free_needed(held.in_channel, new.count)
            || free_in_all < free_needed(held.in_all, new.count)
        {
            return Err(self.too_many_keys_of_client(new, held.in_all));
        }
        Ok(())
    }

    /// Returns the keys that the client of `new` holds; `None` if it has no limit of its own.
    fn held_keys(&self, new: NewKeys<'_>) -> Option<HeldKeys> {
        let client = new.publisher.client()?;
        let mut keys = lock(&self.keys);
        let in_channel = (new.channel.clone(), client);
        Some(HeldKeys {
            in_channel: keys.in_channel.held(&in_channel, new.log_ms),
            in_all: keys.in_all.held(&client, new.log_ms),
        })
    }

    /// The client of `new` has its part of the keys.
    fn too_many_keys_of_client(&self, new: NewKeys<'_>, held: u64) -> BrokerError {
        let release = |client| {
            lock(&self.keys)
                .in_all
                .time_until_release(&client, new.log_ms)
        };
        BrokerError::TooManyKeysOfClient {
            held,
            expires_in: new.publisher.client().map(release).unwrap_or_default(),
        }
    }

    /// Records keys before it is known how many of them an append stores.
    pub(super) fn claim_keys<'a>(&'a self, new: NewKeys<'a>) -> KeyClaim<'a> {
        let held_before = self.held_keys(new);
        self.record_keys(new);
        KeyClaim {
            shares: self,
            claimed: new,
            held_before,
        }
    }

    fn take_back_keys(&self, keys: NewKeys<'_>) {
        if let Some(client) = keys.publisher.client() {
            let mut held = lock(&self.keys);
            let in_channel = (keys.channel.clone(), client);
            held.in_channel
                .take_back(&in_channel, keys.count, keys.log_ms);
            held.in_all.take_back(&client, keys.count, keys.log_ms);
        }
    }

    /// Records that the client of `new` stored keys.
    pub(super) fn record_keys(&self, new: NewKeys<'_>) {
        if let Some(client) = new.publisher.client().filter(|_| new.count > 0) {
            let mut keys = lock(&self.keys);
            let in_channel = (new.channel.clone(), client);
            keys.in_channel.take(in_channel, new.count, new.log_ms);
            keys.in_all.take(client, new.count, new.log_ms);
        }
    }
}

/// Keys that count for a client while an append is in flight, so that appends at the same time
/// cannot exceed its part together. What the append did not store is taken back.
pub(super) struct KeyClaim<'a> {
    shares: &'a ClientShares,
    claimed: NewKeys<'a>,
    held_before: Option<HeldKeys>,
}

impl KeyClaim<'_> {
    /// Returns how many keys of the channel the client held before; `None` if it has no limit.
    pub(super) fn held_before(&self) -> Option<u64> {
        self.held_before.as_ref().map(|held| held.in_channel)
    }

    /// The client has its part of the keys.
    pub(super) fn too_many_keys(&self) -> BrokerError {
        let held = self.held_before.as_ref().map_or(0, |held| held.in_all);
        self.shares.too_many_keys_of_client(self.claimed, held)
    }

    /// Keeps the keys that the append has stored.
    pub(super) fn keep(mut self, stored: u64) {
        self.claimed.count -= stored.min(self.claimed.count);
    }
}

impl Drop for KeyClaim<'_> {
    fn drop(&mut self) {
        self.shares.take_back_keys(self.claimed);
    }
}

/// Idempotency keys that a client holds.
#[derive(Debug, Default)]
struct HeldKeys {
    in_channel: u64,
    in_all: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
