//! What a rate remembers of each key: until when its bucket is in use.
//!
//! The crate's own stores grow with the number of keys, and a client with many addresses could make
//! them as large as it likes. This one has [`KEYS_MAX`] networks and as many principals. A key whose
//! bucket is full again is forgotten when there is need. If all keys of a kind are in use, further
//! ones of this kind share one bucket. So a flood of anonymous networks takes no bucket from a
//! principal.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use governor::{
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};

use super::QuotaKey;

/// Keys of one kind that have a bucket of their own, some 5 MiB of them per limit.
pub(super) const KEYS_MAX: usize = 1 << 16;

/// The store of one rate.
#[derive(Debug)]
pub(super) struct BoundedStore {
    keys_max: usize,
    states: Mutex<States>,
}

#[derive(Debug, Default)]
struct States {
    networks: Buckets,
    principals: Buckets,
}

/// The buckets of the keys of one kind.
#[derive(Debug, Default)]
struct Buckets {
    of_key: HashMap<QuotaKey, Nanos>,
    /// Of all keys for which there was no room.
    of_others: Option<Nanos>,
}

impl States {
    const fn of_kind(&mut self, key: &QuotaKey) -> &mut Buckets {
        match key {
            QuotaKey::Client(_) => &mut self.networks,
            QuotaKey::Principal(_) => &mut self.principals,
        }
    }
}

impl BoundedStore {
    /// Creates an empty store with room for this many keys of each kind.
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
        let buckets = states.of_kind(key);
        if let Some(state) = buckets.of_key.get_mut(key) {
            let (outcome, next) = decide(Some(*state))?;
            *state = next;
            return Ok(outcome);
        }
        if buckets.of_key.len() < self.keys_max {
            let (outcome, next) = decide(None)?;
            buckets.of_key.insert(key.clone(), next);
            return Ok(outcome);
        }
        let (outcome, next) = decide(buckets.of_others)?;
        buckets.of_others = Some(next);
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<QuotaKey> for BoundedStore {
    fn retain_recent(&self, drop_below: Nanos) {
        let mut states = self.lock();
        let States {
            networks,
            principals,
        } = &mut *states;
        for buckets in [networks, principals] {
            buckets.of_key.retain(|_, state| *state > drop_below);
        }
    }

    /// Returns the number of keys of the kind that has more of them, which decides whether there is
    /// need for room.
    fn len(&self) -> usize {
        let states = self.lock();
        let (networks, principals) = (&states.networks, &states.principals);
        networks.of_key.len().max(principals.of_key.len())
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
