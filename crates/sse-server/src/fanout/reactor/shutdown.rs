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
            self.end_for_shutdown(key);
        }
        self.end_of_round();
    }

    fn end_for_shutdown(&mut self, key: usize) {
        let connection = self.connections.get(key);
        if connection.is_some_and(|connection| !connection.is_blocked()) {
            let mut last = self.farewell(key, CloseReason::Shutdown);
            let connection = &mut self.connections[key];
            last.extend_from_slice(connection.coding.terminator());
            // The connection closes even if the terminator cannot be written.
            let _ = connection.write(&Bytes::from(last), self.now);
        }
        self.close_stream(key, CloseReason::Shutdown);
    }
}
