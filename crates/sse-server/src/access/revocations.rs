//! Which credentials are revoked.
//!
//! The broker stores revocations as texts that all nodes share (`broker::revocations`). A task
//! reads them into a [`Revocations`] four times a second, so a revocation takes effect within a second
//! on every node, and after a restart. Before the first reading no credential is accepted.
//!
//! | revocation | revokes |
//! |---|---|
//! | `{"iss":…,"jti":…}` | one token or ticket |
//! | `{"iss":…,"sub":…,"before":…}` | what the issuer issued to a subject until a time |
//! | `{"key":…}` | an API key by its name, and the tickets that it created |
//! | `{"digest":…}` | the token with this SHA-256 |
//!
//! A node that has read a revocation keeps it until its time has passed. If Redis loses it in a
//! failover, the node stores it again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Creator, CredentialError, Identity, Principal, RejectionWord, to_hex};
use crate::epoch::milliseconds;

/// If the set of revocations could not be read for this time, the node warns.
pub const UNREADABLE_MAX: Duration = Duration::from_secs(10);

/// What is revoked. The stored text is its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Revocation {
    /// One token.
    Token {
        /// The issuer of the token.
        iss: String,
        /// The id of the token.
        jti: String,
    },
    /// The tokens of a subject that were issued until a time.
    Subject {
        /// The issuer of the tokens.
        iss: String,
        /// The subject of the tokens.
        sub: String,
        /// Milliseconds since the Unix epoch.
        before: u64,
    },
    /// An API key.
    Key {
        /// The name of the key.
        key: String,
    },
    /// A token that is known by its text only.
    Text {
        /// The SHA-256 of the token, in hex.
        digest: String,
    },
}

impl Revocation {
    /// Returns the form in which brokers store the revocation.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`to_text`](Self::to_text) wrote; returns `None` for any other text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// The revocations that a node knows, by what they revoke.
#[derive(Debug, Default)]
struct Known {
    /// When each may be forgotten, in milliseconds since the Unix epoch.
    until_ms: HashMap<Revocation, u64>,
    tokens: HashSet<(String, String)>,
    subjects: HashMap<(String, String), u64>,
    keys: HashSet<String>,
    digests: HashSet<String>,
}

/// The revocations that take effect; clones share them.
#[derive(Debug, Clone)]
pub struct Revocations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` until the first reading.
    known: RwLock<Option<Known>>,
    last_read: RwLock<Instant>,
    /// Counts the changes.
    version: watch::Sender<u64>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self(Arc::new(Inner {
            known: RwLock::default(),
            last_read: RwLock::new(Instant::now()),
            version: watch::Sender::new(0),
        }))
    }
}

impl Revocations {
    /// Rejects an identity whose credential is revoked.
    ///
    /// # Errors
    ///
    /// - `Rejected(Revoked)`.
    /// - `Unavailable`: the revocations were not read yet.
    pub fn check(&self, identity: &Identity) -> Result<(), CredentialError> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            None => Err(CredentialError::Unavailable),
            Some(known) if known.has_revoked(identity) => Err(RejectionWord::Revoked.into()),
            Some(_) => Ok(()),
        }
    }

    /// Returns until when a revocation is stored, in milliseconds since the Unix epoch; `None` if this
    /// node does not know it.
    #[must_use]
    pub fn until_ms(&self, revocation: &Revocation) -> Option<u64> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known.as_ref()?.until_ms.get(revocation).copied()
    }

    /// Returns a receiver that is notified of each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// Returns a number that increases with each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        *self.0.version.borrow()
    }

    /// Returns how long ago the stored revocations could be read.
    #[must_use]
    pub fn age(&self) -> Duration {
        let last = self.0.last_read.read();
        last.unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Records that the stored revocations were read, or have not changed.
    pub fn record_read(&self) {
        let last = self.0.last_read.write();
        *last.unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Takes over the stored revocations. Returns those that this node knows, but that are not
    /// stored any more although their time has not passed.
    pub fn update(
        &self,
        stored: HashMap<Revocation, u64>,
        now: SystemTime,
    ) -> Vec<(Revocation, u64)> {
        let now_ms = milliseconds(now);
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut until_ms = stored;
        let mut lost = Vec::new();
        if let Some(known) = &*known {
            for (revocation, until) in &known.until_ms {
                if *until > now_ms && !until_ms.contains_key(revocation) {
                    lost.push((revocation.clone(), *until));
                }
            }
        }
        until_ms.extend(lost.iter().cloned());
        until_ms.retain(|_, until| *until > now_ms);
        *known = Some(Known::of(until_ms));
        drop(known);
        self.record_read();
        self.0.version.send_modify(|version| *version += 1);
        lost
    }
}

impl Known {
    fn of(until_ms: HashMap<Revocation, u64>) -> Self {
        let mut known = Self::default();
        for revocation in until_ms.keys() {
            known.index(revocation.clone());
        }
        known.until_ms = until_ms;
        known
    }

    fn index(&mut self, revocation: Revocation) {
        match revocation {
            Revocation::Token { iss, jti } => {
                self.tokens.insert((iss, jti));
            }
            Revocation::Subject { iss, sub, before } => {
                let newest = self.subjects.entry((iss, sub)).or_default();
                *newest = before.max(*newest);
            }
            Revocation::Key { key } => {
                self.keys.insert(key);
            }
            Revocation::Text { digest } => {
                self.digests.insert(digest);
            }
        }
    }

    fn has_revoked(&self, identity: &Identity) -> bool {
        // Nearly always nothing is revoked.
        if self.until_ms.is_empty() {
            return false;
        }
        self.has_revoked_token(identity)
            || match identity.principal() {
                Principal::Anonymous => false,
                Principal::Key { name } => self.keys.contains(&**name),
                Principal::Subject { iss, sub } => {
                    self.has_revoked_subject(iss, sub, issued_ms(identity))
                }
                Principal::Ticket { by, sub } => {
                    self.has_revoked_creator(by, identity)
                        || identity.issuer().is_some_and(|iss| {
                            self.has_revoked_subject(iss, sub, issued_ms(identity))
                        })
                }
            }
    }

    fn has_revoked_token(&self, identity: &Identity) -> bool {
        let digest = identity.credential_digest();
        if digest.is_some_and(|digest| self.digests.contains(&to_hex(digest))) {
            return true;
        }
        match (identity.issuer(), identity.jti()) {
            (Some(iss), Some(jti)) => self.has_revoked_id(iss, jti),
            _ => false,
        }
    }

    fn has_revoked_id(&self, iss: &str, jti: &str) -> bool {
        self.tokens.contains(&(iss.to_owned(), jti.to_owned()))
    }

    /// A token without the time at which it was issued counts as old.
    fn has_revoked_subject(&self, iss: &str, sub: &str, issued_ms: Option<u64>) -> bool {
        let before = self.subjects.get(&(iss.to_owned(), sub.to_owned()));
        before.is_some_and(|before| issued_ms.unwrap_or_default() <= *before)
    }

    fn has_revoked_creator(&self, creator: &Creator, identity: &Identity) -> bool {
        let (iss, sub) = match creator {
            Creator::Key(name) => {
                let key = identity.creator_key();
                return self.keys.contains(&**name)
                    || key.is_some_and(|key| self.digests.contains(&*key.digest));
            }
            Creator::Operator => return false,
            Creator::Subject { iss, sub } => (iss, sub),
        };
        let Some(token) = identity.creator_token() else {
            return true;
        };
        let issued_ms = token.iat.map(|seconds| seconds.saturating_mul(1000));
        self.digests.contains(&*token.token)
            || token
                .jti
                .as_ref()
                .is_some_and(|jti| self.has_revoked_id(iss, jti))
            || self.has_revoked_subject(iss, sub, issued_ms)
    }
}

fn issued_ms(identity: &Identity) -> Option<u64> {
    identity.issued_at().map(milliseconds)
}
