//! The end of all streams when the server stops.

use bytes::Bytes;

use super::Reactor;
use crate::fanout::stream_guard::CloseReason;

impl Reactor<'_> {
    /// Ends all streams. A blocked stream loses the rest of its last chunk.
    pub(super) fn end_all_streams(&mut self) {
        while self.admit_next(self.now) {}
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.end_at_block(key, CloseReason::Shutdown);
        }
        self.end_of_round();
    }

    /// Ends a stream at the end of a block. A blocked stream loses the rest of its last chunk.
    pub(super) fn end_at_block(&mut self, key: usize, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !connection.is_blocked() {
            let terminator = Bytes::from_static(connection.coding.terminator());
            // The connection closes even if the terminator cannot be written.
            let _ = connection.write(&terminator, self.now);
        }
        self.close_stream(key, reason);
    }
}
