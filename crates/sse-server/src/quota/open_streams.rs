//! The open streams of each key.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::QuotaKey;

/// Counts the streams of each key. Only keys with open streams have an entry, so the limit of all
/// streams bounds the map.
#[derive(Debug, Clone)]
pub(super) struct OpenStreams {
    max: NonZeroUsize,
    open: Arc<Mutex<HashMap<QuotaKey, usize>>>,
}

impl OpenStreams {
    pub(super) fn new(max: NonZeroUsize) -> Self {
        Self {
            max,
            open: Arc::default(),
        }
    }

    /// The limit of one key.
    pub(super) const fn max(&self) -> usize {
        self.max.get()
    }

    /// Counts one more stream of a key; returns `None` if the key has as many as it may have.
    pub(super) fn open(&self, key: &QuotaKey) -> Option<StreamPermit> {
        let mut open = self.lock();
        match open.get_mut(key) {
            Some(count) if *count >= self.max() => return None,
            Some(count) => *count += 1,
            None => drop(open.insert(key.clone(), 1)),
        }
        Some(StreamPermit {
            streams: self.clone(),
            key: key.clone(),
        })
    }

    fn close(&self, key: &QuotaKey) {
        let mut open = self.lock();
        if let Some(count) = open.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                open.remove(key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<QuotaKey, usize>> {
        // No code panics while it holds this lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one stream until it is dropped.
#[derive(Debug)]
pub struct StreamPermit {
    streams: OpenStreams,
    key: QuotaKey,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.streams.close(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_streams_and_a_closed_one_makes_room() {
        let streams = OpenStreams::new(NonZeroUsize::new(2).unwrap());
        let [one, other] = [1, 2].map(QuotaKey::Principal);
        let (first, second) = (streams.open(&one), streams.open(&one));
        assert!(first.is_some() && second.is_some() && streams.open(&one).is_none());
        assert!(streams.open(&other).is_some());
        drop(first);
        let third = streams.open(&one);
        assert!(third.is_some() && streams.open(&one).is_none());
        drop((second, third));
        assert!(streams.lock().is_empty());
    }
}
