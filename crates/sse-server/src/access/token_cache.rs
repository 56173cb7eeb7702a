//! Tokens that were checked before, by their SHA-256.
//!
//! A publisher sends the same token with each request. Its signature is checked once; afterwards it
//! costs one hash and one look-up. An entry counts only for the generation of rules and keys in
//! which it was made, and only until the token expires.
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
/// Valid tokens of all shards.
pub(crate) const VERIFIED_MAX: usize = 8192;
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
                shard
                    .verified
                    .insert(digest, (generation, identity), VERIFIED_MAX / SHARDS);
            }
            Err(word) => shard
                .rejected
                .insert(digest, (generation, word), REJECTED_MAX / SHARDS),
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
    new: HashMap<Digest, (u64, T)>,
    old: HashMap<Digest, (u64, T)>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            new: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<T: Clone> Table<T> {
    fn get(&mut self, digest: &Digest, generation: u64, max: usize) -> Option<T> {
        let found = if let Some((entry_generation, value)) = self.new.get(digest) {
            (*entry_generation, value.clone())
        } else {
            let entry = self.old.remove(digest)?;
            self.insert(*digest, entry.clone(), max);
            entry
        };
        (found.0 == generation).then_some(found.1)
    }

    fn insert(&mut self, digest: Digest, entry: (u64, T), max: usize) {
        if self.new.len() >= max / 2 && !self.new.contains_key(&digest) {
            self.old = mem::take(&mut self.new);
        }
        self.new.insert(digest, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{digest, rules::CallerRules};

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
