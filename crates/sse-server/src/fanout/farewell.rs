//! What a client is sent about the end of its stream.

use bytes::BytesMut;
use sse_proto::wire;

use super::{drain::Drain, stream_guard::CloseReason};
use crate::channel::Chunk;

/// Returns the blocks before the end of a stream; `None` if there are none.
///
/// During a drain of an in-process log, the client learns that the server will be away.
pub(super) fn farewell(reason: CloseReason, drain: &Drain) -> Option<Chunk> {
    let plan = drain.plan().filter(|_| reason == CloseReason::Drain)?;
    let mut bytes = BytesMut::new();
    wire::retry(&mut bytes, plan.retry?);
    Some(Chunk {
        bytes: bytes.freeze(),
        events: 0,
        gap: None,
    })
}
