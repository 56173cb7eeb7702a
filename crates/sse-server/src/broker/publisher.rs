//! Who publishes, as far as a log distinguishes publishers.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use super::idempotency::{AppendItem, count_keys};
use crate::budget::ClientNet;

/// The client that an append is for. Its part of the limits of a log is counted by this.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Publisher {
    client: Option<ClientNet>,
    principal: Option<KeyOwner>,
}

impl Publisher {
    /// The client in a network; `None` over a unix socket, where no part is counted.
    pub(crate) const fn of_client(client: Option<ClientNet>) -> Self {
        Self {
            client,
            principal: None,
        }
    }

    /// The client at an address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self::of_client(Some(address.into()))
    }

    /// The same client, as a principal with this number; `None` if the caller is anonymous.
    #[must_use]
    pub(crate) fn with_principal(self, number: Option<u64>) -> Self {
        Self {
            principal: number.map(KeyOwner::from),
            ..self
        }
    }

    /// Returns whose the idempotency keys of `items` are: the principal's, wherever it publishes
    /// from, and those of an anonymous client's network.
    ///
    /// Most appends have no keys, and then no owner, which would take a hash to compute.
    pub(super) fn key_owner(self, items: &[AppendItem]) -> KeyOwner {
        if self.principal.is_some() && count_keys(items) > 0 {
            return self.principal.unwrap_or(KeyOwner::UNKNOWN);
        }
        match self.client {
            Some(client) if count_keys(items) > 0 => KeyOwner::of_client(client),
            _ => KeyOwner::UNKNOWN,
        }
    }

    /// Returns the network of the client.
    pub(crate) const fn client(self) -> Option<ClientNet> {
        self.client
    }
}

/// Who stored an idempotency key, as 64 bits that logs store with the key. The same on every node
/// and after every restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyOwner(u64);

impl KeyOwner {
    /// The owner of no key, of keys of earlier versions, and of clients without an address.
    pub(super) const UNKNOWN: Self = Self(0);

    fn of_client(client: ClientNet) -> Self {
        let hash = Sha256::new_with_prefix("net:").chain_update(client.to_string());
        let first = hash.finalize().first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(first).max(1))
    }

    /// Whether the two are known to be different.
    pub(super) fn is_another_than(self, other: Self) -> bool {
        self != other && self != Self::UNKNOWN && other != Self::UNKNOWN
    }

    pub(super) const fn number(self) -> u64 {
        self.0
    }
}

impl From<u64> for KeyOwner {
    fn from(number: u64) -> Self {
        Self(number)
    }
}
