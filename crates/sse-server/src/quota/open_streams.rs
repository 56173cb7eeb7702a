//! The open streams of each key.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::QuotaKey;

/// Counts the streams of each key that has a limit; clones share the counts. Only keys with open
/// streams have an entry, so the limit of all streams bounds the map.
///
/// The counts belong to no limit, so they stay when a limit changes.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenStreams(Arc<Mutex<HashMap<QuotaKey, usize>>>);

impl OpenStreams {
    /// Counts one more stream of a key; returns `None` if the key has `max` already.
    pub(super) fn open(&self, key: &QuotaKey, max: usize) -> Option<StreamPermit> {
        let mut open = self.lock();
        match open.get_mut(key) {
            Some(count) if *count >= max => return None,
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let streams = OpenStreams::default();
        let [one, other] = [1, 2].map(QuotaKey::Principal);
        let open = |key| streams.open(key, 2);
        let (first, second) = (open(&one), open(&one));
        assert!(first.is_some() && second.is_some() && open(&one).is_none());
        assert!(open(&other).is_some());
        drop(first);
        let third = open(&one);
        assert!(third.is_some() && open(&one).is_none());
        // A limit that was raised counts the streams that are open.
        let fourth = streams.open(&one, 3);
        assert!(fourth.is_some() && streams.open(&one, 3).is_none());
        drop(fourth);
        drop((second, third));
        assert!(streams.lock().is_empty());
    }
}
