//! Tickets: tokens that this server signs, with which somebody else may subscribe to some channels.
//!
//! | file | contents |
//! |---|---|
//! | `signing_keys` | the key that signs, and the keys that verify |
//! | `issue` | creates a ticket |
//! | `claims` | what a ticket contains |
//!
//! A ticket names its creator. It grants what it lists, as far as its creator may subscribe to that
//! at the time of the request, so it ends with the access of its creator.

pub(crate) mod claims;
mod issue;
mod signing_keys;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

pub(crate) use self::{
    issue::{issue_operator_ticket, issue_ticket},
    signing_keys::{SigningKeys, create_signing_key},
};
use super::{Pattern, Secret};

/// Patterns of one ticket.
pub(crate) const PATTERNS_MAX: usize = 64;
/// Bytes of the `sub` of a ticket.
pub(crate) const SUB_BYTES_MAX: usize = 255;
/// The longest life of a ticket.
pub(crate) const LIFE_MAX: Duration = Duration::from_hours(365 * 24);

/// What a ticket shall grant.
#[derive(Debug, Clone)]
pub struct TicketRequest {
    /// Patterns of channels, 1 to 64.
    pub subscribe: Vec<Pattern>,
    /// The life of the ticket, in whole seconds. If the token of its creator expires earlier, the
    /// ticket expires with it.
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
    pub jti: Arc<str>,
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
    /// The caller is anonymous, or has a ticket itself.
    #[error("only an API key or a JWT can create a ticket")]
    Creator,
    /// The access of the creator has ended.
    #[error("the access of the creator has ended")]
    Ended,
    /// The creator may not subscribe to these patterns.
    #[error("the creator may not subscribe to all of these channels")]
    NotAllowed(Vec<Pattern>),
    /// There are no patterns, or more than 64.
    #[error("a ticket grants 1 to {PATTERNS_MAX} patterns")]
    Patterns,
    /// The life is less than a second, or longer than a year.
    #[error("the life of a ticket is 1s to 365d")]
    Life,
    /// The `sub` is empty or longer than 255 bytes.
    #[error("the sub of a ticket has 1 to {SUB_BYTES_MAX} bytes")]
    Sub,
    /// The ticket would be longer than 8 KiB.
    #[error("the ticket would be longer than 8 KiB: name fewer channels")]
    TooLong,
    /// The ticket cannot be signed.
    #[error("the ticket cannot be signed: {0}")]
    Signing(String),
}
