//! The connections of one client, and the permit that counts each of them.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering},
};

use super::ConnectionTable;
use crate::budget::ClientNet;

/// A client with open connections.
#[derive(Debug)]
pub(super) struct Client {
    table: ConnectionTable,
    /// `None` for all clients over unix sockets.
    net: Option<ClientNet>,
    open: AtomicUsize,
    /// Those of the reserve.
    reserved: AtomicUsize,
    /// Streams that share their connections with other requests.
    multiplexed: AtomicUsize,
}

impl Client {
    pub(super) const fn new(table: ConnectionTable, net: Option<ClientNet>) -> Self {
        Self {
            table,
            net,
            open: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            multiplexed: AtomicUsize::new(0),
        }
    }

    pub(super) const fn table(&self) -> &ConnectionTable {
        &self.table
    }

    pub(super) const fn net(&self) -> Option<ClientNet> {
        self.net
    }

    pub(super) const fn has_address(&self) -> bool {
        self.net.is_some()
    }

    pub(super) fn open_count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn reserved_count(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Whether the client has more than `connections`.
    pub(super) fn is_large(&self, connections: usize) -> bool {
        self.has_address() && self.open_count() > connections
    }

    /// Counts one more stream that shares its connection, unless the client then has more than `max`
    /// of them and connections together. Returns whether it did.
    pub(super) fn claim_multiplexed(&self, max: usize) -> bool {
        let streams = self.multiplexed.fetch_add(1, Ordering::Relaxed) + 1;
        let has_room = !self.has_address() || self.open_count().saturating_add(streams) <= max;
        if !has_room {
            self.release_multiplexed();
        }
        has_room
    }

    pub(super) fn release_multiplexed(&self) {
        self.multiplexed.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn add_reserved(&self) {
        self.reserved.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_reserved(&self) {
        self.reserved.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut clients = self.table.clients();
        // A new connection may have replaced the entry already.
        if clients
            .get(&self.net)
            .is_some_and(|client| Weak::strong_count(client) == 0)
        {
            clients.remove(&self.net);
        }
    }
}

/// Counts one connection as open until it is dropped. It is one pointer, because every stream has
/// one.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<Client>);

impl ConnectionPermit {
    pub(super) fn new(client: Arc<Client>) -> Self {
        client.open.fetch_add(1, Ordering::Relaxed);
        client.table.0.open.fetch_add(1, Ordering::Relaxed);
        Self(client)
    }

    pub(super) const fn client(&self) -> &Arc<Client> {
        &self.0
    }

    /// Returns the network of the client; `None` over a unix socket.
    pub(crate) fn client_net(&self) -> Option<ClientNet> {
        self.0.net
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.table.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
