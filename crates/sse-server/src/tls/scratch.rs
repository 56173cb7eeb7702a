//! A buffer that all sessions of a thread share.
//!
//! A session needs room for one record only while it decrypts or encrypts it. With a buffer of its
//! own, an idle stream would take many times its memory.

use std::cell::Cell;

/// Most plaintext in one record (RFC 8446 §5.1).
pub(crate) const RECORD_BYTES: usize = 16 << 10;
/// One record, and messages of the protocol that precede it.
const SCRATCH_BYTES: usize = RECORD_BYTES + 2048;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with the buffer of this thread, which contains anything.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    // A nested call gets a buffer of its own.
    let mut buffer = SCRATCH.take();
    buffer.resize(SCRATCH_BYTES, 0);
    let result = work(&mut buffer);
    SCRATCH.set(buffer);
    result
}
