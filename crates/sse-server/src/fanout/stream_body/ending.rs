//! The ends of a stream that stays attached.

use bytes::BytesMut;

use super::{Driver, Next, state::State};
use crate::fanout::{
    farewell::farewell, shared_state::encode_heartbeat, stream_guard::CloseReason,
};

impl Driver {
    /// Closes the connection of an unreachable client.
    pub(super) fn abort(&mut self) -> Next {
        if let Some(socket) = &self.socket {
            socket.abort();
        }
        self.end(CloseReason::Unreachable)
    }

    /// Ends the stream before its client wants it: sends the position, if the client does not know
    /// it, and a reconnection time during a drain.
    pub(super) fn end_early(&mut self, reason: CloseReason) -> Next {
        self.is_ending = true;
        self.close_reason = reason;
        let mut last = BytesMut::new();
        if let State::Attached(attached) = &mut self.state
            && let Some(position) = attached.subscription.take_unsent_cursor()
        {
            last.extend_from_slice(&encode_heartbeat(Some(position)));
        }
        if let Some(farewell) = farewell(reason, &self.streams.drain) {
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
