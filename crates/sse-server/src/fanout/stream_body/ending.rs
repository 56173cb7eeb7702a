//! The ends of a stream that stays attached.

use std::time::Instant;

use bytes::BytesMut;

use super::{Driver, Next, state::State};
use crate::{
    channel::Chunk,
    fanout::{
        farewell::{Farewell, expiry_notice},
        shared_state::encode_heartbeat,
        stream_guard::CloseReason,
    },
};

impl Driver {
    /// Closes the connection of an unreachable client.
    pub(super) fn abort(&mut self) -> Next {
        if let Some(socket) = &self.socket {
            socket.abort();
        }
        self.end(CloseReason::Unreachable)
    }

    /// Sends a client with notices that its right is about to expire.
    pub(super) fn warn(&mut self, now: Instant) -> Option<Next> {
        let left = self.guard.take_warning(now)?;
        let subscription = self.state.subscription()?;
        if !subscription.has_notices() {
            return None;
        }
        Some(self.send(Chunk::notice(&expiry_notice(left)).bytes, 0))
    }

    /// Ends the stream before its client wants it: sends the position, if the client does not know
    /// it, and what the client must know about the end. At a shutdown there is no time for a
    /// position, and a client without notices gets nothing.
    pub(super) fn end_early(&mut self, reason: CloseReason) -> Next {
        self.is_ending = true;
        self.close_reason = reason;
        let mut last = BytesMut::new();
        if reason != CloseReason::Shutdown
            && let State::Attached(attached) = &mut self.state
            && let Some(position) = attached.subscription.take_unsent_cursor()
        {
            last.extend_from_slice(&encode_heartbeat(Some(position)));
        }
        let farewell = Farewell {
            drain: &self.streams.drain,
            retry: self.streams.settings.retry,
        };
        if let Some(farewell) = farewell.encode(reason, self.state.subscription()) {
            last.extend_from_slice(&farewell.bytes);
        }
        if last.is_empty() {
            return Next::End;
        }
        self.send(last.freeze(), 0)
    }

    pub(super) const fn end(&mut self, reason: CloseReason) -> Next {
        self.close_reason = reason;
        Next::End
    }
}
