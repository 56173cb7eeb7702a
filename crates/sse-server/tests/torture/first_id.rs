//! Finds the first id of a stream: the position that a client knows before its first event.

/// The search ends after this many bytes; the stream then counts as one without an id.
const BYTES_MAX: usize = 64 << 10;

/// Reads a response until a complete block with an id has passed.
#[derive(Debug, Default)]
pub(crate) struct FirstId {
    seen: Vec<u8>,
    id: Option<String>,
    is_over: bool,
}

impl FirstId {
    /// Reads the next bytes; returns true once, when they complete the block with the first id.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        if self.is_over {
            return false;
        }
        self.seen.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.seen);
        // Lines of the response head end with CR LF, so LF LF is the end of a block.
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
        self.id = whole
            .lines()
            .find_map(|line| line.strip_prefix("id: "))
            .map(ToOwned::to_owned);
        self.is_over = self.id.is_some() || self.seen.len() > BYTES_MAX;
        if self.is_over {
            self.seen = Vec::new();
        }
        self.id.is_some()
    }

    /// The id, if it was found.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}
