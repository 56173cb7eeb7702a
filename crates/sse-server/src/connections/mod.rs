//! The connections of the server: how many may be open, and which of them are closed to make room.
//!
//! Every accepted connection is one of three kinds:
//!
//! ```text
//! open connections  0 ................... general ............. all ........
//! a new one is      general               of the reserve        closed at once
//! ```
//!
//! - Where all general connections are in use, or all those of the client, an idle one is closed to
//!   make room: first one of the client that has many, otherwise the one that is idle for the longest
//!   time.
//! - If none is idle, the new connection comes from the *reserve* for health checks and publishers.
//!   It must send its request at once, cannot become a stream, and ends with its response. One
//!   client may use a part of the reserve.
//!
//! A connection that HTTP serves has an `Entry` in the [`ConnectionTable`], with its [`Phase`]. A
//! sweep closes the connections that are in a phase for too long. A stream whose socket has left
//! the HTTP library has no entry any more; only its [`ConnectionPermit`] counts it.
//!
//! `crate::budget` is not used here, because its permits are several times larger than this one
//! pointer, which every stream has, and because a connection that finds no room must not wait.
//!
//! | file | contents |
//! |---|---|
//! | `client` | the connections of one client |
//! | `entry` | what the table knows of one connection |
//! | `eviction` | which connection is closed to make room |
//! | `open_connection` | one connection, as its owner has it |
//! | `sweep` | closes connections that are too slow |

mod client;
mod entry;
mod eviction;
mod open_connection;
mod sweep;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use slab::Slab;

pub(crate) use self::sweep::sweep;
use self::{
    client::Client,
    entry::Entry,
    eviction::{Candidates, Connections},
};
pub use self::{
    client::ConnectionPermit,
    entry::{CloseReason, Phase},
    open_connection::OpenConnection,
};
use crate::{budget::ClientNet, metrics::Metrics};

/// A client may use this part of the reserve.
const CLIENT_RESERVE_PART: usize = 4;
/// A client with more than this part of the general connections is the first to lose idle ones.
const LARGE_CLIENT_PART: usize = 4;

/// How many connections may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// All connections.
    pub open_max: usize,
    /// Those of them that are reserved for health checks and publishers.
    pub reserve: usize,
    /// General connections of one client.
    pub client_max: usize,
    /// Connections of one client and the streams that share them, together.
    pub client_streams_max: usize,
}

impl ConnectionLimits {
    const fn general(&self) -> usize {
        self.open_max.saturating_sub(self.reserve)
    }
}

/// The connections of a server; clones share them.
#[derive(Debug, Clone)]
pub struct ConnectionTable(Arc<Table>);

#[derive(Debug)]
struct Table {
    limits: ArcSwap<ConnectionLimits>,
    metrics: Metrics,
    /// Open connections, including those that have no entry.
    open: AtomicUsize,
    /// Phases count milliseconds from here.
    created: Instant,
    /// Not locked while `clients` is locked.
    entries: Mutex<Entries>,
    clients: Mutex<HashMap<Option<ClientNet>, Weak<Client>>>,
}

#[derive(Debug, Default)]
struct Entries {
    slab: Slab<Arc<Entry>>,
    candidates: Candidates,
}

/// What a new connection gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    General,
    Reserved,
}

impl ConnectionTable {
    /// Creates an empty table.
    #[must_use]
    pub fn new(limits: ConnectionLimits, metrics: Metrics) -> Self {
        metrics.create_connection_labels(
            Phase::ALL.map(Phase::as_str),
            CloseReason::ALL.map(CloseReason::as_str),
        );
        Self(Arc::new(Table {
            limits: ArcSwap::from_pointee(limits),
            metrics,
            open: AtomicUsize::new(0),
            created: Instant::now(),
            entries: Mutex::default(),
            clients: Mutex::default(),
        }))
    }

    /// Replaces the limits. No open connection is closed for it.
    pub(crate) fn set_limits(&self, limits: ConnectionLimits) {
        self.0.limits.store(Arc::new(limits));
    }

    fn limits(&self) -> ConnectionLimits {
        **self.0.limits.load()
    }

    /// Counts a new connection of `client`; returns `None` if there is no room for it.
    ///
    /// A client over a unix socket has no address. If the process is `short_of_files`, the
    /// connection needs the place of another one.
    pub(crate) fn accept(
        &self,
        client: Option<ClientNet>,
        short_of_files: bool,
    ) -> Option<OpenConnection> {
        let permit = ConnectionPermit::new(self.client(client));
        let room = self.find_room(permit.client(), short_of_files);
        if room.is_none() {
            let reason = CloseReason::TooMany.as_str();
            self.0.metrics.connection_closed(reason);
        }
        Some(self.add(permit, room? == Room::Reserved))
    }

    /// Decides on a new connection, which is counted already.
    fn find_room(&self, client: &Client, short_of_files: bool) -> Option<Room> {
        let limits = self.limits();
        let open = self.open_count();
        let has_part = self.is_within_part(client);
        if has_part && !short_of_files && open <= limits.general() {
            return Some(Room::General);
        }
        if self.evict_for(client, has_part) {
            return Some(Room::General);
        }
        let is_full = short_of_files || open > limits.open_max;
        let may_use_reserve =
            !client.has_address() || client.reserved_count() < self.client_reserve();
        (!is_full && may_use_reserve).then_some(Room::Reserved)
    }

    /// Closes an idle connection to make room for one of `client`; returns whether there was one.
    ///
    /// A client that has many connections makes room itself.
    fn evict_for(&self, client: &Client, has_part: bool) -> bool {
        let is_large = !has_part || client.is_large(self.large_client());
        let only_of = is_large.then(|| client.net());
        let mut entries = self.entries();
        let Entries { slab, candidates } = &mut *entries;
        let connections = Connections {
            entries: slab,
            large_client: self.large_client(),
            now_ms: self.now_ms(),
        };
        candidates.evict_next(&connections, only_of)
    }

    /// Whether the connections of a client, all of which are counted, are within its limit.
    fn is_within_part(&self, client: &Client) -> bool {
        !client.has_address() || client.open_count() <= self.limits().client_max
    }

    fn add(&self, permit: ConnectionPermit, is_reserved: bool) -> OpenConnection {
        let entry = Arc::new(Entry::new(
            permit.client().clone(),
            is_reserved,
            self.now_ms(),
        ));
        let key = self.entries().slab.insert(entry.clone());
        OpenConnection::new(entry, key, permit)
    }

    fn client(&self, net: Option<ClientNet>) -> Arc<Client> {
        let mut clients = self.clients();
        if let Some(client) = clients.get(&net).and_then(Weak::upgrade) {
            return client;
        }
        let client = Arc::new(Client::new(self.clone(), net));
        clients.insert(net, Arc::downgrade(&client));
        client
    }

    /// Returns the number of open connections, including those of detached streams.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Whether a connection of the reserve may become a general one.
    fn has_general_room(&self, client: &Client) -> bool {
        self.open_count() <= self.limits().general() && self.is_within_part(client)
    }

    fn client_reserve(&self) -> usize {
        self.limits().reserve.div_ceil(CLIENT_RESERVE_PART)
    }

    fn large_client(&self) -> usize {
        self.limits().general().div_ceil(LARGE_CLIENT_PART)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.created.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // No code panics while it holds this lock.
        self.0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Option<ClientNet>, Weak<Client>>> {
        // No code panics while it holds this lock.
        self.0
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl ConnectionTable {
    /// Creates a table with room for many connections.
    pub(crate) fn for_tests() -> Self {
        let limits = ConnectionLimits {
            open_max: 1000,
            reserve: 100,
            client_max: 1000,
            client_streams_max: 1000,
        };
        Self::new(limits, Metrics::new())
    }
}
