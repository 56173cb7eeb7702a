//! What a verified token proves, independent of the present rules.
//!
//! Rights follow from facts and rules. When the rules change, the rights of an open stream are
//! concluded again from the facts, because the text of its token is not kept.

use std::{sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{
    Creator, Digest, Pattern, Rights, keys::verifying_key::Thumbprint, template::ClaimValues,
};

/// What a verified token proves.
#[derive(Debug, Clone)]
pub(crate) struct TokenFacts {
    pub(crate) issuer: Arc<str>,
    /// Empty if the token has none.
    pub(crate) subject: Arc<str>,
    pub(crate) jti: Option<Arc<str>>,
    pub(crate) issued_at: Option<SystemTime>,
    pub(crate) expires: SystemTime,
    /// The SHA-256 of the whole text, for the cache.
    pub(crate) text_digest: Digest,
    /// The SHA-256 of what was signed, which identifies the token.
    pub(crate) digest: Digest,
    /// The key that verified it.
    pub(crate) key: Thumbprint,
    pub(crate) grant: TokenGrant,
}

/// Where the rights of a token come from.
#[derive(Debug, Clone)]
pub(crate) enum TokenGrant {
    /// From its issuer.
    Issuer(IssuerGrant),
    /// From the creator of a ticket.
    Ticket(TicketGrant),
}

/// What an issuer states about a subject.
#[derive(Debug, Clone)]
pub(crate) struct IssuerGrant {
    pub(crate) audience: Vec<String>,
    /// The name of the claim that the rights were read from.
    pub(crate) claim: Arc<str>,
    /// The rights in the token itself.
    pub(crate) own: Rights,
    /// The values that the grants of the issuer needed when the token was verified.
    pub(crate) values: ClaimValues,
}

/// What a ticket lists, and who created it.
#[derive(Debug, Clone)]
pub(crate) struct TicketGrant {
    pub(crate) subscribe: Vec<Pattern>,
    pub(crate) by: TicketCreator,
}

/// The creator of a ticket, as the ticket names it. It contains what is needed to conclude what the
/// creator may do by the present rules.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TicketCreator {
    /// An API key.
    Key(CreatorKey),
    /// The subject of a token.
    Subject(Box<CreatorSubject>),
    /// The command `sse-server token`.
    Operator,
}

/// The API key that created a ticket. The ticket ends when this key is replaced, although another
/// one may have its name then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatorKey {
    /// Its name.
    pub name: Arc<str>,
    /// The SHA-256 of its text, in hex.
    pub digest: Arc<str>,
}

/// The subject of a token that created a ticket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CreatorSubject {
    pub(crate) iss: Arc<str>,
    pub(crate) sub: Arc<str>,
    pub(crate) aud: Vec<String>,
    /// The key that verified the creator's token.
    pub(crate) key: Thumbprint,
    /// The name of the claim that the patterns were read from.
    pub(crate) claim: Arc<str>,
    /// Those patterns of the creator's token that the ticket needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) subscribe: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "ClaimValues::is_empty")]
    pub(crate) values: ClaimValues,
    #[serde(flatten)]
    pub(crate) token: CreatorToken,
}

/// The token with which a ticket was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatorToken {
    /// Its [`digest`](super::digest), in hex.
    pub token: Arc<str>,
    /// Its `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<Arc<str>>,
    /// Its `iat`, in whole seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
}

impl TokenGrant {
    /// Returns the number of patterns and values.
    pub(super) fn count_parts(&self) -> usize {
        let count = |values: &ClaimValues| values.values().map(Vec::len).sum::<usize>();
        match self {
            Self::Issuer(grant) => {
                grant.audience.len() + grant.own.count_patterns() + count(&grant.values)
            }
            Self::Ticket(ticket) => {
                let of_creator = match &ticket.by {
                    TicketCreator::Key(_) | TicketCreator::Operator => 0,
                    TicketCreator::Subject(subject) => {
                        subject.aud.len() + subject.subscribe.len() + count(&subject.values)
                    }
                };
                ticket.subscribe.len() + of_creator
            }
        }
    }
}

impl TicketCreator {
    /// Returns who the creator is.
    pub(crate) fn name(&self) -> Creator {
        match self {
            Self::Key(key) => Creator::Key(key.name.clone()),
            Self::Subject(subject) => Creator::Subject {
                iss: subject.iss.clone(),
                sub: subject.sub.clone(),
            },
            Self::Operator => Creator::Operator,
        }
    }
}
