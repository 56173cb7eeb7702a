//! Cuts `text/event-stream` bytes into whole blocks (WHATWG HTML §9.2.5 and §9.2.6).
//!
//! It finds line ends (CR, LF, CR LF, wherever the reads split them), strips one byte order mark, decodes UTF-8 with
//! U+FFFD for what is invalid, and drops what a parser ignores: comments, unknown fields, an `id` with NUL, a `retry`
//! that is not digits. What comes out is one [`Block`] of plain `name: value` lines that any parser reads alike; the
//! work is linear in the bytes, however they are cut. A block without its blank line is never given out.

use std::collections::VecDeque;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One block that says something: an event, a new last event id, or a new reconnection time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// Its fields in order, each as `name: value` and LF, without the blank line.
    ///
    /// Text and a blank line are what a parser may be given; without data, it would dispatch nothing.
    pub text: String,
    /// It has a `data` field, so it is an event to dispatch.
    pub has_data: bool,
    /// The last `id` field; an empty one resets the last event id.
    pub id: Option<String>,
    /// The last `retry` field, in milliseconds.
    pub retry_ms: Option<u64>,
}

/// Takes bytes as they come, gives blocks.
#[derive(Debug)]
pub struct BlockSplitter {
    block_bytes_max: usize,
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The last byte was CR: an LF right after it belongs to the same line end.
    after_cr: bool,
    /// No line has ended yet, so a byte order mark may stand at the start of this one.
    at_start: bool,
    block: Block,
    whole: VecDeque<Block>,
}

impl BlockSplitter {
    /// A splitter at the start of a stream. A block, or a line, of more than `block_bytes_max` bytes is an error.
    #[must_use]
    pub fn new(block_bytes_max: usize) -> Self {
        Self {
            block_bytes_max,
            line: Vec::new(),
            after_cr: false,
            at_start: true,
            block: Block::default(),
            whole: VecDeque::new(),
        }
    }

    /// The oldest whole block that has not been taken.
    pub fn next_block(&mut self) -> Option<Block> {
        self.whole.pop_front()
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// [`BlockTooLarge`]: the stream cannot be read on. The blocks before it are still given out.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), BlockTooLarge> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr::memchr2(b'\r', b'\n', bytes) {
            self.extend_line(&bytes[..end])?;
            self.end_line();
            let carriage_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if carriage_return {
                self.after_cr = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        self.extend_line(bytes)
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), BlockTooLarge> {
        if self.block.text.len() + self.line.len() + bytes.len() > self.block_bytes_max {
            return Err(BlockTooLarge { bytes_max: self.block_bytes_max });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        let content = if std::mem::take(&mut self.at_start) {
            line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line)
        } else {
            &line
        };
        if content.is_empty() {
            let block = std::mem::take(&mut self.block);
            if block.has_data || block.id.is_some() || block.retry_ms.is_some() {
                self.whole.push_back(block);
            }
        } else {
            self.block.take_field(&String::from_utf8_lossy(content));
        }
        // Keeps its memory for the next line.
        line.clear();
        self.line = line;
    }
}

impl Block {
    fn take_field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => self.has_data = true,
            "event" => {}
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry_ms = Some(value.parse().unwrap_or(u64::MAX));
            }
            _ => return,
        }
        self.text.push_str(name);
        self.text.push_str(": ");
        self.text.push_str(value);
        self.text.push('\n');
    }
}

/// A block is larger than the limit that the reader set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {bytes_max} bytes")]
pub struct BlockTooLarge {
    /// The limit.
    pub bytes_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(chunks: &[&[u8]]) -> Vec<Block> {
        let mut splitter = BlockSplitter::new(1 << 20);
        for chunk in chunks {
            splitter.push(chunk).expect("within the limit");
        }
        std::iter::from_fn(|| splitter.next_block()).collect()
    }

    fn texts(stream: &[u8]) -> Vec<String> {
        let whole = blocks(&[stream]);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(blocks(&bytes), whole, "byte by byte");
        whole.into_iter().map(|block| block.text).collect()
    }

    #[test]
    fn every_line_end_ends_a_line() {
        for stream in [
            "data: a\n\ndata: b\n\n",
            "data: a\r\rdata: b\r\r",
            "data: a\r\n\r\ndata: b\r\n\r\n",
            "data: a\r\n\rdata: b\n\r\n",
        ] {
            assert_eq!(texts(stream.as_bytes()), ["data: a\n", "data: b\n"], "{stream:?}");
        }
    }

    #[test]
    fn one_byte_order_mark_is_stripped() {
        assert_eq!(texts(b"\xEF\xBB\xBFdata: a\n\n"), ["data: a\n"]);
        assert!(texts(b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\n").is_empty());
        assert!(texts(b"data: a\n\n\xEF\xBB\xBFdata: b\n\n").len() == 1);
    }

    #[test]
    fn invalid_utf8_becomes_the_replacement_character() {
        assert_eq!(texts(b"data: a\xFFb\xE2\x82\n\n"), ["data: a\u{fffd}b\u{fffd}\n"]);
        assert_eq!(texts("data: é€😀\n\n".as_bytes()), ["data: é€😀\n"]);
    }

    #[test]
    fn what_a_parser_ignores_is_dropped() {
        assert_eq!(texts(b": comment\nfoo: bar\ndata:  a\ndata\nretry: +5\nid: a\0b\n\n"), ["data:  a\ndata: \n"]);
        assert!(texts(b"event: only\n\n:\n\n\n\ndata: unfinished\n").is_empty());
    }

    #[test]
    fn ids_and_retries_count_without_data() {
        let read = blocks(&[b"id: 5-0\nretry: 10\n\nid\n\nretry: 99999999999999999999\n\n"]);
        let said: Vec<_> = read.iter().map(|b| (b.id.as_deref(), b.retry_ms, b.has_data)).collect();
        assert_eq!(said, [(Some("5-0"), Some(10), false), (Some(""), None, false), (None, Some(u64::MAX), false)]);
    }

    #[test]
    fn a_block_beyond_the_limit_is_an_error_but_comments_do_not_add_up() {
        let mut splitter = BlockSplitter::new(20);
        for _ in 0..100 {
            splitter.push(b": heartbeat\n").expect("comments are dropped");
        }
        splitter.push(b"data: a\n\n").expect("small");
        assert_eq!(splitter.push(b"data: 0123456789\ndata: 0123456789\n"), Err(BlockTooLarge { bytes_max: 20 }));
        assert!(splitter.next_block().is_some());
    }
}
