//! Who a verified credential belongs to, what it may do, and until when.

use std::{fmt, sync::Arc, time::SystemTime};

use super::{Limits, Rights};

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
    /// Somebody with a ticket.
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
    /// The command `sse-server token`, which has the signing key itself.
    CommandLine,
}

/// Who a verified credential belongs to, what it may do, and until when.
#[derive(Debug)]
pub struct Identity {
    pub(super) principal: Principal,
    pub(super) rights: Rights,
    pub(super) limits: Limits,
    pub(super) valid_until: Option<SystemTime>,
    pub(super) expires: Option<SystemTime>,
    pub(super) issued_at: Option<SystemTime>,
    pub(super) issuer: Option<Arc<str>>,
    pub(super) jti: Option<Arc<str>>,
    pub(super) token_digest: Option<[u8; 32]>,
}

impl Identity {
    /// Returns who the caller is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns what the caller may do.
    #[must_use]
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Returns how much the caller may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns until when the credential is accepted: `exp` and the leeway. `None` if it does not
    /// expire.
    #[must_use]
    pub fn valid_until(&self) -> Option<SystemTime> {
        self.valid_until
    }

    /// Returns `exp`, without leeway.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// Returns `iat`.
    #[must_use]
    pub fn issued_at(&self) -> Option<SystemTime> {
        self.issued_at
    }

    /// Returns the `iss` of the token, also of a ticket. `None` for API keys.
    #[must_use]
    pub fn issuer(&self) -> Option<&Arc<str>> {
        self.issuer.as_ref()
    }

    /// Returns the `jti` of the token.
    #[must_use]
    pub fn jti(&self) -> Option<&Arc<str>> {
        self.jti.as_ref()
    }

    /// Returns the SHA-256 of the credential's text. `None` for anonymous callers.
    #[must_use]
    pub fn token_digest(&self) -> Option<&[u8; 32]> {
        self.token_digest.as_ref()
    }
}

impl fmt::Display for Principal {
    /// Writes a form for logs and lists, without control characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Key { name } => write!(f, "key {name}"),
            Self::Subject { iss, sub } => write!(f, "{} of {}", sub.escape_debug(), iss),
            Self::Ticket { by, sub } => write!(f, "ticket for {} by {by}", sub.escape_debug()),
        }
    }
}

impl fmt::Display for Creator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => write!(f, "key {name}"),
            Self::Subject { iss, sub } => write!(f, "{} of {iss}", sub.escape_debug()),
            Self::CommandLine => f.write_str("the command line"),
        }
    }
}
