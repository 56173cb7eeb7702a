//! The number by which logs distinguish the idempotency keys of principals.

use sha2::{Digest as _, Sha256};

use super::{Identity, Principal};

impl Identity {
    /// Returns a number of the principal, the same on every node and after every restart; `None`
    /// for anonymous callers.
    ///
    /// It costs a hash, so it is computed only for publishes with idempotency keys.
    #[must_use]
    pub fn owner_number(&self) -> Option<u64> {
        if self.principal() == &Principal::Anonymous {
            return None;
        }
        let text = format!("principal:{:?}", self.principal());
        let hash = Sha256::digest(text);
        let first = hash.first_chunk().copied().unwrap_or_default();
        Some(u64::from_be_bytes(first).max(1))
    }
}
