//! Splits a body into lines while it arrives.

use bytes::{Bytes, BytesMut};

/// Bytes of a body that are not taken as lines yet.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    bytes: BytesMut,
    /// Bytes at the start that contain no line end.
    searched: usize,
}

impl LineBuffer {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next complete line, without its line feed.
    pub(super) fn take_line(&mut self) -> Option<Bytes> {
        let unsearched = &self.bytes[self.searched..];
        let Some(length) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            return None;
        };
        let mut line = self.bytes.split_to(self.searched + length + 1);
        line.truncate(line.len() - 1);
        self.searched = 0;
        Some(line.freeze())
    }

    /// Takes the last line of a body that has ended, if it has no line feed.
    pub(super) fn take_rest(&mut self) -> Option<Bytes> {
        self.searched = 0;
        let rest = self.bytes.split().freeze();
        (!rest.is_empty()).then_some(rest)
    }

    /// Returns the number of bytes that are not taken.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_when_they_are_complete() {
        let mut buffer = LineBuffer::default();
        let mut taken = Vec::new();
        for part in ["a", "b\nc\n", "\n", "d", "", "e\r\nf"] {
            buffer.push(part.as_bytes());
            while let Some(line) = buffer.take_line() {
                taken.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        assert_eq!(taken, ["ab", "c", "", "de\r"]);
        assert_eq!(buffer.len(), 1);
        assert_eq!(buffer.take_rest().unwrap(), "f");
        assert_eq!(buffer.take_rest(), None);
    }
}
