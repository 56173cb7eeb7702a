//! The blocked streams by client, and which of them is closed next.
//!
//! A client that reads slowly must not lose its stream because another one opens thousands that read
//! nothing. So the client whose streams hold most is the one that loses a stream. A chunk counts once
//! for each client: a crowd behind one address that waits for the same event holds little.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry};

use super::{ChunkKey, Closer, Holding};
use crate::budget::ClientNet;

/// A blocked stream.
#[derive(Debug)]
pub(super) struct BlockedStream {
    pub(super) holding: Holding,
    pub(super) closer: Closer,
}

/// All blocked streams. Streams whose clients have no address count as streams of one client.
#[derive(Default)]
pub(super) struct BlockedStreams {
    clients: HashMap<Option<ClientNet>, ClientStreams>,
    /// The clients by the bytes that their streams hold.
    by_bytes: BTreeSet<(usize, Option<ClientNet>)>,
}

/// The blocked streams of one client.
#[derive(Default)]
struct ClientStreams {
    bytes: usize,
    /// By id, so the stream that became blocked first is the first one.
    streams: BTreeMap<u64, BlockedStream>,
    /// The number of these streams per chunk.
    chunks: HashMap<ChunkKey, usize>,
}

impl ClientStreams {
    fn add(&mut self, id: u64, stream: BlockedStream) {
        self.bytes += match stream.holding {
            Holding::Buffer(bytes) => bytes,
            Holding::Chunk(key, own_bytes) => {
                let holders = self.chunks.entry(key).or_default();
                *holders += 1;
                own_bytes + if *holders == 1 { key.length() } else { 0 }
            }
        };
        self.streams.insert(id, stream);
    }

    fn remove(&mut self, id: u64) -> Option<BlockedStream> {
        let stream = self.streams.remove(&id)?;
        match stream.holding {
            Holding::Buffer(bytes) => self.bytes -= bytes,
            Holding::Chunk(key, own_bytes) => {
                self.bytes -= own_bytes;
                self.release(key);
            }
        }
        Some(stream)
    }

    fn release(&mut self, key: ChunkKey) {
        if let Entry::Occupied(mut holders) = self.chunks.entry(key) {
            *holders.get_mut() -= 1;
            if *holders.get() == 0 {
                holders.remove();
                self.bytes -= key.length();
            }
        }
    }
}

impl BlockedStreams {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.by_bytes.is_empty()
    }

    /// Adds a stream with an id that is larger than all before.
    pub(super) fn add(&mut self, client: Option<ClientNet>, id: u64, stream: BlockedStream) {
        let of_client = self.clients.entry(client).or_default();
        self.by_bytes.remove(&(of_client.bytes, client));
        of_client.add(id, stream);
        self.by_bytes.insert((of_client.bytes, client));
    }

    /// Removes a stream; returns `None` if it was removed before.
    pub(super) fn remove(&mut self, client: Option<ClientNet>, id: u64) -> Option<BlockedStream> {
        let of_client = self.clients.get_mut(&client)?;
        let before = of_client.bytes;
        let stream = of_client.remove(id)?;
        self.by_bytes.remove(&(before, client));
        if of_client.streams.is_empty() {
            self.clients.remove(&client);
        } else {
            self.by_bytes.insert((of_client.bytes, client));
        }
        Some(stream)
    }

    /// Returns the stream that is furthest behind of the client whose streams hold most.
    pub(super) fn furthest_behind(&self) -> Option<(Option<ClientNet>, u64)> {
        let (_, client) = *self.by_bytes.last()?;
        let (id, _) = self.clients.get(&client)?.streams.first_key_value()?;
        Some((client, *id))
    }
}
