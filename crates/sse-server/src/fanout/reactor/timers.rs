//! Work that is due because time has passed: heartbeats, and the end of stalled streams.

use std::time::Instant;

use super::Reactor;
use crate::fanout::{admission::CloseReason, shared_state::Action, stall::retry_interval};

impl Reactor<'_> {
    /// Checks the next stream whose heartbeat may be due. Returns `false` if there is none.
    pub(super) fn check_heartbeat(&mut self, _: Instant) -> bool {
        let Some((stored_key, due)) = self.wheel.pop(self.now) else {
            return false;
        };
        let key = stored_key as usize;
        let Some(connection) = self.connections.get_mut(key) else {
            return true;
        };
        if connection.heartbeat_due != due {
            // The entry belongs to a closed stream, whose key another stream has now.
            return true;
        }
        let mut last_write = connection.last_write;
        if self.wheel.is_due(last_write, stored_key, due) {
            last_write = self.wheel.tick(self.now);
            if !connection.is_blocked() {
                self.send_heartbeat(key);
            }
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.heartbeat_due = self.wheel.insert(stored_key, last_write, self.now);
        }
        true
    }

    fn send_heartbeat(&mut self, key: usize) {
        let Some((connection, watched)) = self.connection_and_view(key) else {
            return;
        };
        let transition = watched.view.heartbeat(&connection.state);
        if let Some(next_state) = transition.next_state {
            connection.state = next_state;
        }
        let view = connection.view as usize;
        self.record_use(view);
        if let Action::Send(chunk) = transition.action {
            self.send_chunk(key, &chunk);
        }
    }

    /// Closes the streams whose clients are stalled.
    ///
    /// Each blocked stream first tries to write, because a socket becomes writable only when it has
    /// much room.
    pub(super) fn close_stalled(&mut self) {
        if self.blocked.is_empty() || self.next_stall_check > self.now {
            return;
        }
        let write_timeout = self.context.settings.write_timeout;
        self.next_stall_check = self.now + retry_interval(write_timeout);
        for key in self.blocked.iter().copied().collect::<Vec<_>>() {
            self.resume_write(key);
            if let Some(connection) = self.connections.get(key)
                && connection.is_stalled(self.now, write_timeout)
            {
                self.close_stream(key, CloseReason::Stalled);
            }
        }
    }
}
