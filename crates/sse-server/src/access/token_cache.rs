//! Tokens that were checked before, by their SHA-256.
//!
//! A publisher sends the same token with each request. Its signature is checked once; afterwards it
//! costs one hash and one look-up. An entry counts only for the generation of rules and keys in
//! which it was made, and only until the token expires.
//!
//! An identity with many patterns and values of claims takes several places, so that the memory of
//! all has a limit whatever the templates of an issuer make of a token.
//!
//! Rejections are remembered too, so that a repeated wrong token does not cost a signature each
//! time. They have a table of their own: invented tokens cannot displace valid ones.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Digest, Identity, RejectionWord};

/// Tables with a lock each, so that workers seldom wait for one another.
const SHARDS: usize = 16;
/// Places for valid tokens of all shards.
pub(crate) const VERIFIED_MAX: usize = 8192;
/// Patterns and values of a valid token that fit into one place, some 8 KiB.
const PARTS_PER_PLACE: usize = 128;
/// Rejected tokens of all shards.
pub(crate) const REJECTED_MAX: usize = 2048;

/// The result of a check.
pub(crate) type Checked = Result<Arc<Identity>, RejectionWord>;

/// Tokens that were checked before.
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    verified: Table<Arc<Identity>>,
    rejected: Table<RejectionWord>,
}

impl TokenCache {
    /// Returns the result of an earlier check in this generation.
    pub(crate) fn get(&self, digest: &Digest, generation: u64) -> Option<Checked> {
        let mut shard = self
            .shard(digest)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = shard
            .verified
            .get(digest, generation, VERIFIED_MAX / SHARDS)
        {
            return Some(Ok(identity));
        }
        shard
            .rejected
            .get(digest, generation, REJECTED_MAX / SHARDS)
            .map(Err)
    }

    /// Remembers the result of a check that began in this generation.
    pub(crate) fn insert(&self, digest: Digest, generation: u64, checked: Checked) {
        let mut shard = self
            .shard(&digest)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match checked {
            Ok(identity) => {
                let entry = Entry {
                    generation,
                    places: 1 + identity.count_parts() / PARTS_PER_PLACE,
                    value: identity,
                };
                shard.verified.insert(digest, entry, VERIFIED_MAX / SHARDS);
            }
            Err(word) => {
                let entry = Entry {
                    generation,
                    places: 1,
                    value: word,
                };
                shard.rejected.insert(digest, entry, REJECTED_MAX / SHARDS);
            }
        }
    }

    fn shard(&self, digest: &Digest) -> &Mutex<Shard> {
        &self.shards[usize::from(digest[0]) % SHARDS]
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let sizes = self.shards.iter().map(|shard| {
            let shard = shard.lock().unwrap();
            let verified = &shard.verified;
            verified.new.len()
                + verified.old.len()
                + shard.rejected.new.len()
                + shard.rejected.old.len()
        });
        sizes.sum()
    }
}

/// A table that forgets what was not used for longest, in two halves: when the new half is full, it
/// becomes the old one, whose entries are forgotten unless they are used again.
#[derive(Debug)]
struct Table<T> {
    new: HashMap<Digest, Entry<T>>,
    /// Places that the entries of the new half take.
    new_places: usize,
    old: HashMap<Digest, Entry<T>>,
}

#[derive(Debug, Clone)]
struct Entry<T> {
    generation: u64,
    places: usize,
    value: T,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            new: HashMap::new(),
            new_places: 0,
            old: HashMap::new(),
        }
    }
}

impl<T: Clone> Table<T> {
    fn get(&mut self, digest: &Digest, generation: u64, max: usize) -> Option<T> {
        if !self.new.contains_key(digest) {
            let entry = self.old.remove(digest)?;
            self.insert(*digest, entry, max);
        }
        let entry = self.new.get(digest)?;
        (entry.generation == generation).then(|| entry.value.clone())
    }

    fn insert(&mut self, digest: Digest, entry: Entry<T>, max: usize) {
        if let Some(replaced) = self.new.remove(&digest) {
            self.new_places -= replaced.places;
        }
        if self.new_places + entry.places > max / 2 {
            self.old = mem::take(&mut self.new);
            self.new_places = 0;
        }
        self.new_places += entry.places;
        self.new.insert(digest, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Rights, digest, rules::CallerRules};

    const WORD: RejectionWord = RejectionWord::Signature;

    fn number(number: usize) -> Digest {
        digest(&number.to_string())
    }

    fn identity() -> Arc<Identity> {
        Arc::new(Identity::anonymous(CallerRules::default()))
    }

    #[test]
    fn an_entry_counts_only_for_its_generation() {
        let cache = TokenCache::default();
        cache.insert(number(1), 7, Err(WORD));
        cache.insert(number(2), 7, Ok(identity()));
        assert!(matches!(cache.get(&number(1), 7), Some(Err(WORD))));
        assert!(matches!(cache.get(&number(2), 7), Some(Ok(_))));
        assert!(cache.get(&number(1), 8).is_none() && cache.get(&number(3), 7).is_none());
        cache.insert(number(1), 8, Ok(identity()));
        assert!(matches!(cache.get(&number(1), 8), Some(Ok(_))));
    }

    #[test]
    fn invented_tokens_do_not_displace_valid_ones_and_are_bounded() {
        let cache = TokenCache::default();
        cache.insert(number(0), 1, Ok(identity()));
        for invented in 1..20_000 {
            cache.insert(number(invented), 1, Err(WORD));
        }
        assert!(cache.len() <= REJECTED_MAX + 1);
        assert!(cache.get(&number(0), 1).is_some());
    }

    #[test]
    fn identities_with_many_patterns_take_several_places() {
        let cache = TokenCache::default();
        let patterns = vec!["a.*".parse().unwrap(); 10 * PARTS_PER_PLACE];
        let rights = Rights {
            subscribe: patterns,
            ..Rights::default()
        };
        let large = CallerRules {
            rights,
            ..CallerRules::default()
        };
        for token in 0..3000 {
            let large = Arc::new(Identity::anonymous(large.clone()));
            cache.insert(number(token), 1, Ok(large));
        }
        assert!((100..=VERIFIED_MAX / 10).contains(&cache.len()));
        assert!(cache.get(&number(2999), 1).is_some());
    }

    #[test]
    fn what_is_used_is_remembered_and_the_rest_forgotten() {
        let cache = TokenCache::default();
        let used = number(0);
        cache.insert(used, 1, Ok(identity()));
        for other in 1..20_000 {
            cache.insert(number(other), 1, Ok(identity()));
            assert!(cache.get(&used, 1).is_some(), "after {other}");
        }
        assert!(cache.len() <= VERIFIED_MAX);
        assert!(cache.get(&number(1), 1).is_none());
    }
}
