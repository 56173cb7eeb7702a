//! Why a credential is rejected.
//!
//! The client gets one word of a fixed list, and nothing that was in the credential.

use std::fmt;

/// The reason of a rejection, as `error_description` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectionWord {
    /// The text is not a credential, is longer than 8 KiB, or a claim has a wrong form.
    Malformed,
    /// `typ` is not one of those that are accepted here.
    Type,
    /// A header field that must be understood (`crit`) is not.
    Critical,
    /// `alg` is not that of the key.
    Algorithm,
    /// `iss` names no issuer of the configuration.
    Issuer,
    /// There is no such key: an API key that does not exist, or a `kid` that the issuer does not
    /// serve.
    UnknownKey,
    /// The signature is wrong.
    Signature,
    /// `exp` has passed.
    Expired,
    /// `nbf` or `iat` is in the future.
    NotYetValid,
    /// `aud` does not name this server.
    Audience,
    /// The whole life of the token is too long for a URL, or unknown, or a URL may carry none.
    Lifetime,
    /// The credential was revoked.
    Revoked,
    /// The creator of the ticket no longer has access.
    Creator,
    /// An API key counts only in a header.
    HeaderOnly,
}

impl RejectionWord {
    /// Every word, in the order of the documentation.
    pub const ALL: [Self; 14] = [
        Self::Malformed,
        Self::Type,
        Self::Critical,
        Self::Algorithm,
        Self::Issuer,
        Self::UnknownKey,
        Self::Signature,
        Self::Expired,
        Self::NotYetValid,
        Self::Audience,
        Self::Lifetime,
        Self::Revoked,
        Self::Creator,
        Self::HeaderOnly,
    ];

    /// Returns the word that a response contains.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Type => "type",
            Self::Critical => "critical",
            Self::Algorithm => "algorithm",
            Self::Issuer => "issuer",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Audience => "audience",
            Self::Lifetime => "lifetime",
            Self::Revoked => "revoked",
            Self::Creator => "creator",
            Self::HeaderOnly => "header_only",
        }
    }

    /// Returns what the word means, for the operator.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Malformed => "it is no token or API key, or a claim has a wrong form",
            Self::Type => "its typ is not accepted from this issuer",
            Self::Critical => "its header has crit",
            Self::Algorithm => "its alg is not that of the key",
            Self::Issuer => "no [[access.issuer]] has its iss",
            Self::UnknownKey => "there is no such key",
            Self::Signature => "its signature is wrong",
            Self::Expired => "its exp has passed",
            Self::NotYetValid => "its nbf or iat is in the future",
            Self::Audience => "its aud does not name this server",
            Self::Lifetime => "its life is too long, or unknown, for a URL",
            Self::Revoked => "it was revoked",
            Self::Creator => "the creator of the ticket no longer has access",
            Self::HeaderOnly => "an API key counts only in a header",
        }
    }
}

impl fmt::Display for RejectionWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A credential from which no identity results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The credential is invalid: 401.
    #[error("the credential was rejected: {0}")]
    Rejected(RejectionWord),
    /// The keys of the issuer cannot be fetched now: never a 401.
    #[error("the keys of the issuer are not available")]
    Unavailable,
}

impl From<RejectionWord> for CredentialError {
    fn from(word: RejectionWord) -> Self {
        Self::Rejected(word)
    }
}
