//! What a client is sent about the end of its stream.

use std::time::Duration;

use bytes::BytesMut;
use sse_proto::{Notice, wire};

use super::{drain::Drain, stream_guard::CloseReason};
use crate::channel::{Chunk, MultiSubscription};

/// Returns the notice that a right is valid for this long.
pub(super) fn expiry_notice(left: Duration) -> Notice {
    Notice::Expires {
        in_ms: milliseconds(left),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What the ends of all streams have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Farewell<'a> {
    pub(super) drain: &'a Drain,
    /// Time after which clients reconnect by the opening of their streams.
    pub(super) retry: Duration,
}

impl Farewell<'_> {
    /// Returns the blocks before the end of a stream; `None` if there are none.
    ///
    /// During a drain of an in-process log, the client learns that the server will be away. A
    /// client with notices learns each time when to reconnect.
    pub(super) fn encode(
        self,
        reason: CloseReason,
        subscription: Option<&MultiSubscription>,
    ) -> Option<Chunk> {
        let mut bytes = BytesMut::new();
        let plan = self.drain.plan().filter(|_| reason == CloseReason::Drain);
        let has_only_data = subscription.is_some_and(MultiSubscription::has_only_data);
        let new_retry = plan.and_then(|plan| plan.retry).filter(|_| !has_only_data);
        if let Some(retry) = new_retry {
            wire::retry(&mut bytes, retry);
        }
        let has_notices = subscription.is_some_and(MultiSubscription::has_notices);
        if has_notices && reason.expects_reconnect() {
            let reconnect_in = new_retry.unwrap_or(self.retry);
            let reconnect_in_ms = milliseconds(reconnect_in);
            wire::notice(&mut bytes, &Notice::Stopping { reconnect_in_ms });
        }
        (!bytes.is_empty()).then(|| Chunk {
            bytes: bytes.freeze(),
            events: 0,
            gap: None,
        })
    }
}
