//! Memory of all tails: one bound for the newest events of all channels.
//!
//! Each tail has limits of its own, but there can be many tails. If all of them take more than
//! `--tails-bytes`, the tails with the oldest last write lose their oldest frames:
//!
//! ```text
//! tails, by last write         8   6   3   1        18 MiB, of which 12 may be used
//! cut by 6 MiB                 2   6   3   1
//! ```
//!
//! Subscribers that need the events of a cut tail read them from history.

use std::sync::Arc;

use crate::metrics::{Level, Metrics};

/// After a cut the tails take this part less than the bound, so that the next event does not cause
/// the next cut.
const FREED_PART: usize = 8;

/// The memory of all tails; clones share it.
#[derive(Debug, Clone)]
pub struct TailMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes_max: usize,
    /// The metric is the count.
    bytes: Level,
}

impl TailMemory {
    /// Creates the memory, of `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: usize, metrics: &Metrics) -> Self {
        Self(Arc::new(Inner {
            bytes_max,
            bytes: metrics.tails_bytes(),
        }))
    }

    /// Creates a memory without a bound.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(Arc::new(Inner {
            bytes_max: usize::MAX,
            bytes: Level::default(),
        }))
    }

    /// Returns what all tails take.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.0.bytes.get()).unwrap_or(0)
    }

    /// Records that a tail takes `after` bytes instead of `before`.
    pub(super) fn change(&self, before: usize, after: usize) {
        let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        if before != after {
            self.0.bytes.inc_by(signed(after) - signed(before));
        }
    }

    /// Returns whether the tails take more than they may.
    pub(super) fn is_exceeded(&self) -> bool {
        self.bytes() > self.0.bytes_max
    }

    /// Returns how many bytes a cut has still to free.
    pub(super) fn excess(&self) -> usize {
        let bytes_max = self.0.bytes_max;
        let wanted = bytes_max - bytes_max / FREED_PART;
        self.bytes().saturating_sub(wanted)
    }
}
