//! Access control: which callers exist, and what each of them may do.
//!
//! | file | contents |
//! |---|---|
//! | `rules` | what the configuration says: anonymous callers, API keys, issuers, the signing key |
//! | `rights`, `template` | what a caller may do, for which channels |
//! | `identity` | who a verified credential belongs to, what it may do and until when |
//! | `credential_error` | why a credential is rejected |
//! | `caller_check` | rules and revocations together, for callers and for open streams |
//! | `revocations` | which credentials are revoked |
//! | `token_facts` | what a token states without a proof |
//! | `named_caller` | a caller as operators name it |
//! | `owner` | the number of a principal, for idempotency keys and quotas |
//! | `facts` | what a verified token proves, independent of the rules |
//! | `snapshot` | the rules at one time, prepared for look-ups |
//! | `control` | [`Access`]: the present rules, their replacement, and tickets |
//! | `identify`, `verify` | from the text of a credential to an identity |
//! | `signature_checks` | how much time a client may use for wrong tokens |
//! | `token_cache`, `generation` | tokens that were checked before, until rules or keys change |
//! | `api_key`, `secret` | keys of callers; text that is not printed |
//! | `jwt` | tokens as text |
//! | `keys` | the keys of issuers, from files and by URL |
//! | `ticket` | tokens that this server signs |
//!
//! Nothing here knows HTTP requests: the text of a credential comes in, and an [`Identity`] or a
//! [`CredentialError`] comes out. `http` takes the text from the request and writes the response.

mod api_key;
mod caller_check;
mod control;
mod credential_error;
mod facts;
mod generation;
mod identify;
mod identity;
mod jwt;
pub(crate) mod keys;
mod named_caller;
mod owner;
pub mod revocations;
mod rights;
pub(crate) mod rules;
mod secret;
mod signature_checks;
mod snapshot;
mod template;
pub(crate) mod ticket;
mod token_cache;
pub mod token_facts;
mod verify;

pub use sse_proto::pattern::{InvalidPattern, Pattern};

pub use self::{
    api_key::{Digest, create_api_key, digest, is_credential_text, parse_digest, to_hex},
    caller_check::{AccessControl, AccessVersion},
    control::Access,
    credential_error::{CredentialError, RejectionWord},
    facts::{CreatorKey, CreatorToken},
    identity::{Creator, Identity, Principal},
    named_caller::NamedCaller,
    rights::{Right, Rights, ServerRight},
    rules::AccessRules,
    secret::Secret,
    template::{InvalidTemplate, Template, escape_value},
    ticket::{IssuedTicket, TicketError, TicketRequest},
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

#[cfg(test)]
mod tests;
