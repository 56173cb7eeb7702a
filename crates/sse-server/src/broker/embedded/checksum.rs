//! Checksums at the end of records and rows.
//!
//! A checksum is a CRC32C in little endian. It covers the key of the record, and then its content.

use crc32c::{crc32c, crc32c_append};

/// Length of a checksum in bytes.
pub(super) const CHECKSUM: usize = 4;

/// Appends a checksum of `content` and of the key of its row.
pub(super) fn seal(key: &[u8], mut content: Vec<u8>) -> Vec<u8> {
    push_checksum(&mut content, crc32c(key));
    content
}

/// Returns the content of a sealed row; returns `None` if the checksum is wrong.
pub(super) fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    split_checksum(sealed, crc32c(key))
}

/// Appends the checksum of `content`, which continues the checksum `of_key`.
pub(super) fn push_checksum(content: &mut Vec<u8>, of_key: u32) {
    content.extend_from_slice(&checksum(of_key, content));
}

/// Returns what comes before the checksum; returns `None` if the checksum is wrong.
pub(super) fn split_checksum(record: &[u8], of_key: u32) -> Option<&[u8]> {
    let (content, found) = record.split_last_chunk()?;
    (*found == checksum(of_key, content)).then_some(content)
}

fn checksum(of_key: u32, content: &[u8]) -> [u8; CHECKSUM] {
    crc32c_append(of_key, content).to_le_bytes()
}
