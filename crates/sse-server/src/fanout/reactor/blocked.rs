//! Blocked streams: those whose sockets are full.
//!
//! A blocked stream takes no step until the rest of its chunk is written. All blocked streams of the
//! server share a bound ([`blocked`](crate::fanout::blocked)), beyond which some of them are closed.

use super::{Reactor, to_stored_key};
use crate::fanout::{
    blocked::Closer, connection::Connection, stall::retry_interval, stream_guard::CloseReason,
};

impl Reactor<'_> {
    /// Adds a stream whose write is blocked.
    pub(super) fn add_blocked(&mut self, key: usize) {
        if self.blocked.is_empty() {
            let interval = retry_interval(self.context.settings.write_timeout);
            self.next_stall_check = self.now + interval;
        }
        self.blocked.insert(key);
        let connection = &mut self.connections[key];
        connection.poll_for_room(self.poll.registry(), key);
        if let Ok(key) = to_stored_key(key) {
            let mailbox = self.mailbox.clone();
            let closer = Closer::Fanout { mailbox, key };
            connection.count_blocked(&self.context.blocked, closer);
        }
    }

    /// Closes streams, because blocked streams hold too much. Each one is named by its key and the
    /// id of its blocked write.
    pub(super) fn close_evicted(&mut self, evicted: Vec<(u32, u64)>) {
        for (key, id) in evicted {
            let key = key as usize;
            let connection = self.connections.get(key);
            // The write may be complete by now, and the key may belong to another stream.
            if connection.and_then(Connection::blocked_id) == Some(id) {
                self.close_stream(key, CloseReason::BlockedBytes);
            }
        }
    }
}
