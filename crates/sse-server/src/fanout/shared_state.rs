//! State that many streams share, and the chunks that they are sent.
//!
//! A [`SharedState`] is a subscription at one position and never changes. What a stream does next
//! is a [`Transition`]: an action, and the state after it. The state caches its transitions. The
//! first stream that needs one pays for it, and the others reuse the result and its encoded bytes.
//! The [`View`](super::view::View) decides how long transitions are cached.

use std::{cell::RefCell, fmt::Display, rc::Rc};

use bytes::{BufMut as _, Bytes, BytesMut};
use sse_proto::{api::GapReason, wire};

use crate::channel::{Chunk, MultiSubscription, multi::Fetch};

/// How the body of a stream goes over the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferCoding {
    /// As chunks of HTTP/1.1 (RFC 9112 §7.1).
    Chunked,
    /// Unchanged, until the connection closes: HTTP/1.0.
    Identity,
}

impl TransferCoding {
    /// Bytes that end the body.
    pub(super) const fn terminator(self) -> &'static [u8] {
        match self {
            Self::Chunked => b"0\r\n\r\n",
            Self::Identity => b"",
        }
    }
}

/// A chunk of a stream, encoded once for all streams that are sent it.
#[derive(Debug)]
pub(super) struct EncodedChunk {
    /// Number of events in the chunk.
    pub(super) events: usize,
    /// Reason of the gap that the chunk reports, if it reports one.
    pub(super) gap: Option<GapReason>,
    identity: Bytes,
    chunked: Bytes,
}

impl EncodedChunk {
    pub(super) fn new(chunk: Chunk) -> Self {
        let Chunk { bytes, events, gap } = chunk;
        Self {
            events,
            gap,
            chunked: encode_chunked(&bytes),
            identity: bytes,
        }
    }

    /// Creates a heartbeat, which reports `position` if there is one.
    pub(super) fn heartbeat(position: Option<impl Display>) -> Self {
        Self::new(Chunk {
            bytes: encode_heartbeat(position),
            events: 0,
            gap: None,
        })
    }

    pub(super) fn bytes(&self, coding: TransferCoding) -> &Bytes {
        match coding {
            TransferCoding::Chunked => &self.chunked,
            TransferCoding::Identity => &self.identity,
        }
    }

    /// Length in bytes without the transfer coding.
    pub(super) fn len(&self) -> usize {
        self.identity.len()
    }
}

/// Encodes a heartbeat, which reports `position` if there is one.
pub(super) fn encode_heartbeat(position: Option<impl Display>) -> Bytes {
    let mut bytes = BytesMut::new();
    wire::heartbeat(&mut bytes, position);
    bytes.freeze()
}

fn encode_chunked(bytes: &[u8]) -> Bytes {
    let mut chunk = BytesMut::with_capacity(bytes.len() + 16);
    chunk.put_slice(format!("{:X}\r\n", bytes.len()).as_bytes());
    chunk.put_slice(bytes);
    chunk.put_slice(b"\r\n");
    chunk.freeze()
}

/// What a stream does next.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// Sends the chunk.
    Send(Rc<EncodedChunk>),
    /// Reads a page of history.
    Fetch(Fetch),
    /// Waits for a changed tail or a completion.
    Wait,
    /// Ends, because `until` is reached.
    End,
}

/// A step of a stream.
#[derive(Debug, Clone)]
pub(super) struct Transition {
    pub(super) action: Action,
    /// State after the step; `None` if the state does not change.
    pub(super) next_state: Option<Rc<SharedState>>,
}

impl Transition {
    /// Returns the bytes of the chunk, in both codings.
    pub(super) fn chunk_bytes(&self) -> usize {
        match &self.action {
            Action::Send(chunk) => chunk.identity.len() + chunk.chunked.len(),
            Action::Fetch(_) | Action::Wait | Action::End => 0,
        }
    }
}

/// State of all streams of a view that have the same subscription.
#[derive(Debug)]
pub(super) struct SharedState {
    pub(super) subscription: MultiSubscription,
    pub(super) cached: RefCell<CachedTransitions>,
}

/// Transitions that a state caches. They are boxed, because most states have none.
#[derive(Debug, Default)]
pub(super) struct CachedTransitions {
    pub(super) next: Option<Box<Transition>>,
    pub(super) heartbeat: Option<Box<Transition>>,
}

impl SharedState {
    pub(super) fn new(subscription: MultiSubscription) -> Self {
        Self {
            subscription,
            cached: RefCell::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_has_its_size_in_front_only_if_the_body_is_chunked() {
        let chunk = EncodedChunk::new(Chunk {
            bytes: Bytes::from_static(b"data: 0123456789\n\n"),
            events: 1,
            gap: None,
        });
        assert_eq!(
            chunk.bytes(TransferCoding::Identity),
            "data: 0123456789\n\n"
        );
        assert_eq!(
            chunk.bytes(TransferCoding::Chunked),
            "12\r\ndata: 0123456789\n\n\r\n"
        );
        assert_eq!(chunk.len(), 18);
    }
}
