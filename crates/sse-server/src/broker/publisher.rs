//! Who publishes, as far as a log distinguishes publishers.

use std::net::IpAddr;

use crate::budget::ClientNet;

/// The client that an append is for. Its part of the limits of a log is counted by this.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Publisher {
    client: Option<ClientNet>,
}

impl Publisher {
    /// The client in a network; `None` over a unix socket, where no part is counted.
    pub(crate) const fn of_client(client: Option<ClientNet>) -> Self {
        Self { client }
    }

    /// The client at an address.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self::of_client(Some(address.into()))
    }

    /// Returns the network of the client.
    pub(super) const fn client(self) -> Option<ClientNet> {
        self.client
    }
}
