//! What a rate remembers of each key: until when its bucket is in use.
//!
//! The crate's own stores grow with the number of keys, and a client with many addresses could make
//! them as large as it likes. This one has [`KEYS_MAX`] keys. A key whose bucket is full again is
//! forgotten when there is need. If all keys are in use, further ones share one bucket.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use governor::{
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};

use super::QuotaKey;

/// Keys that have a bucket of their own, some 5 MiB of them per limit.
pub(super) const KEYS_MAX: usize = 1 << 16;

/// The store of one rate.
#[derive(Debug)]
pub(super) struct BoundedStore {
    keys_max: usize,
    states: Mutex<States>,
}

#[derive(Debug, Default)]
struct States {
    of_key: HashMap<QuotaKey, Nanos>,
    /// Of all keys for which there was no room.
    of_others: Option<Nanos>,
}

impl BoundedStore {
    /// Creates an empty store with room for this many keys.
    pub(super) fn new(keys_max: usize) -> Self {
        Self {
            keys_max,
            states: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, States> {
        // No code panics while it holds this lock.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for BoundedStore {
    type Key = QuotaKey;

    fn measure_and_replace<T, F, E>(&self, key: &QuotaKey, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut states = self.lock();
        if let Some(state) = states.of_key.get_mut(key) {
            let (outcome, next) = decide(Some(*state))?;
            *state = next;
            return Ok(outcome);
        }
        if states.of_key.len() < self.keys_max {
            let (outcome, next) = decide(None)?;
            states.of_key.insert(key.clone(), next);
            return Ok(outcome);
        }
        let (outcome, next) = decide(states.of_others)?;
        states.of_others = Some(next);
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<QuotaKey> for BoundedStore {
    fn retain_recent(&self, drop_below: Nanos) {
        self.lock().of_key.retain(|_, state| *state > drop_below);
    }

    fn len(&self) -> usize {
        self.lock().of_key.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
