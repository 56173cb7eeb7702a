//! Closes the streams whose clients the sweep found unreachable.
//!
//! The sweep names sockets by cookie. A stream does not store its cookie, because idle streams must
//! stay small, and unreachable clients are rare. So the thread asks the kernel for the cookies of
//! its sockets, in slices like all other work.

use std::{collections::HashSet, sync::Arc, time::Instant};

use super::Reactor;
use crate::fanout::{connection::Connection, socket::SocketCookie, stream_guard::CloseReason};

/// A search for the sockets of unreachable clients.
pub(super) struct UnreachableSearch {
    cookies: Arc<HashSet<SocketCookie>>,
    /// Streams that are not compared yet. Another stream may have a key by now.
    keys: Vec<usize>,
}

impl Reactor<'_> {
    /// Starts a search, which replaces one that is under way.
    pub(super) fn start_search(&mut self, cookies: Arc<HashSet<SocketCookie>>) {
        let keys = self.connections.iter().map(|(key, _)| key).collect();
        self.search = Some(UnreachableSearch { cookies, keys });
    }

    /// Closes the next stream if its client is unreachable. Returns `false` if the search is over.
    pub(super) fn close_next_unreachable(&mut self, _: Instant) -> bool {
        let Some(search) = &mut self.search else {
            return false;
        };
        let Some(key) = search.keys.pop() else {
            self.search = None;
            return false;
        };
        let cookie = self.connections.get(key).and_then(Connection::cookie);
        if cookie.is_some_and(|cookie| search.cookies.contains(&cookie)) {
            self.close_stream(key, CloseReason::Unreachable);
        }
        true
    }
}
