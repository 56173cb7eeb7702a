//! The distinct chunks that blocked streams hold.
//!
//! A chunk is found by its length and a hash of its beginning and its end. The caller compares the
//! rest, so a chunk that looks like another one is only held apart from it.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
};

use bytes::Bytes;

use crate::budget::allocated_bytes;

/// Bytes at each end of a chunk that are hashed. The id of the first event is among them.
const SAMPLE_BYTES: usize = 128;

/// Identifies a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ChunkKey {
    sample: Sample,
    /// 0 for the first chunk with this sample, and a unique number for the others.
    number: u64,
}

/// What equal chunks have in common, and other chunks rarely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sample {
    length: usize,
    hash: u64,
}

/// A chunk and the number of streams that hold it.
struct Held {
    chunk: Bytes,
    holders: usize,
}

/// All chunks that blocked streams hold.
#[derive(Default)]
pub(super) struct Chunks {
    by_key: HashMap<ChunkKey, Held>,
    hashes: RandomState,
    bytes: usize,
    last_number: u64,
}

impl Chunks {
    /// Returns the bytes of all chunks.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.bytes == 0
    }

    /// Returns the sample of `chunk`, and the held chunk that is probably equal to it.
    pub(super) fn find(&self, chunk: &Bytes) -> (Sample, Option<Bytes>) {
        let sample = self.sample(chunk);
        let held = self.by_key.get(&ChunkKey { sample, number: 0 });
        (sample, held.map(|held| held.chunk.clone()))
    }

    fn sample(&self, chunk: &[u8]) -> Sample {
        let first = &chunk[..chunk.len().min(SAMPLE_BYTES)];
        let last = &chunk[chunk.len().saturating_sub(SAMPLE_BYTES)..];
        Sample {
            length: chunk.len(),
            hash: self.hashes.hash_one((first, last)),
        }
    }

    /// Adds a holder of `chunk`. Returns the chunk that the holder must keep.
    pub(super) fn add(&mut self, sample: Sample, chunk: Bytes) -> (ChunkKey, Bytes) {
        let mut key = ChunkKey { sample, number: 0 };
        if let Some(held) = self.by_key.get(&key)
            && held.chunk.as_ptr() != chunk.as_ptr()
        {
            self.last_number += 1;
            key.number = self.last_number;
        }
        let held = match self.by_key.entry(key) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(vacant) => {
                self.bytes += allocated_bytes(chunk.len());
                vacant.insert(Held { chunk, holders: 0 })
            }
        };
        held.holders += 1;
        (key, held.chunk.clone())
    }

    /// Removes a holder of a chunk, and the chunk with its last holder.
    pub(super) fn release(&mut self, key: ChunkKey) {
        let Entry::Occupied(mut held) = self.by_key.entry(key) else {
            return;
        };
        held.get_mut().holders -= 1;
        if held.get().holders == 0 {
            self.bytes -= allocated_bytes(held.get().chunk.len());
            held.remove();
        }
    }
}

impl ChunkKey {
    /// Returns the length of the chunk.
    pub(super) const fn length(self) -> usize {
        self.sample.length
    }
}
