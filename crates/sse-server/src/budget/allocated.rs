//! What an allocation really takes, so that a bound on memory is a bound on what the process uses.

/// Smallest allocation that is a mapping of whole pages.
const LARGE_MIN: usize = 16 << 10;
/// Bytes by which such an allocation may be moved within its pages.
const LARGE_PADDING: usize = 4 << 10;

/// Returns the bytes that the allocator takes for an allocation of `length` bytes.
///
/// jemalloc has four sizes per power of two, and multiples of 16 up to 128.
pub(crate) fn allocated_bytes(length: usize) -> usize {
    let spacing = match length.saturating_sub(1).checked_ilog2() {
        Some(power @ 7..) => 1 << (power - 2),
        Some(_) => 16,
        None => return length * 16,
    };
    let size = length.checked_next_multiple_of(spacing).unwrap_or(length);
    if size < LARGE_MIN {
        size
    } else {
        size.saturating_add(LARGE_PADDING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_takes_its_size_class() {
        for (length, allocated) in [
            (0, 0),
            (1, 16),
            (16, 16),
            (17, 32),
            (128, 128),
            (129, 160),
            (160, 160),
            (257, 320),
            (1000, 1024),
            (1025, 1280),
            (16 << 10, (16 << 10) + 4096),
            ((1 << 20) + 1, (5 << 18) + 4096),
            (usize::MAX, usize::MAX),
        ] {
            assert_eq!(allocated_bytes(length), allocated, "{length}");
        }
    }
}
