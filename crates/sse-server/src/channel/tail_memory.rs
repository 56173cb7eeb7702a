//! Memory of all tails: one bound for the newest events of all channels.
//!
//! Each tail has limits of its own, but there can be many tails. If all of them take more than
//! `--tails-bytes`, the largest ones are cut to the same size, and small ones stay as they are:
//!
//! ```text
//! tails                         8   6   3   1        18 MiB, of which 12 may be used
//! cut to 4 MiB                  4   4   3   1
//! ```
//!
//! A cut tail has the newest events. Subscribers that need others read them from history.

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

    /// Returns the size to which tails of these sizes must be cut.
    pub(super) fn size_max(&self, sizes: Vec<usize>) -> usize {
        let bytes_max = self.0.bytes_max;
        common_size(sizes, bytes_max - bytes_max / FREED_PART)
    }
}

/// Returns the size to which the largest of `sizes` must be cut so that the sum is at most
/// `sum_max`.
fn common_size(mut sizes: Vec<usize>, sum_max: usize) -> usize {
    sizes.sort_unstable();
    let mut left = sum_max;
    for (nth, size) in sizes.iter().enumerate() {
        let share = left / (sizes.len() - nth);
        if *size > share {
            return share;
        }
        left -= size;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_tails_are_cut_to_a_common_size() {
        for (sizes, sum_max, common) in [
            (vec![8, 6, 3, 1], 12, 4),
            (vec![8, 6, 3, 1], 18, usize::MAX),
            (vec![8, 6, 3, 1], 17, 7),
            (vec![8, 6, 3, 1], 0, 0),
            (vec![5; 10], 20, 2),
            (Vec::new(), 0, usize::MAX),
        ] {
            assert_eq!(
                common_size(sizes.clone(), sum_max),
                common,
                "{sizes:?} {sum_max}"
            );
        }
    }
}
