//! Memory of blocked streams: one bound for all streams whose sockets are full.
//!
//! A blocked stream holds the chunk that its socket did not accept completely. All blocked streams
//! together hold at most `--blocked-bytes`:
//!
//! ```text
//!  stream 1 ─┐
//!  stream 2 ─┼─► chunk, 1 MiB ─┐
//!  stream 3 ─┘                 ├─► --blocked-bytes
//!  stream 4 ───► chunk, 64 KiB ┘
//! ```
//!
//! Equal chunks are held once, whatever view or thread their streams belong to. Beyond the bound,
//! the client whose streams hold most loses the stream that is furthest behind: the one that has
//! been blocked for the longest time. A closed stream loses nothing, because its client resumes with
//! its last event id.
//!
//! | file | contents |
//! |---|---|
//! | `chunks` | the distinct chunks |
//! | `streams` | the blocked streams by client, and which of them is closed next |
//! | `buffer` | what actix buffers for a stream with a full socket |
//! | `chunk_holder` | the chunk that a multiplexed stream cannot send |
//!
//! A stream that is not blocked costs nothing here. A stream takes the lock when it becomes blocked,
//! and when it is no longer blocked.

mod buffer;
mod chunk_holder;
mod chunks;
mod streams;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

pub(super) use self::{buffer::BlockedBuffer, chunk_holder::BlockedChunk};
use self::{
    buffer::CloseRequest,
    chunks::{ChunkKey, Chunks},
    streams::{BlockedStream, BlockedStreams},
};

use super::mailbox::Mailbox;
use crate::{
    budget::{ClientNet, allocated_bytes},
    metrics::Metrics,
};

/// The memory of all blocked streams; clones share it.
#[derive(Clone)]
pub struct BlockedBytes(Arc<Inner>);

struct Inner {
    bytes_max: usize,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chunks: Chunks,
    streams: BlockedStreams,
    /// Bytes of the buffers that belong to one stream each.
    buffer_bytes: usize,
    /// Bytes of the buffers of streams that must close and are not closed yet.
    closing_bytes: usize,
    next_id: u64,
}

/// Buffers of streams that are about to close may exceed the bound by this part of it.
const CLOSING_PART: usize = 4;

/// What a blocked stream holds.
#[derive(Debug, Clone, Copy)]
enum Holding {
    /// A chunk, which other streams may hold too, and this many bytes of its own.
    Chunk(ChunkKey, usize),
    /// A buffer of this many bytes.
    Buffer(usize),
}

impl Holding {
    const fn buffer_bytes(self) -> usize {
        match self {
            Self::Chunk(_, bytes) | Self::Buffer(bytes) => bytes,
        }
    }
}

/// How to close a blocked stream.
///
/// The stream may belong to another thread, so this only sends a message. Until that thread handles
/// it, some milliseconds later, the memory of the stream is in use and no longer counted.
#[derive(Debug, Clone)]
pub(super) enum Closer {
    /// A stream of a fan-out thread, by its key.
    Fanout { mailbox: Arc<Mailbox>, key: u32 },
    /// A stream that a worker thread serves.
    Attached(Arc<CloseRequest>),
}

impl Closer {
    /// Closes the stream, if the write with this id still blocks it.
    fn close(&self, id: u64) {
        match self {
            Self::Fanout { mailbox, key } => {
                mailbox.send(|inbox| inbox.evicted.push((*key, id)));
            }
            Self::Attached(request) => request.send(),
        }
    }
}

/// The share of one blocked stream, until it is dropped.
pub(super) struct BlockedShare {
    blocked: BlockedBytes,
    client: Option<ClientNet>,
    id: u64,
    /// Bytes that belong to this stream alone.
    buffer_bytes: usize,
}

impl BlockedShare {
    /// Identifies the blocked write; no other one has the same id.
    pub(super) const fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for BlockedShare {
    fn drop(&mut self) {
        let mut state = self.blocked.lock();
        match state.streams.remove(self.client, self.id) {
            Some(stream) => state.release(&stream),
            None => state.closing_bytes -= self.buffer_bytes,
        }
        self.blocked.report(&state);
    }
}

impl fmt::Debug for BlockedShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockedShare").field(&self.id).finish()
    }
}

impl fmt::Debug for BlockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockedBytes").finish_non_exhaustive()
    }
}

impl BlockedBytes {
    /// Creates the memory, of `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: usize, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            bytes_max,
            metrics,
            state: Mutex::default(),
        }))
    }

    /// Holds a chunk for a stream of `client`.
    ///
    /// The stream must keep the returned chunk in place of its own. They are equal, but only the
    /// returned one is counted. `own_bytes` belong to this stream alone. `own` returns the chunk as an allocation of its own, in case that no
    /// other stream holds an equal one.
    pub(super) fn hold_chunk(
        &self,
        chunk: &Bytes,
        own_bytes: usize,
        own: impl FnOnce(&Bytes) -> Bytes,
        client: Option<ClientNet>,
        closer: Closer,
    ) -> (Bytes, BlockedShare) {
        let (sample, candidate) = self.lock().chunks.find(chunk);
        // Compare and copy without the lock, because a chunk can be large.
        let equal = candidate.filter(|candidate| is_equal(candidate, chunk));
        let held = equal.unwrap_or_else(|| own(chunk));
        let mut state = self.lock();
        let (key, held) = state.chunks.add(sample, held);
        let own_bytes = match own_bytes {
            0 => 0,
            bytes => allocated_bytes(bytes),
        };
        state.buffer_bytes += own_bytes;
        let holding = Holding::Chunk(key, own_bytes);
        (held, self.add_stream(state, client, holding, closer))
    }

    /// Holds a buffer that belongs to one stream of `client`.
    fn hold_buffer(&self, bytes: usize, client: Option<ClientNet>, closer: Closer) -> BlockedShare {
        let mut state = self.lock();
        let bytes = allocated_bytes(bytes);
        state.buffer_bytes += bytes;
        self.add_stream(state, client, Holding::Buffer(bytes), closer)
    }

    /// Adds a blocked stream, and closes streams until the others are within the bound.
    fn add_stream(
        &self,
        mut state: MutexGuard<'_, State>,
        client: Option<ClientNet>,
        holding: Holding,
        closer: Closer,
    ) -> BlockedShare {
        let id = state.next_id;
        state.next_id += 1;
        state
            .streams
            .add(client, id, BlockedStream { holding, closer });
        let holds_most = state.streams.furthest_behind();
        let mut evicted = state.evict(self.0.bytes_max);
        if let (Holding::Buffer(_), Some((most, _))) = (holding, holds_most)
            && most == client
            && state.has_too_much_to_close(self.0.bytes_max)
        {
            // The workers of actix are behind with closing streams of this client, and this one can
            // close at once.
            evicted.extend(state.evict_stream(client, id));
        }
        self.report(&state);
        drop(state);
        for (id, stream) in evicted {
            stream.closer.close(id);
        }
        BlockedShare {
            blocked: self.clone(),
            client,
            id,
            buffer_bytes: holding.buffer_bytes(),
        }
    }

    fn report(&self, state: &State) {
        self.0.metrics.set_blocked_bytes(state.bytes());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether two chunks are equal. Most often they are the same.
fn is_equal(left: &Bytes, right: &Bytes) -> bool {
    left.len() == right.len() && (left.as_ptr() == right.as_ptr() || left == right)
}

impl State {
    const fn bytes(&self) -> usize {
        self.chunks.bytes() + self.buffer_bytes
    }

    fn release(&mut self, stream: &BlockedStream) {
        match stream.holding {
            Holding::Chunk(key, bytes) => {
                self.chunks.release(key);
                self.buffer_bytes -= bytes;
            }
            Holding::Buffer(bytes) => self.buffer_bytes -= bytes,
        }
    }

    /// Removes streams until the rest holds at most `bytes_max`.
    fn evict(&mut self, bytes_max: usize) -> Vec<(u64, BlockedStream)> {
        let mut evicted = Vec::new();
        while self.bytes() > bytes_max
            && let Some((client, id)) = self.streams.furthest_behind()
        {
            evicted.extend(self.evict_stream(client, id));
        }
        evicted
    }

    fn evict_stream(&mut self, client: Option<ClientNet>, id: u64) -> Option<(u64, BlockedStream)> {
        let stream = self.streams.remove(client, id)?;
        self.release(&stream);
        self.closing_bytes += stream.holding.buffer_bytes();
        Some((id, stream))
    }

    /// Returns whether the buffers of streams that must close take too much in addition to the rest.
    const fn has_too_much_to_close(&self, bytes_max: usize) -> bool {
        let all = self.bytes().saturating_add(self.closing_bytes);
        all > bytes_max.saturating_add(bytes_max / CLOSING_PART)
    }
}

#[cfg(test)]
mod tests;
