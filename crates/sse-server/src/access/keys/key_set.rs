//! The keys of one issuer.

use super::verifying_key::{Thumbprint, VerifyingKey};
use crate::access::{RejectionWord, jwt::UnverifiedToken};

/// Keys in a set. A set with more is not used.
pub(crate) const KEYS_MAX: usize = 32;
/// Keys that are tried for a token without `kid`. Each one costs a verification.
const TRIED_MAX: usize = 4;

/// The keys of one issuer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct KeySet(Vec<VerifyingKey>);

/// Why no key of a set verifies a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The set has no key with this `kid`, and no key without an id verifies the token. A newer set
    /// may have the key. Otherwise this is why the token is rejected.
    Unknown(RejectionWord),
    /// The token is invalid.
    Rejected(RejectionWord),
}

impl KeySet {
    pub(crate) fn new(keys: Vec<VerifyingKey>) -> Self {
        Self(keys)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, thumbprint: &str) -> bool {
        self.0.iter().any(|key| **key.thumbprint() == *thumbprint)
    }

    /// Returns which key verifies the token.
    ///
    /// A key without an id, such as that of a PEM file, is tried for every token.
    pub(crate) fn verify(&self, token: &UnverifiedToken<'_>) -> Result<Thumbprint, NoKey> {
        let key_id = token.header.key_id.as_deref();
        let is_meant = |key: &&VerifyingKey| match (key_id, key.key_id()) {
            (Some(meant), Some(found)) => meant == found,
            _ => true,
        };
        let mut meant = self.0.iter().filter(is_meant).peekable();
        if meant.peek().is_none() {
            return Err(NoKey::Unknown(RejectionWord::UnknownKey));
        }
        let is_known = key_id.is_none_or(|meant| {
            let mut ids = self.0.iter().map(VerifyingKey::key_id);
            ids.any(|found| found == Some(meant))
        });
        let rejected = |word| {
            if is_known {
                NoKey::Rejected(word)
            } else {
                NoKey::Unknown(word)
            }
        };
        let algorithm = token.header.algorithm.parse().ok();
        let mut tried = meant
            .filter(|key| Some(key.algorithm()) == algorithm)
            .peekable();
        if tried.peek().is_none() {
            return Err(rejected(RejectionWord::Algorithm));
        }
        let key = tried
            .take(TRIED_MAX)
            .find(|key| key.verifies(token.message, token.signature))
            .ok_or_else(|| rejected(RejectionWord::Signature))?;
        Ok(key.thumbprint().clone())
    }
}
