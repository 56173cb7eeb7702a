//! Access control: which callers exist, and what each of them may do.
//!
//! | file | contents |
//! |---|---|
//! | `rules` | what the configuration says: anonymous callers, API keys, issuers, the signing key |
//! | `rights`, `pattern`, `template` | what a caller may do, for which channels |
//! | `identity` | who a verified credential belongs to, what it may do and until when |
//! | `credential_error` | why a credential is rejected |
//! | `control` | rules and revocations together, for callers and for open streams |
//! | `revocations` | which credentials are revoked |
//! | `token_facts` | what a token states without a proof |
//! | `owner` | the number of a principal, for idempotency keys |
//! | `facts` | what a verified token proves, independent of the rules |
//! | `snapshot` | the rules at one time, prepared for look-ups |
//! | `verify` | from the text of a token to an identity |
//! | `token_cache`, `generation` | tokens that were checked before, until rules or keys change |
//! | `api_key`, `secret` | keys of callers; text that is not printed |
//! | `jwt` | tokens as text |
//! | `keys` | the keys of issuers, from files and by URL |
//! | `ticket` | tokens that this server signs |
//!
//! Nothing here knows HTTP requests: the text of a credential comes in, and an [`Identity`] or a
//! [`CredentialError`] comes out. `http` takes the text from the request and writes the response.

mod api_key;
mod control;
mod credential_error;
mod facts;
mod generation;
mod identity;
mod jwt;
pub(crate) mod keys;
mod owner;
mod pattern;
pub mod revocations;
mod rights;
pub(crate) mod rules;
mod secret;
mod snapshot;
mod template;
pub(crate) mod ticket;
mod token_cache;
pub mod token_facts;
mod verify;

use std::{sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::watch};

pub use self::{
    api_key::{Digest, create_api_key, digest, parse_digest, to_hex},
    control::{AccessControl, AccessVersion},
    credential_error::{CredentialError, RejectionWord},
    facts::CreatorToken,
    identity::{Creator, Identity, Principal},
    pattern::{InvalidPattern, Pattern},
    rights::{Right, Rights, ServerRight},
    rules::AccessRules,
    secret::Secret,
    template::{InvalidTemplate, Template, escape_value},
    ticket::{IssuedTicket, TicketError, TicketRequest},
};
use self::{
    generation::Generation,
    identity::Proof,
    keys::remote::FetchTiming,
    snapshot::{Denial, KeyStart, Snapshot},
    token_cache::{Checked, TokenCache},
    verify::verify_token,
};

/// Where a credential was found. It decides which kinds are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialSource {
    /// `Authorization: Bearer`: an API key, a JWT or a ticket.
    Header,
    /// A cookie: a JWT or a ticket.
    Cookie,
    /// The URL: a JWT or a ticket whose whole life is at most `query_token_life`.
    Url,
}

/// Which callers exist and what they may do. Clones share everything.
#[derive(Debug, Clone)]
pub struct Access {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    snapshot: ArcSwap<Snapshot>,
    generation: Arc<Generation>,
    cache: TokenCache,
    /// Where keys are fetched; `None` if this was created outside a runtime.
    runtime: Option<Handle>,
    timing: FetchTiming,
}

impl Access {
    /// Creates the access control of a server.
    ///
    /// Key sets that an issuer serves by URL are fetched in the runtime in which this is called.
    #[must_use]
    pub fn new(rules: AccessRules) -> Self {
        Self::with_timing(rules, FetchTiming::default())
    }

    fn with_timing(rules: AccessRules, timing: FetchTiming) -> Self {
        let generation = Arc::new(Generation::default());
        let runtime = Handle::try_current().ok();
        let start = KeyStart {
            generation: &generation,
            runtime: runtime.as_ref(),
            timing,
        };
        let snapshot = ArcSwap::from_pointee(Snapshot::new(rules, None, &start));
        let cache = TokenCache::default();
        Self {
            shared: Arc::new(Shared {
                snapshot,
                generation,
                cache,
                runtime,
                timing,
            }),
        }
    }

    /// Replaces the rules in one step, and increases the generation. Key sets of issuers that
    /// remain are kept.
    pub fn reload(&self, rules: AccessRules) {
        let shared = &self.shared;
        let start = KeyStart {
            generation: &shared.generation,
            runtime: shared.runtime.as_ref(),
            timing: shared.timing,
        };
        let previous = shared.snapshot.load_full();
        shared
            .snapshot
            .store(Arc::new(Snapshot::new(rules, Some(&previous), &start)));
        shared.generation.increase();
    }

    /// Returns a number that increases whenever rules or keys change. An open stream whose
    /// identity was checked at an earlier generation must be checked again with [`Self::recheck`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation.number()
    }

    /// Returns a receiver of [`Self::generation`], to await the next change.
    #[must_use]
    pub fn watch_generation(&self) -> watch::Receiver<u64> {
        self.shared.generation.watch()
    }

    /// Returns whether there are access rules. Without them every caller may do everything.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.shared.snapshot.load().rules.is_restricted()
    }

    /// Returns the present rules.
    #[must_use]
    pub fn rules(&self) -> Arc<AccessRules> {
        self.shared.snapshot.load().rules.clone()
    }

    /// Returns the identity of callers without a credential.
    #[must_use]
    pub fn anonymous(&self) -> Arc<Identity> {
        self.shared.snapshot.load().anonymous.clone()
    }

    /// Returns who the credential `text` belongs to, and what it may do.
    ///
    /// `text` is what follows `Bearer `, or the value of the cookie or parameter. A token that was
    /// verified before costs one hash and one look-up. A token whose issuer serves its keys by URL
    /// may wait for a fetch, up to 20 s.
    ///
    /// # Errors
    ///
    /// - [`CredentialError::Rejected`]: the credential is invalid. A retry does not help (401).
    /// - [`CredentialError::Unavailable`]: the keys of the issuer cannot be fetched. The caller can
    ///   retry (503, never 401).
    pub async fn identify(
        &self,
        text: &str,
        source: CredentialSource,
    ) -> Result<Arc<Identity>, CredentialError> {
        match self.identify_now(text, source) {
            Ok(identified) => identified,
            Err(missing) => Box::pin(self.identify_after_fetch(text, source, missing)).await,
        }
    }

    /// Identifies a credential as far as that is possible without a fetch.
    fn identify_now(
        &self,
        text: &str,
        source: CredentialSource,
    ) -> Result<Result<Arc<Identity>, CredentialError>, MissingKey> {
        let digest = digest(text);
        if api_key::is_api_key(text) {
            return Ok(self
                .identify_key(&digest, source)
                .map_err(CredentialError::Rejected));
        }
        let now = SystemTime::now();
        match self.check_token(text, digest, now) {
            Ok(checked) => {
                let admitted = checked.and_then(|identity| self.admit(identity, source, now));
                Ok(admitted.map_err(CredentialError::Rejected))
            }
            Err(missing) => Err(missing),
        }
    }

    fn identify_key(
        &self,
        digest: &Digest,
        source: CredentialSource,
    ) -> Result<Arc<Identity>, RejectionWord> {
        if source != CredentialSource::Header {
            return Err(RejectionWord::HeaderOnly);
        }
        let snapshot = self.shared.snapshot.load();
        snapshot
            .api_key(digest)
            .cloned()
            .ok_or(RejectionWord::UnknownKey)
    }

    /// Looks a token up, or verifies it.
    fn check_token(
        &self,
        text: &str,
        digest: Digest,
        now: SystemTime,
    ) -> Result<Checked, MissingKey> {
        let generation = self.generation();
        if let Some(checked) = self.shared.cache.get(&digest, generation) {
            return Ok(checked);
        }
        let checked = match verify_token(&self.shared.snapshot.load(), text, digest, now) {
            Ok(identity) => Ok(identity),
            Err(Denial::Rejected(word)) => Err(word),
            Err(Denial::MissingKey { keys, begun }) => return Err(MissingKey { keys, begun }),
        };
        if is_lasting(&checked) {
            self.shared
                .cache
                .insert(digest, generation, checked.clone());
        }
        Ok(checked)
    }

    /// Checks what depends on the time and on where the token was found.
    fn admit(&self, identity: Arc<Identity>, source: CredentialSource, now: SystemTime) -> Checked {
        if identity.valid_until().is_some_and(|end| now >= end) {
            return Err(RejectionWord::Expired);
        }
        if source == CredentialSource::Url && !self.may_be_in_url(&identity) {
            return Err(RejectionWord::Lifetime);
        }
        Ok(identity)
    }

    /// A URL is written to logs and histories, so a token in it must be short-lived.
    fn may_be_in_url(&self, identity: &Identity) -> bool {
        let longest = self.shared.snapshot.load().rules.query_token_life();
        let (Some(issued), Some(expires)) = (identity.issued_at(), identity.expires()) else {
            return false;
        };
        !longest.is_zero()
            && expires
                .duration_since(issued)
                .is_ok_and(|life| life <= longest)
    }

    /// Waits for fetches until one proves what the keys of the issuer are.
    async fn identify_after_fetch(
        &self,
        text: &str,
        source: CredentialSource,
        missing: MissingKey,
    ) -> Result<Arc<Identity>, CredentialError> {
        let MissingKey { mut keys, begun } = missing;
        loop {
            let is_proof = keys.wait_for_fetch(begun).await;
            let is_proof = is_proof.map_err(|_| CredentialError::Unavailable)?;
            match self.identify_now(text, source) {
                Ok(identified) => return identified,
                Err(_) if is_proof => return Err(RejectionWord::UnknownKey.into()),
                Err(still_missing) => keys = still_missing.keys,
            }
        }
    }

    /// Returns `identity` with the rights that the present rules and keys grant it.
    ///
    /// It does not check revocations, and never waits.
    ///
    /// # Errors
    ///
    /// As for [`Self::identify`]. `Unavailable` means that nothing is known to be wrong, so an open
    /// stream continues.
    pub fn recheck(&self, identity: &Arc<Identity>) -> Result<Arc<Identity>, CredentialError> {
        let now = SystemTime::now();
        if identity.valid_until().is_some_and(|end| now >= end) {
            return Err(RejectionWord::Expired.into());
        }
        let generation = self.generation();
        let snapshot = self.shared.snapshot.load();
        let facts = match identity.proof() {
            Proof::Anonymous => return Ok(snapshot.anonymous.clone()),
            Proof::ApiKey(digest) => {
                let found = snapshot.api_key(digest).cloned();
                return found.ok_or(RejectionWord::UnknownKey.into());
            }
            Proof::Token(facts) => facts,
        };
        if let Some(Ok(known)) = self.shared.cache.get(&facts.digest, generation) {
            return Ok(known);
        }
        let caller = snapshot
            .rights_of(facts)
            .map_err(|denial| denial.without_fetch())?;
        let present = match identity.has(&caller) {
            true => identity.clone(),
            false => Arc::new(Identity::of_token(facts.clone(), caller)),
        };
        self.shared
            .cache
            .insert(facts.digest, generation, Ok(present.clone()));
        Ok(present)
    }

    /// Creates a ticket: a token with which somebody else may subscribe to some channels.
    ///
    /// `creator` must have been identified by a credential of a header.
    ///
    /// # Errors
    ///
    /// The ticket cannot be created.
    pub fn issue_ticket(
        &self,
        creator: &Arc<Identity>,
        request: TicketRequest,
    ) -> Result<IssuedTicket, TicketError> {
        let creator = self.recheck(creator).map_err(|_| TicketError::Ended)?;
        let snapshot = self.shared.snapshot.load();
        let signing = snapshot
            .restrictions()
            .and_then(|rules| rules.signing.as_ref());
        let signing = signing.ok_or(TicketError::NoSigningKey)?;
        ticket::issue(signing, &creator, request, SystemTime::now())
    }
}

/// The key of a token is in no set that was fetched.
struct MissingKey {
    keys: Arc<keys::remote::RemoteKeys>,
    begun: u64,
}

/// Returns whether a check has the same result until rules or keys change.
fn is_lasting(checked: &Checked) -> bool {
    !matches!(checked, Err(RejectionWord::NotYetValid))
}

#[cfg(test)]
mod tests;
