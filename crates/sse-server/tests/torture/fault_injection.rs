//! Test of the test: changes one event of a stream in transit, so that the checker has a fault to
//! find.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::options::Plant;

/// Number of the event to change, counted from the start of the connection.
const NTH: usize = 20;

/// Splits a response into its blocks and reassembles it, with one event changed.
#[derive(Debug)]
pub(crate) struct FaultInjector {
    plant: Plant,
    bytes: Vec<u8>,
    head_is_over: bool,
    chunked: bool,
    /// Content of the chunks that is not a complete block yet.
    text: Vec<u8>,
    events: usize,
    held: Option<Vec<u8>>,
}

impl FaultInjector {
    /// Creates an injector for one response.
    pub(crate) const fn new(plant: Plant) -> Self {
        Self {
            plant,
            bytes: Vec::new(),
            head_is_over: false,
            chunked: false,
            text: Vec::new(),
            events: 0,
            held: None,
        }
    }

    /// Takes received bytes and returns the bytes to forward. Increments `planted` once the fault
    /// is injected.
    pub(crate) fn push(&mut self, bytes: &[u8], planted: &AtomicU64) -> Vec<u8> {
        self.bytes.extend_from_slice(bytes);
        let mut out = Vec::new();
        if !self.head_is_over {
            let Some(end) = find(&self.bytes, b"\r\n\r\n") else {
                return out;
            };
            out.extend(self.bytes.drain(..end + 4));
            self.head_is_over = true;
            self.chunked = String::from_utf8_lossy(&out)
                .to_lowercase()
                .contains("transfer-encoding: chunked");
        }
        if self.chunked {
            while let Some(chunk) = self.chunk() {
                self.text.extend_from_slice(&chunk);
            }
        } else {
            self.text.append(&mut self.bytes);
        }
        while let Some(end) = find(&self.text, b"\n\n") {
            let block: Vec<u8> = self.text.drain(..end + 2).collect();
            for block in self.change(block, planted) {
                self.write(&mut out, &block);
            }
        }
        out
    }

    /// Returns the content of the next complete chunk. The empty last chunk stays in the buffer,
    /// because the stream ends there.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let line_end = find(&self.bytes, b"\r\n")?;
        let size = usize::from_str_radix(
            std::str::from_utf8(&self.bytes[..line_end]).ok()?.trim(),
            16,
        )
        .ok()?;
        if size == 0 || self.bytes.len() < line_end + 2 + size + 2 {
            return None;
        }
        let content = self.bytes[line_end + 2..][..size].to_vec();
        self.bytes.drain(..line_end + 2 + size + 2);
        Some(content)
    }

    fn change(&mut self, block: Vec<u8>, planted: &AtomicU64) -> Vec<Vec<u8>> {
        if find(&block, b"\ndata: ").is_none() {
            return vec![block];
        }
        self.events += 1;
        if let Some(held) = self.held.take() {
            planted.fetch_add(1, Relaxed);
            return vec![block, held];
        }
        if self.events != NTH {
            return vec![block];
        }
        if self.plant == Plant::Swap {
            self.held = Some(block);
            return Vec::new();
        }
        planted.fetch_add(1, Relaxed);
        if self.plant == Plant::Drop {
            Vec::new()
        } else {
            vec![block.clone(), block]
        }
    }

    fn write(&self, out: &mut Vec<u8>, block: &[u8]) {
        if self.chunked {
            out.extend_from_slice(format!("{:x}\r\n", block.len()).as_bytes());
        }
        out.extend_from_slice(block);
        if self.chunked {
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
