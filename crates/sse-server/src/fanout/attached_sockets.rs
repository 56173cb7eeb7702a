//! Sockets of streams that actix serves, by cookie, so that the sweep can report unreachable
//! clients.
//!
//! A fan-out thread searches its own sockets. Those of attached streams belong to the worker
//! threads of actix, so each of them has an entry here until its stream ends or leaves actix.
//! Admission limits the streams, and with them the entries.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::socket::SocketCookie;

/// The sockets of attached streams; clones share the map.
#[derive(Debug, Clone, Default)]
pub struct AttachedSockets(Arc<Mutex<HashMap<SocketCookie, CancellationToken>>>);

impl AttachedSockets {
    /// Adds a socket until the entry is dropped.
    pub(super) fn add(&self, cookie: SocketCookie) -> AttachedSocket {
        let unreachable = CancellationToken::new();
        self.lock().insert(cookie, unreachable.clone());
        AttachedSocket {
            sockets: self.clone(),
            cookie,
            unreachable,
        }
    }

    /// Closes the streams on these sockets, whose clients are unreachable.
    pub fn close_unreachable(&self, cookies: &HashSet<SocketCookie>) {
        let sockets = self.lock();
        for token in cookies.iter().filter_map(|cookie| sockets.get(cookie)) {
            token.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketCookie, CancellationToken>> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of one socket.
#[derive(Debug)]
pub(super) struct AttachedSocket {
    sockets: AttachedSockets,
    cookie: SocketCookie,
    unreachable: CancellationToken,
}

impl AttachedSocket {
    /// Returns the token that is cancelled when the client is found unreachable.
    pub(super) const fn unreachable(&self) -> &CancellationToken {
        &self.unreachable
    }
}

impl Drop for AttachedSocket {
    fn drop(&mut self) {
        self.sockets.lock().remove(&self.cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_sockets_are_unreachable_and_dropped_entries_are_gone() {
        let sockets = AttachedSockets::default();
        let [named, other] = [1, 2].map(|cookie| sockets.add(SocketCookie(cookie)));
        sockets.close_unreachable(&HashSet::from([SocketCookie(1), SocketCookie(3)]));
        assert!(named.unreachable().is_cancelled());
        assert!(!other.unreachable().is_cancelled());
        drop((named, other));
        assert!(sockets.lock().is_empty());
    }
}
