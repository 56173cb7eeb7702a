//! Closes the streams whose clients accepted no data for `--write-timeout`.
//!
//! [`stall`](crate::fanout::stall) decides how long that is for a client. Streams that stay with
//! their HTTP workers have the same check in `detach/blocked_write`.

use super::Reactor;
use crate::fanout::{stall::retry_interval, stream_guard::CloseReason};

impl Reactor<'_> {
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
