//! The part that one client may have of the limits of a log.
//!
//! `budget::holdings` has the rule. Holdings belong to the process: a restart forgets them, and
//! over Redis each node counts for itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{BrokerError, Publisher, Retention};
use crate::budget::{ClientNet, Holdings, free_needed};

/// What the clients of a log hold.
#[derive(Debug)]
pub(super) struct ClientShares {
    /// New channels. A channel can be forgotten once its events are too old.
    channels: Mutex<Holdings<ClientNet>>,
}

impl ClientShares {
    pub(super) fn new(retention: &Retention) -> Self {
        Self {
            channels: Mutex::new(Holdings::new(retention.age_max)),
        }
    }

    /// Checks that `publisher` may create one more channel.
    ///
    /// `has_free` returns whether at least so many channels are free.
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
            retry_in: channels.time_until_release(&client, now_ms),
        })
    }

    /// Records that `publisher` created a channel.
    pub(super) fn record_new_channel(&self, publisher: Publisher, now_ms: u64) {
        if let Some(client) = publisher.client() {
            lock(&self.channels).take(client, 1, now_ms);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
