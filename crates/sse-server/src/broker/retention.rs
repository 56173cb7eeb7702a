//! How much a broker keeps, and for how long: events, channels and idempotency keys.

use std::{num::NonZeroUsize, time::Duration};

use super::BrokerError;

/// Limits of the history. The broker trims the oldest events beyond them.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Events per channel. Redis trims whole stream nodes and may exceed it by about a hundred.
    pub events_max: NonZeroUsize,
    /// Age of an event. Redis measures it by its own clock, the other logs by that of the server.
    ///
    /// The newest event of a channel stays: subscribers that have seen everything resume from it.
    pub age_max: Duration,
    /// Bytes of all channels together. Redis ignores it; its `maxmemory` is the limit.
    pub bytes_max: u64,
    /// Number of channels.
    ///
    /// A publish to one more channel is rejected, unless a channel whose events are all too old can
    /// be forgotten.
    pub channels_max: usize,
    /// Limits of the idempotency keys.
    pub keys: KeyLimits,
}

impl Retention {
    /// Returns the millisecond before which an event is too old at the time `now_ms`.
    pub(super) fn cutoff_ms(&self, now_ms: u64) -> u64 {
        let age_ms = u64::try_from(self.age_max.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_sub(age_ms)
    }

    /// Returns the pause between two sweeps for old events and expired keys.
    ///
    /// An event or key outlives its limit by at most a quarter of the shorter limit, or by 10 s.
    pub(super) fn sweep_interval(&self) -> Duration {
        let shortest = self.age_max.min(self.keys.window);
        (shortest / 4).clamp(Duration::from_millis(50), Duration::from_secs(10))
    }
}

/// Limits of the idempotency keys.
#[derive(Debug, Clone, Copy)]
pub struct KeyLimits {
    /// How long a key is known after its publish, by the log's clock.
    ///
    /// A key keeps the expiry that it got, even across a restart with another window.
    pub window: Duration,
    /// Keys per channel. A new key beyond this limit is rejected, because the window is a
    /// guarantee.
    pub keys_max: usize,
    /// Bytes of the keys of all channels together. Redis ignores it; its `maxmemory` is the limit.
    pub bytes_max: u64,
}

/// What a key counts towards the limit of bytes: at least what it takes in memory or on disk.
pub(crate) const KEY_BYTES: u64 = 256;

impl KeyLimits {
    /// Returns the window in milliseconds.
    #[must_use]
    pub fn window_ms(&self) -> u64 {
        u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns when a key expires that is stored at the log's time `log_ms`.
    pub(super) fn expiry_ms(&self, log_ms: u64) -> u64 {
        log_ms.saturating_add(self.window_ms())
    }

    /// Returns how many keys all channels together may have.
    pub(super) const fn all_keys_max(&self) -> u64 {
        self.bytes_max / KEY_BYTES
    }

    /// The keys of all channels take too many bytes.
    pub(super) fn key_bytes_full(&self) -> BrokerError {
        BrokerError::KeyBytesFull {
            expires_in: self.window / 8,
        }
    }

    /// The channel has too many keys, of which the first expires at `first_expiry_ms`.
    pub(super) const fn too_many_keys(&self, first_expiry_ms: u64, log_ms: u64) -> BrokerError {
        BrokerError::TooManyKeys {
            keys_max: self.keys_max,
            expires_in: Duration::from_millis(first_expiry_ms.saturating_sub(log_ms)),
        }
    }
}
