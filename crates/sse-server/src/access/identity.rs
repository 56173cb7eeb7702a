//! Who a verified credential belongs to, what it may do, and until when.

use std::{fmt, sync::Arc, time::SystemTime};

use serde_json::{Value, json};

use super::{
    Digest, Rights,
    facts::{CreatorKey, CreatorToken, TicketCreator, TicketGrant, TokenFacts, TokenGrant},
    jwt::claims::valid_until,
    owner::owner_number,
    rules::CallerRules,
};
use crate::quota::Limits;

/// Who a caller is. Limits, idempotency keys and lists count callers by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A caller without a credential.
    Anonymous,
    /// The API key with this name.
    Key {
        /// The `name` of the configuration.
        name: Arc<str>,
    },
    /// The subject of a JWT.
    Subject {
        /// The issuer.
        iss: Arc<str>,
        /// The subject; empty if the token has no `sub`.
        sub: Arc<str>,
    },
    /// The holder of a ticket.
    Ticket {
        /// Who created the ticket.
        by: Creator,
        /// Who the ticket is for, as the creator named them; empty if it did not.
        sub: Arc<str>,
    },
}

/// Who created a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Creator {
    /// The API key with this name.
    Key(Arc<str>),
    /// The subject of a JWT.
    Subject {
        /// The issuer.
        iss: Arc<str>,
        /// The subject.
        sub: Arc<str>,
    },
    /// The operator, who has the signing key: the command `sse-server token`.
    Operator,
}

/// Who a verified credential belongs to, what it may do, and until when.
#[derive(Debug)]
pub struct Identity {
    principal: Principal,
    rights: Rights,
    limits: Limits,
    /// Computed once, because each publish of a cached token needs it.
    owner_number: Option<u64>,
    proof: Proof,
}

/// What an identity was concluded from.
#[derive(Debug)]
pub(super) enum Proof {
    Anonymous,
    ApiKey(Digest),
    Token(Box<TokenFacts>),
}

impl Identity {
    /// The identity of callers without a credential.
    pub(super) fn anonymous(caller: CallerRules) -> Self {
        Self::new(Principal::Anonymous, caller, Proof::Anonymous)
    }

    /// The identity of an API key.
    pub(super) fn of_key(name: Arc<str>, digest: Digest, caller: CallerRules) -> Self {
        Self::new(Principal::Key { name }, caller, Proof::ApiKey(digest))
    }

    /// The identity of a token or a ticket.
    pub(super) fn of_token(facts: Box<TokenFacts>, caller: CallerRules) -> Self {
        let sub = facts.subject.clone();
        let principal = match &facts.grant {
            TokenGrant::Issuer(_) => Principal::Subject {
                iss: facts.issuer.clone(),
                sub,
            },
            TokenGrant::Ticket(ticket) => Principal::Ticket {
                by: ticket.by.name(),
                sub,
            },
        };
        Self::new(principal, caller, Proof::Token(facts))
    }

    fn new(principal: Principal, caller: CallerRules, proof: Proof) -> Self {
        Self {
            owner_number: owner_number(&principal),
            principal,
            rights: caller.rights,
            limits: caller.limits,
            proof,
        }
    }

    /// Returns who the caller is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the number by which logs distinguish the idempotency keys of principals; `None` for
    /// anonymous callers.
    #[must_use]
    pub const fn owner_number(&self) -> Option<u64> {
        self.owner_number
    }

    /// Returns what the caller may do.
    #[must_use]
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Returns the number of patterns and values that the identity holds, which decides on its memory.
    pub(super) fn count_parts(&self) -> usize {
        let of_facts = match &self.proof {
            Proof::Anonymous | Proof::ApiKey(_) => 0,
            Proof::Token(facts) => facts.grant.count_parts(),
        };
        self.rights.count_patterns() + of_facts
    }

    /// Returns how much the caller may use. A ticket has the limits of its creator.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns until when the credential is accepted: `exp` and the leeway. `None` if it does not
    /// expire.
    #[must_use]
    pub fn valid_until(&self) -> Option<SystemTime> {
        self.expires().map(valid_until)
    }

    /// Returns `exp`, without leeway.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.token().map(|facts| facts.expires)
    }

    /// Returns `iat`. A token may have none.
    #[must_use]
    pub fn issued_at(&self) -> Option<SystemTime> {
        self.token()?.issued_at
    }

    /// Returns the `iss` of the token, also of a ticket. `None` for API keys.
    #[must_use]
    pub fn issuer(&self) -> Option<&Arc<str>> {
        self.token().map(|facts| &facts.issuer)
    }

    /// Returns the `jti` of the token.
    #[must_use]
    pub fn jti(&self) -> Option<&Arc<str>> {
        self.token()?.jti.as_ref()
    }

    /// Returns the [`digest`](super::digest) of the credential. `None` for anonymous callers.
    #[must_use]
    pub fn credential_digest(&self) -> Option<&Digest> {
        match &self.proof {
            Proof::Anonymous => None,
            Proof::ApiKey(digest) => Some(digest),
            Proof::Token(facts) => Some(&facts.digest),
        }
    }

    /// Returns the token with which a ticket was created; a revocation of it concerns the ticket
    /// too. `None` if this is no ticket, or if an API key or the operator created it.
    #[must_use]
    pub fn creator_token(&self) -> Option<&CreatorToken> {
        match &self.token()?.grant {
            TokenGrant::Ticket(ticket) => match &ticket.by {
                TicketCreator::Subject(creator) => Some(&creator.token),
                TicketCreator::Key(_) | TicketCreator::Operator => None,
            },
            TokenGrant::Issuer(_) => None,
        }
    }

    /// Returns the API key with which a ticket was created; `None` if this is no ticket, or if
    /// another caller created it.
    #[must_use]
    pub fn creator_key(&self) -> Option<&CreatorKey> {
        match &self.token()?.grant {
            TokenGrant::Ticket(TicketGrant {
                by: TicketCreator::Key(key),
                ..
            }) => Some(key),
            TokenGrant::Ticket(_) | TokenGrant::Issuer(_) => None,
        }
    }

    pub(super) fn proof(&self) -> &Proof {
        &self.proof
    }

    pub(super) fn token(&self) -> Option<&TokenFacts> {
        match &self.proof {
            Proof::Token(facts) => Some(facts),
            Proof::Anonymous | Proof::ApiKey(_) => None,
        }
    }

    /// Returns whether it may do, and how much, the same as `caller`.
    pub(super) fn has(&self, caller: &CallerRules) -> bool {
        self.rights == caller.rights && self.limits == caller.limits
    }
}

impl Principal {
    /// Returns the form of the list of streams and of the audit log.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Anonymous => json!({ "kind": "anonymous" }),
            Self::Key { name } => json!({ "kind": "key", "key": &**name }),
            Self::Subject { iss, sub } => json!({ "kind": "jwt", "iss": &**iss, "sub": &**sub }),
            Self::Ticket { by, sub } => {
                json!({ "kind": "ticket", "sub": &**sub, "by": by.to_string() })
            }
        }
    }
}

impl fmt::Display for Principal {
    /// Writes a form for logs and lists, without control characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Key { name } => write!(f, "key {name}"),
            Self::Subject { iss, sub } => write_subject(f, iss, sub),
            Self::Ticket { by, sub } => write!(f, "ticket for {} by {by}", sub.escape_debug()),
        }
    }
}

impl fmt::Display for Creator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => write!(f, "key {name}"),
            Self::Subject { iss, sub } => write_subject(f, iss, sub),
            Self::Operator => f.write_str("the operator"),
        }
    }
}

fn write_subject(f: &mut fmt::Formatter<'_>, iss: &str, sub: &str) -> fmt::Result {
    write!(f, "{} of {}", sub.escape_debug(), iss.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_printed_without_control_characters() {
        let (iss, sub): (Arc<str>, Arc<str>) = ("https://id.example".into(), "a\nb\u{1b}".into());
        let subject = Principal::Subject {
            iss: iss.clone(),
            sub: sub.clone(),
        };
        let by = Creator::Subject {
            iss,
            sub: sub.clone(),
        };
        for (principal, expected) in [
            (Principal::Anonymous, "anonymous"),
            (
                Principal::Key {
                    name: "billing".into(),
                },
                "key billing",
            ),
            (subject, "a\\nb\\u{1b} of https://id.example"),
            (
                Principal::Ticket { by, sub },
                "ticket for a\\nb\\u{1b} by a\\nb\\u{1b} of https://id.example",
            ),
            (
                Principal::Ticket {
                    by: Creator::Operator,
                    sub: "x".into(),
                },
                "ticket for x by the operator",
            ),
        ] {
            assert_eq!(principal.to_string(), expected);
        }
    }
}
