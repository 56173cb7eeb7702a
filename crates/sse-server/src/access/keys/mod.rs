//! The keys that verify tokens.
//!
//! | file | contents |
//! |---|---|
//! | `verifying_key` | a key with the one algorithm it is for |
//! | `key_set` | the keys of an issuer; which of them verifies a token |
//! | `jwk` | keys in JSON (RFC 7517) |
//! | `pem` | public keys and secrets in files |
//! | `remote`, `fetch` | the keys that an issuer serves by URL |
//!
//! The algorithm is part of the key. A token that names another one is rejected before anything is
//! computed, so a public RSA key is never taken for an HMAC secret.

mod fetch;
pub(crate) mod jwk;
pub(crate) mod key_set;
pub(crate) mod pem;
pub(crate) mod remote;
pub(crate) mod verifying_key;

use std::sync::Arc;

use url::Url;

use self::{key_set::KeySet, remote::RemoteKeys};

/// Where the keys of an issuer come from, as the configuration states it.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    /// Files, which were read with the configuration.
    Fixed(Arc<KeySet>),
    /// An address from which the set is fetched, and refreshed.
    Url {
        /// https, or http for this machine.
        url: Url,
        /// The algorithm of RSA keys whose entry names none.
        rsa_algorithm: jsonwebtoken::Algorithm,
    },
}

/// The keys of an issuer while the server runs.
#[derive(Debug, Clone)]
pub(crate) enum IssuerKeys {
    Fixed(Arc<KeySet>),
    Remote(Arc<RemoteKeys>),
}

impl IssuerKeys {
    /// Returns the present set; `None` if it was never fetched, or too long ago.
    pub(crate) fn current(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::Fixed(set) => Some(set.clone()),
            Self::Remote(remote) => remote.current(),
        }
    }
}
