//! `--format raw`: the bytes as they were received, but only whole blocks of them.
//!
//! What a cut leaves unfinished must not run into what the next connection begins with, or whoever reads stdout would
//! see an event that nobody sent. So bytes are held until the block that they belong to is whole.

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Bytes of one connection that are not printed yet.
#[derive(Debug, Default)]
pub struct RawBlocks {
    held: Vec<u8>,
    /// Bytes of the stream before those that are held.
    before: u64,
    /// It is not the first connection: a byte order mark would stand in the middle of what is printed.
    again: bool,
}

impl RawBlocks {
    /// The next connection has begun: what is held is from before a cut.
    pub fn start_connection(&mut self) {
        *self = Self {
            again: true,
            ..Self::default()
        };
    }

    /// Holds the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// How many bytes are held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Moves what is held up to here, in bytes since the connection's start, to `out`.
    pub fn drain_up_to(&mut self, end: u64, out: &mut Vec<u8>) {
        let length = usize::try_from(end.saturating_sub(self.before))
            .unwrap_or(usize::MAX)
            .min(self.held.len());
        let mut bytes = &self.held[..length];
        if self.before == 0 && self.again {
            bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        }
        out.extend_from_slice(bytes);
        self.held.drain(..length);
        self.before += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_settled_is_held_and_forgotten_by_a_cut() {
        let (mut raw, mut out) = (RawBlocks::default(), Vec::new());
        raw.push(b"\xEF\xBB\xBF: a\n\nda");
        raw.drain_up_to(8, &mut out);
        raw.push(b"ta: b\n\ndata: torn");
        raw.drain_up_to(8, &mut out);
        assert_eq!(
            (out.as_slice(), raw.held_bytes()),
            (&b"\xEF\xBB\xBF: a\n\n"[..], 19)
        );
        raw.drain_up_to(17, &mut out);
        raw.start_connection();
        raw.push(b"\xEF\xBB\xBFdata: c\n\n");
        raw.drain_up_to(12, &mut out);
        assert_eq!(out, b"\xEF\xBB\xBF: a\n\ndata: b\n\ndata: c\n\n");
        assert_eq!(raw.held_bytes(), 0);
    }
}
