//! Heartbeats on streams that were silent for `--heartbeat`.
//!
//! `heartbeat_wheel` decides when they are due. `stream_body` sends those of streams that stay with
//! their HTTP workers.

use std::time::Instant;

use super::Reactor;
use crate::fanout::shared_state::Action;

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
}
