//! A block (the lines up to a blank one) that is being assembled.

/// An unfinished block with more data than this is moved to its connection, and copied otherwise.
pub(super) const COPIED_BYTES_MAX: usize = 4 << 10;
/// The scratch block frees memory beyond this.
pub(super) const SCRATCH_BYTES_MAX: usize = 256 << 10;

/// The fields of a block so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Block {
    pub(super) has_data: bool,
    pub(super) has_id: bool,
    pub(super) data: Vec<u8>,
    pub(super) kind: Vec<u8>,
    pub(super) id: Vec<u8>,
    /// Bytes of the block's fields, written as `name: value` lines. The size limit applies to them.
    bytes: usize,
}

impl Block {
    pub(super) const fn len(&self) -> usize {
        self.bytes
    }

    pub(super) fn add_data(&mut self, value: &[u8]) {
        self.bytes += "data: \n".len() + value.len();
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(value);
    }

    pub(super) fn set_kind(&mut self, value: &[u8]) {
        self.bytes += "event: \n".len() + value.len();
        overwrite(&mut self.kind, value);
    }

    pub(super) fn set_id(&mut self, value: &[u8]) {
        self.bytes += "id: \n".len() + value.len();
        self.has_id = true;
        overwrite(&mut self.id, value);
    }

    /// Counts the bytes of a `retry` field, which takes effect before the end of the block.
    pub(super) fn count_retry(&mut self, retry_ms: u64) {
        self.bytes += "retry: \n".len() + count_digits(retry_ms);
    }

    /// Becomes an unfinished block. A large one is moved: a copy per read would cost its square.
    pub(super) fn load(&mut self, unfinished: Box<Self>) {
        if unfinished.data.len() > COPIED_BYTES_MAX {
            *self = *unfinished;
        } else {
            self.copy_from(&unfinished);
        }
    }

    /// Takes the unfinished block out, if there is one, and leaves an empty block.
    pub(super) fn unload(&mut self) -> Option<Box<Self>> {
        let unfinished = match self {
            _ if self.bytes == 0 => None,
            _ if self.data.len() > COPIED_BYTES_MAX => Some(std::mem::take(self)),
            _ => Some(self.clone()),
        };
        self.clear();
        if self.data.capacity() > SCRATCH_BYTES_MAX {
            self.data = Vec::new();
        }
        unfinished.map(Box::new)
    }

    /// Copies a block into the memory of this one.
    fn copy_from(&mut self, other: &Self) {
        let Self {
            has_data,
            has_id,
            data,
            kind,
            id,
            bytes,
        } = other;
        (self.has_data, self.has_id) = (*has_data, *has_id);
        self.bytes = *bytes;
        overwrite(&mut self.data, data);
        overwrite(&mut self.kind, kind);
        overwrite(&mut self.id, id);
    }

    pub(super) fn clear(&mut self) {
        (self.has_data, self.has_id) = (false, false);
        self.bytes = 0;
        self.data.clear();
        self.kind.clear();
        self.id.clear();
    }
}

/// Replaces the content of `target`, in its memory.
pub(super) fn overwrite(target: &mut Vec<u8>, value: &[u8]) {
    target.clear();
    target.extend_from_slice(value);
}

fn count_digits(number: u64) -> usize {
    number
        .checked_ilog10()
        .map_or(1, |digits| digits as usize + 1)
}
