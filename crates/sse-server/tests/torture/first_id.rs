//! Finds the first block of a stream that tells a position: what a client knows before its first event.

/// The opening of a stream is not longer than this; what is, is taken for none.
const BYTES_MAX: usize = 64 << 10;

/// Reads along until a whole block with an id has gone by.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    seen: Vec<u8>,
    id: Option<String>,
    over: bool,
}

impl Opening {
    /// Takes the next bytes; true when they complete the opening, and never again.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        if self.over {
            return false;
        }
        self.seen.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.seen);
        // The head of the answer has lines of its own; a block ends with LF LF, which is not in it.
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
        self.id = whole
            .lines()
            .find_map(|line| line.strip_prefix("id: "))
            .map(ToOwned::to_owned);
        self.over = self.id.is_some() || self.seen.len() > BYTES_MAX;
        if self.over {
            self.seen = Vec::new();
        }
        self.id.is_some()
    }

    /// The position.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}
