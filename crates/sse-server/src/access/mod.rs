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
//! | `limits` | how much a caller may use |
//!
//! Nothing here knows HTTP: the text of a credential comes in, and an [`Identity`] or a
//! [`CredentialError`] comes out. `http` takes the text from the request and writes the response.

mod control;
mod credential_error;
mod identity;
mod limits;
mod owner;
mod pattern;
pub mod revocations;
mod rights;
mod rules;
mod secret;
pub mod token_facts;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

pub use self::{
    control::{AccessControl, AccessVersion},
    credential_error::{CredentialError, RejectionWord},
    identity::{Creator, Identity, Principal},
    limits::{Limits, Rate},
    pattern::{InvalidPattern, Pattern},
    rights::{Right, Rights, ServerRight},
    rules::AccessRules,
    secret::Secret,
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
pub struct Access;

impl Access {
    /// Creates the access control of a server.
    ///
    /// Key sets that an issuer serves by URL are fetched in the runtime in which this is called.
    #[must_use]
    pub fn new(rules: AccessRules) -> Self {
        unimplemented!()
    }

    /// Replaces the rules in one step, and increments the generation. Key sets of issuers that
    /// remain are kept.
    pub fn reload(&self, rules: AccessRules) {
        unimplemented!()
    }

    /// Returns a number that increases whenever rules or keys change. An open stream whose
    /// identity was checked at an earlier generation must be checked again with [`Self::recheck`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        unimplemented!()
    }

    /// Returns a receiver of [`Self::generation`], to await the next change.
    #[must_use]
    pub fn watch_generation(&self) -> watch::Receiver<u64> {
        unimplemented!()
    }

    /// Returns whether there are access rules. Without them every caller may do everything.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        unimplemented!()
    }

    /// Returns the present rules.
    #[must_use]
    pub fn rules(&self) -> Arc<AccessRules> {
        unimplemented!()
    }

    /// Returns the identity of callers without a credential.
    #[must_use]
    pub fn anonymous(&self) -> Arc<Identity> {
        unimplemented!()
    }

    /// Returns who the credential `text` belongs to, and what it may do.
    ///
    /// `text` is what follows `Bearer `, or the value of the cookie or parameter. A token that was
    /// verified before costs one hash and one lookup. A token whose issuer serves its keys by URL
    /// may wait for a fetch.
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
        unimplemented!()
    }

    /// Returns `identity` with the rights that the present rules and keys grant it.
    ///
    /// It does not check revocations, and never waits.
    ///
    /// # Errors
    ///
    /// As for [`Self::identify`]. `Unavailable` here means that nothing is known to be wrong: an
    /// open stream continues.
    pub fn recheck(&self, identity: &Arc<Identity>) -> Result<Arc<Identity>, CredentialError> {
        unimplemented!()
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
        creator: &Identity,
        request: TicketRequest,
    ) -> Result<IssuedTicket, TicketError> {
        unimplemented!()
    }
}

/// What a ticket shall grant.
#[derive(Debug, Clone)]
pub struct TicketRequest {
    /// Patterns of channels, 1 to 64.
    pub subscribe: Vec<Pattern>,
    /// The life of the ticket. A ticket of a creator whose token expires earlier ends with it.
    pub ttl: Duration,
    /// Who the ticket is for, as the creator names them; 1 to 255 bytes.
    pub sub: Option<String>,
}

/// A ticket, as the creator passes it on.
#[derive(Debug)]
pub struct IssuedTicket {
    /// The token.
    pub token: Secret,
    /// The id by which the ticket can be revoked, together with [`Self::issuer`].
    pub jti: String,
    /// The `iss` of the tickets of this deployment.
    pub issuer: Arc<str>,
    /// When the ticket expires, without leeway.
    pub expires: SystemTime,
}

/// Why a ticket cannot be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// There is no `[access.signing]`.
    #[error("tickets need a signing key: set key_file in [access.signing]")]
    NoSigningKey,
    /// Only an API key or a JWT can create a ticket.
    #[error("only an API key or a JWT can create a ticket")]
    Creator,
    /// The creator may not subscribe to these patterns.
    #[error("the creator may not subscribe to all of these channels")]
    NotAllowed(Vec<Pattern>),
    /// There are no patterns, or more than 64.
    #[error("a ticket grants 1 to 64 patterns")]
    Patterns,
    /// The life is zero, or longer than a year.
    #[error("the life of a ticket is more than zero and at most 365d")]
    Life,
    /// The `sub` is empty or longer than 255 bytes.
    #[error("the sub of a ticket has 1 to 255 bytes")]
    Sub,
    /// The ticket would be longer than 8 KiB.
    #[error("the ticket would be longer than 8 KiB: name fewer channels")]
    TooLong,
}
