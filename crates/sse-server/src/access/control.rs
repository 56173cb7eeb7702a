//! The present rules and keys: replaced as a whole, and read for every request.

use std::{sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::watch};

use super::{
    AccessRules, CredentialError, Identity, IssuedTicket, Principal, RejectionWord, Right,
    TicketError, TicketRequest,
    facts::TokenFacts,
    generation::Generation,
    identity::Proof,
    keys::remote::FetchTiming,
    signature_checks::SignatureChecks,
    snapshot::{KeyStart, Snapshot},
    ticket,
    token_cache::TokenCache,
};

/// Which callers exist and what they may do. Clones share everything.
#[derive(Debug, Clone)]
pub struct Access {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) snapshot: ArcSwap<Snapshot>,
    generation: Arc<Generation>,
    pub(super) cache: TokenCache,
    pub(super) checks: SignatureChecks,
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

    pub(super) fn with_timing(rules: AccessRules, timing: FetchTiming) -> Self {
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
                checks: SignatureChecks::default(),
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

    /// Returns `identity` with the rights that the present rules and keys grant it.
    ///
    /// It never waits. It checks neither revocations nor the time: an open stream ends by itself when
    /// its token expires, and a clock that was set must not end all streams.
    ///
    /// # Errors
    ///
    /// As for [`Self::identify`]. `Unavailable` means that nothing is known to be wrong, so an open
    /// stream continues.
    pub fn recheck(&self, identity: &Arc<Identity>) -> Result<Arc<Identity>, CredentialError> {
        let snapshot = self.shared.snapshot.load();
        match identity.proof() {
            Proof::Anonymous => Ok(snapshot.anonymous.clone()),
            Proof::ApiKey(digest) => {
                let found = snapshot.api_key(digest).cloned();
                found.ok_or(RejectionWord::UnknownKey.into())
            }
            Proof::Token(facts) => self.recheck_token(identity, facts),
        }
    }

    /// Concludes the rights of a token from what it proved, or finds that this was done before.
    fn recheck_token(
        &self,
        identity: &Arc<Identity>,
        facts: &TokenFacts,
    ) -> Result<Arc<Identity>, CredentialError> {
        // The generation is read first: rights by older rules never count as those of newer ones.
        let generation = self.generation();
        if let Some(Ok(known)) = self.shared.cache.get(&facts.text_digest, generation) {
            return Ok(known);
        }
        let rights = self.shared.snapshot.load().rights_of(facts);
        let caller = rights.map_err(|denial| denial.without_fetch())?;
        let present = if identity.has(&caller) {
            identity.clone()
        } else {
            Arc::new(Identity::of_token(Box::new(facts.clone()), caller))
        };
        // The result is not cached for requests: by the present rules other claims of the token may
        // count, which only its text contains.
        Ok(present)
    }

    /// Checks whether a caller can create any ticket.
    ///
    /// # Errors
    ///
    /// The rights of the caller come before what the server can do, so a caller without rights does
    /// not learn whether there is a signing key.
    pub fn check_creator(&self, creator: &Arc<Identity>) -> Result<(), TicketError> {
        let creator = self.recheck(creator).map_err(|_| TicketError::Ended)?;
        match creator.principal() {
            Principal::Key { .. } | Principal::Subject { .. } => {}
            Principal::Anonymous | Principal::Ticket { .. } => return Err(TicketError::Creator),
        }
        if creator.rights().patterns(Right::Subscribe).is_empty() {
            return Err(TicketError::NotAllowed(Vec::new()));
        }
        if self.rules().signs_tickets() {
            Ok(())
        } else {
            Err(TicketError::NoSigningKey)
        }
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
        let issuer = creator
            .issuer()
            .and_then(|issuer| snapshot.issuer(issuer).ok());
        let grants = issuer.map(|issuer| &issuer.rules.grants);
        ticket::issue_ticket(signing, &creator, grants, request, SystemTime::now())
    }
}
