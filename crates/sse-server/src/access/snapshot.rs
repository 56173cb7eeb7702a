//! The rules, prepared for look-ups: what a credential grants by them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::runtime::Handle;

use super::{
    AccessRules, CredentialError, Digest, Identity, Principal, RejectionWord, Rights,
    api_key::parse_digest,
    facts::{
        CreatorKey, CreatorSubject, IssuerGrant, TicketCreator, TicketGrant, TokenFacts, TokenGrant,
    },
    generation::Generation,
    jwt::claims::check_audience,
    keys::{
        IssuerKeys, KeySource,
        remote::{FetchTiming, RemoteKeys},
    },
    rules::{CallerRules, IssuerRules, KeyRules, Restrictions},
    template::{ClaimValues, Template, read_claim_values},
};
use crate::quota::Limits;

/// The rules at one time.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) rules: Arc<AccessRules>,
    pub(super) anonymous: Arc<Identity>,
    api_keys: HashMap<Digest, Arc<Identity>>,
    /// What the keys may do, by name.
    key_rules: HashMap<Arc<str>, CallerRules>,
    issuers: HashMap<Arc<str>, Issuer>,
}

/// An issuer and its keys.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) rules: IssuerRules,
    pub(super) keys: IssuerKeys,
}

/// Why a token that was verified grants nothing, or cannot be verified now.
#[derive(Debug)]
pub(super) enum Denial {
    Rejected(RejectionWord),
    /// The key is not in the set that the issuer served last. A fetch that begins after number
    /// `begun` decides.
    MissingKey {
        keys: Arc<RemoteKeys>,
        begun: u64,
    },
}

impl From<RejectionWord> for Denial {
    fn from(word: RejectionWord) -> Self {
        Self::Rejected(word)
    }
}

impl Denial {
    /// Returns the error for a caller that does not wait for a fetch.
    pub(super) fn without_fetch(&self) -> CredentialError {
        match self {
            Self::Rejected(word) => CredentialError::Rejected(*word),
            // The issuer served a set without the key.
            Self::MissingKey { keys, .. } if keys.current().is_some() => {
                CredentialError::Rejected(RejectionWord::UnknownKey)
            }
            Self::MissingKey { .. } => CredentialError::Unavailable,
        }
    }
}

impl Snapshot {
    /// Prepares rules. The key sets of `previous` are kept if their issuers remain.
    pub(super) fn new(rules: AccessRules, previous: Option<&Self>, start: &KeyStart<'_>) -> Self {
        let anonymous = match &rules.restrictions {
            Some(restrictions) => restrictions.anonymous.clone(),
            None => CallerRules {
                rights: Rights::everything(),
                limits: Limits::default(),
            },
        };
        let restrictions = rules.restrictions.iter();
        let keys = restrictions.clone().flat_map(|rules| &rules.keys);
        let issuers = restrictions.flat_map(|rules| &rules.issuers);
        Self {
            anonymous: Arc::new(Identity::anonymous(anonymous)),
            api_keys: keys.clone().flat_map(key_identities).collect(),
            key_rules: keys
                .map(|key| (key.name.clone(), key.caller.clone()))
                .collect(),
            issuers: issuers
                .map(|issuer| (issuer.issuer.clone(), start.issuer(issuer, previous)))
                .collect(),
            rules: Arc::new(rules),
        }
    }

    pub(super) fn restrictions(&self) -> Option<&Restrictions> {
        self.rules.restrictions.as_ref()
    }

    pub(super) fn api_key(&self, digest: &Digest) -> Option<&Arc<Identity>> {
        self.api_keys.get(digest)
    }

    pub(super) fn issuer(&self, issuer: &str) -> Result<&Issuer, RejectionWord> {
        self.issuers.get(issuer).ok_or(RejectionWord::Issuer)
    }

    /// Returns what a verified token grants by these rules and keys.
    pub(super) fn rights_of(&self, facts: &TokenFacts) -> Result<CallerRules, Denial> {
        match &facts.grant {
            TokenGrant::Issuer(grant) => self.rights_of_subject(facts, grant),
            TokenGrant::Ticket(ticket) => self.rights_of_ticket(facts, ticket),
        }
    }

    fn rights_of_subject(
        &self,
        facts: &TokenFacts,
        grant: &IssuerGrant,
    ) -> Result<CallerRules, Denial> {
        let issuer = self.issuer(&facts.issuer)?;
        check_audience(&grant.audience, &issuer.rules.audience)?;
        issuer.check_key(&facts.key)?;
        let own = self.rights_in_token(&grant.claim, &grant.own);
        Ok(issuer.caller(own, &grant.values))
    }

    fn rights_of_ticket(
        &self,
        facts: &TokenFacts,
        ticket: &TicketGrant,
    ) -> Result<CallerRules, Denial> {
        let signing = self.restrictions().and_then(|rules| rules.signing.as_ref());
        let signing = signing.filter(|signing| signing.issuer == facts.issuer);
        let signing = signing.ok_or(RejectionWord::Issuer)?;
        if !signing.verify.contains(&facts.key) {
            return Err(RejectionWord::UnknownKey.into());
        }
        let subscribe = ticket.subscribe.clone();
        let listed = Rights {
            subscribe,
            ..Rights::default()
        };
        let creator = match &ticket.by {
            TicketCreator::Operator => {
                return Ok(CallerRules {
                    rights: listed,
                    limits: Limits::default(),
                });
            }
            TicketCreator::Key(key) => self.rules_of_key(key).ok_or(RejectionWord::Creator)?,
            TicketCreator::Subject(subject) => self.rights_of_creator(subject)?,
        };
        let rights = Rights {
            within: Some(Arc::new(creator.rights)),
            ..listed
        };
        Ok(CallerRules {
            rights,
            limits: creator.limits,
        })
    }

    /// Returns what an API key may do; `None` if it is no key of this name any more.
    fn rules_of_key(&self, key: &CreatorKey) -> Option<CallerRules> {
        let found = self.api_key(&parse_digest(&key.digest).ok()?)?;
        let has_name = matches!(found.principal(), Principal::Key { name } if *name == key.name);
        has_name.then(|| self.key_rules.get(&key.name).cloned())?
    }

    /// Returns the rights in a token, unless the rules now read rights from another claim.
    fn rights_in_token(&self, claim: &str, own: &Rights) -> Rights {
        let present = self.restrictions().map(|rules| rules.claim.as_str());
        if present == Some(claim) {
            own.clone()
        } else {
            Rights::default()
        }
    }

    /// Returns what the creator of a ticket may do by these rules and keys.
    fn rights_of_creator(&self, creator: &CreatorSubject) -> Result<CallerRules, Denial> {
        let issuer = self
            .issuer(&creator.iss)
            .map_err(|_| RejectionWord::Creator)?;
        check_audience(&creator.aud, &issuer.rules.audience).map_err(|_| RejectionWord::Creator)?;
        issuer.check_key(&creator.key)?;
        let own = Rights {
            subscribe: creator.subscribe.clone(),
            ..Rights::default()
        };
        let own = self.rights_in_token(&creator.claim, &own);
        Ok(issuer.caller(own, &creator.values))
    }
}

impl Issuer {
    /// Returns the values that the grants of the issuer need.
    pub(super) fn read_values(
        &self,
        claims: &serde_json::Map<String, serde_json::Value>,
    ) -> ClaimValues {
        let templates = self.rules.grants.all_templates();
        let names: BTreeSet<&str> = templates.flat_map(Template::claims).collect();
        read_claim_values(claims, &names)
    }

    fn caller(&self, own: Rights, values: &ClaimValues) -> CallerRules {
        let rights = own.and(self.rules.grants.rights(values));
        CallerRules {
            rights,
            limits: self.rules.limits,
        }
    }

    /// Checks that the issuer still has the key that verified a token.
    fn check_key(&self, thumbprint: &str) -> Result<(), Denial> {
        let missing = self.missing_key();
        match self.keys.current() {
            Some(set) if set.contains(thumbprint) => Ok(()),
            _ => Err(missing),
        }
    }

    /// Returns what to do if the key of a token is not in the present set. Call it before the set is
    /// read.
    pub(super) fn missing_key(&self) -> Denial {
        match &self.keys {
            IssuerKeys::Fixed(_) => Denial::Rejected(RejectionWord::UnknownKey),
            IssuerKeys::Remote(keys) => Denial::MissingKey {
                keys: keys.clone(),
                begun: keys.begun(),
            },
        }
    }
}

/// How the key sets of issuers are started.
#[derive(Debug)]
pub(super) struct KeyStart<'s> {
    pub(super) generation: &'s Arc<Generation>,
    pub(super) runtime: Option<&'s Handle>,
    pub(super) timing: FetchTiming,
}

impl KeyStart<'_> {
    fn issuer(&self, rules: &IssuerRules, previous: Option<&Snapshot>) -> Issuer {
        let keys = match &rules.keys {
            KeySource::Fixed(set) => IssuerKeys::Fixed(set.clone()),
            KeySource::Url { url, rsa_algorithm } => {
                let is_same = |keys: &&Arc<RemoteKeys>| keys.is_of(url, *rsa_algorithm);
                let started = previous.and_then(|previous| previous.remote_keys(&rules.issuer));
                let started = started.filter(is_same).cloned();
                IssuerKeys::Remote(started.unwrap_or_else(|| {
                    let generation = self.generation.clone();
                    let keys = RemoteKeys::start(
                        url.clone(),
                        *rsa_algorithm,
                        self.timing,
                        generation,
                        self.runtime,
                    );
                    Arc::new(keys)
                }))
            }
        };
        Issuer {
            rules: rules.clone(),
            keys,
        }
    }
}

impl Snapshot {
    fn remote_keys(&self, issuer: &str) -> Option<&Arc<RemoteKeys>> {
        match &self.issuers.get(issuer)?.keys {
            IssuerKeys::Remote(keys) => Some(keys),
            IssuerKeys::Fixed(_) => None,
        }
    }
}

fn key_identities(key: &KeyRules) -> impl Iterator<Item = (Digest, Arc<Identity>)> {
    key.digests.iter().map(|digest| {
        let identity = Identity::of_key(key.name.clone(), *digest, key.caller.clone());
        (*digest, Arc::new(identity))
    })
}
