//! The memory of the heads of all requests of a connection that have no response.
//!
//! A client may send a large field once and name it again with one byte (RFC 7541, section 6.1). So
//! the bytes that arrive limit no memory: 256 requests of 16 KiB each can take 5 KB on the wire.

use std::{cell::Cell, rc::Rc};

use h2::RecvStream;

use super::limits::HEADS_BYTES_MAX;

/// Overhead of a field, as HTTP/2 counts it (RFC 9113, section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// The heads of one connection; clones share the count.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadMemory(Rc<Cell<usize>>);

/// A head, which counts until it is dropped.
#[derive(Debug)]
pub(super) struct HeldHead {
    memory: HeadMemory,
    bytes: usize,
}

impl HeadMemory {
    /// Counts the head of a request. Returns `None` if the heads of the connection are too large
    /// together.
    pub(super) fn hold(&self, request: &http::Request<RecvStream>) -> Option<HeldHead> {
        let target = request.uri().path_and_query();
        let target = target.map_or(0, |target| target.as_str().len());
        let fields = request.headers().iter();
        let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD);
        self.hold_bytes(target + fields.sum::<usize>())
    }

    fn hold_bytes(&self, bytes: usize) -> Option<HeldHead> {
        let held = self.0.get() + bytes;
        (held <= HEADS_BYTES_MAX).then(|| {
            self.0.set(held);
            HeldHead {
                memory: self.clone(),
                bytes,
            }
        })
    }
}

impl Drop for HeldHead {
    fn drop(&mut self) {
        let HeadMemory(held) = &self.memory;
        held.set(held.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_count_until_they_are_dropped() {
        let memory = HeadMemory::default();
        let half = HEADS_BYTES_MAX / 2;
        let first = memory.hold_bytes(half);
        let second = memory.hold_bytes(half);
        assert!(first.is_some() && second.is_some() && memory.hold_bytes(1).is_none());
        drop(first);
        assert!(memory.hold_bytes(half).is_some());
    }
}
