//! `--format raw`: the bytes as received, but only whole blocks.
//!
//! The block that a cut leaves unfinished must not run into the first block of the next connection,
//! or stdout would contain an event that was never sent. So bytes are held until their block is
//! complete:
//!
//! ```text
//! received:  : a ⏎ ⏎ d a │ t a : b ⏎ ⏎ d a t a ✂ next connection
//! printed:   : a ⏎ ⏎       d a t a : b ⏎ ⏎       ("data" is dropped)
//! ```

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The bytes of one connection that are not printed yet.
#[derive(Debug, Default)]
pub struct RawBlocks {
    held: Vec<u8>,
    /// Number of bytes of the connection before the held ones.
    before: u64,
    /// This is not the first connection, so a byte order mark would be in the middle of the output.
    is_reconnect: bool,
}

impl RawBlocks {
    /// Begins the next connection, and drops the bytes of an unfinished block.
    pub fn start_connection(&mut self) {
        *self = Self {
            is_reconnect: true,
            ..Self::default()
        };
    }

    /// Adds the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Number of held bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Moves the held bytes up to `end`, counted from the start of the connection, to `out`.
    pub fn drain_up_to(&mut self, end: u64, out: &mut Vec<u8>) {
        let length = usize::try_from(end.saturating_sub(self.before))
            .unwrap_or(usize::MAX)
            .min(self.held.len());
        let mut bytes = &self.held[..length];
        if self.before == 0 && self.is_reconnect {
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
    fn an_unfinished_block_is_held_and_dropped_by_a_cut() {
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
