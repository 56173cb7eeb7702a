//! Splits `text/event-stream` bytes into blocks (WHATWG HTML §9.2.5 and §9.2.6).
//!
//! [`lines`](crate::lines) finds the lines. This module decodes UTF-8, replaces invalid bytes by
//! U+FFFD, and drops what a parser ignores: unknown fields, an `id` with NUL, and a `retry` with
//! other characters than digits. Each [`Block`] holds plain `name: value` lines that every parser
//! reads in the same way. A block is returned only after its blank line has arrived. A reconnection
//! time is returned as soon as its line has ended, also in a block that is cut off later.

use std::collections::VecDeque;

use crate::lines::{Field, LineSink, LineSplitter, LineTooLong};

/// A part of a stream. Items are returned in the order of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A complete block.
    Block(Block),
    /// A reconnection time in milliseconds, as soon as its `retry` line has ended.
    Retry(u64),
    /// A comment, as soon as its line has ended. See [`BlockSplitter::with_comments`].
    Comment(String),
}

/// A block with an effect: an event, or a new last event id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// The fields of the block in order, each as `name: value` and LF, without the blank line.
    ///
    /// This text and a blank line are valid input for another parser.
    pub text: String,
    /// Whether the block has a `data` field. A parser dispatches only such a block.
    pub has_data: bool,
    /// The last `id` field. An empty value resets the last event id.
    pub id: Option<String>,
    /// End of the blank line, in bytes since the start of the stream.
    ///
    /// If a read ends between CR and LF, the LF belongs to the next block.
    pub end: u64,
}

/// Splits the bytes of a stream into blocks, for any sizes of the reads.
#[derive(Debug)]
pub struct BlockSplitter {
    lines: LineSplitter,
    assembler: Assembler,
}

/// Assembles lines to blocks.
#[derive(Debug)]
struct Assembler {
    block_bytes_max: usize,
    keeps_comments: bool,
    block: Block,
    /// Items that the reader has not fetched yet, oldest first.
    complete: VecDeque<Item>,
    /// Length of all earlier pushes, in bytes.
    pushed_before: u64,
    /// See [`BlockSplitter::settled`].
    settled: u64,
}

impl BlockSplitter {
    /// Creates a splitter for a new stream.
    ///
    /// A block or a line of more than `block_bytes_max` bytes is an error.
    #[must_use]
    pub fn new(block_bytes_max: usize) -> Self {
        let assembler = Assembler {
            block_bytes_max,
            keeps_comments: false,
            block: Block::default(),
            complete: VecDeque::new(),
            pushed_before: 0,
            settled: 0,
        };
        Self {
            lines: LineSplitter::default(),
            assembler,
        }
    }

    /// Returns comments too, as [`Item::Comment`].
    #[must_use]
    pub fn with_comments(mut self) -> Self {
        self.assembler.keeps_comments = true;
        self
    }

    /// Removes and returns the oldest item; `None` if more bytes are needed.
    pub fn next_item(&mut self) -> Option<Item> {
        self.assembler.complete.pop_front()
    }

    /// Returns the position in the stream before which every block is complete, in bytes.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.assembler.settled
    }

    /// Processes the next bytes of the stream.
    ///
    /// # Errors
    ///
    /// [`BlockTooLarge`]: a block exceeds the limit, and the rest of the stream cannot be read.
    /// [`next_item`](Self::next_item) still returns the items before it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BlockTooLarge> {
        let pushed = self.lines.push(bytes, &mut self.assembler);
        self.assembler.pushed_before += bytes.len() as u64;
        pushed.map_err(|LineTooLong| BlockTooLarge {
            bytes_max: self.assembler.block_bytes_max,
        })
    }
}

impl LineSink for Assembler {
    fn room(&self) -> usize {
        self.block_bytes_max.saturating_sub(self.block.text.len())
    }

    fn line(&mut self, line: &[u8], end: usize) {
        let end = self.pushed_before + end as u64;
        match Field::of(line) {
            Field::Blank => self.end_block(end),
            Field::Comment(text) if self.keeps_comments => {
                let text = String::from_utf8_lossy(text).into_owned();
                self.complete.push_back(Item::Comment(text));
            }
            Field::Retry(retry_ms) => {
                self.complete.push_back(Item::Retry(retry_ms));
                // The line is part of the block: it counts for the limit, and the block is not
                // settled before its end.
                self.block.append_line("retry", &retry_ms.to_string());
            }
            field => self.block.add_field(field),
        }
        if self.block.text.is_empty() {
            self.settled = end;
        }
    }
}

impl Assembler {
    /// Completes the current block. A block without an effect is dropped.
    fn end_block(&mut self, end: u64) {
        let block = Block {
            end,
            ..std::mem::take(&mut self.block)
        };
        if block.has_data || block.id.is_some() {
            self.complete.push_back(Item::Block(block));
        }
    }
}

impl Block {
    fn add_field(&mut self, field: Field<'_>) {
        match field {
            Field::Data(value) => {
                self.has_data = true;
                self.append_line("data", &String::from_utf8_lossy(value));
            }
            Field::Event(value) => self.append_line("event", &String::from_utf8_lossy(value)),
            Field::Id(value) => {
                let id = String::from_utf8_lossy(value).into_owned();
                self.append_line("id", &id);
                self.id = Some(id);
            }
            Field::Blank | Field::Comment(_) | Field::Retry(_) | Field::Ignored => {}
        }
    }

    fn append_line(&mut self, name: &str, value: &str) {
        for part in [name, ": ", value, "\n"] {
            self.text.push_str(part);
        }
    }
}

/// A block is larger than the limit of the [`BlockSplitter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {bytes_max} bytes")]
pub struct BlockTooLarge {
    /// The limit, in bytes.
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
        std::iter::from_fn(|| splitter.next_item())
            .filter_map(into_block)
            .collect()
    }

    fn into_block(item: Item) -> Option<Block> {
        match item {
            Item::Block(block) => Some(block),
            Item::Retry(_) => None,
            Item::Comment(text) => panic!("comments are off, but got: {text}"),
        }
    }

    fn texts(stream: &[u8]) -> Vec<String> {
        let whole = blocks(&[stream]);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        let whole: Vec<_> = whole.into_iter().map(|block| block.text).collect();
        assert_eq!(
            blocks(&bytes)
                .into_iter()
                .map(|block| block.text)
                .collect::<Vec<_>>(),
            whole,
            "byte by byte"
        );
        whole
    }

    #[test]
    fn every_line_end_ends_a_line() {
        for stream in [
            "data: a\n\ndata: b\n\n",
            "data: a\r\rdata: b\r\r",
            "data: a\r\n\r\ndata: b\r\n\r\n",
            "data: a\r\n\rdata: b\n\r\n",
        ] {
            assert_eq!(
                texts(stream.as_bytes()),
                ["data: a\n", "data: b\n"],
                "{stream:?}"
            );
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
        assert_eq!(
            texts(b"data: a\xFFb\xE2\x82\n\n"),
            ["data: a\u{fffd}b\u{fffd}\n"]
        );
        assert_eq!(texts("data: é€😀\n\n".as_bytes()), ["data: é€😀\n"]);
    }

    #[test]
    fn lines_that_a_parser_ignores_are_dropped() {
        assert_eq!(
            texts(b": comment\nfoo: bar\ndata:  a\ndata\nretry: +5\nid: a\0b\n\n"),
            ["data:  a\ndata: \n"]
        );
        assert!(texts(b"event: only\n\n:\n\n\n\ndata: unfinished\n").is_empty());
    }

    #[test]
    fn a_block_with_only_an_id_is_returned() {
        let read = blocks(&[b"id: 5-0\nretry: 10\n\nid\n\nretry: 7\n\n"]);
        let fields: Vec<_> = read.iter().map(|b| (b.id.as_deref(), b.has_data)).collect();
        assert_eq!(fields, [(Some("5-0"), false), (Some(""), false)]);
    }

    #[test]
    fn a_retry_is_returned_at_the_end_of_its_line() {
        let mut splitter = BlockSplitter::new(100);
        for (bytes, item) in [
            ("data: a\nretry: 1", None),
            ("0\r", Some(Item::Retry(10))),
            (
                "\nretry: 99999999999999999999\n",
                Some(Item::Retry(u64::MAX)),
            ),
            ("retry: 7s\nretry: 5", None),
        ] {
            splitter.push(bytes.as_bytes()).unwrap();
            assert_eq!(splitter.next_item(), item, "{bytes:?}");
        }
        assert_eq!(splitter.settled(), 0, "the block is not complete");
    }

    #[test]
    fn a_block_above_the_limit_is_an_error_and_comments_do_not_count() {
        let mut splitter = BlockSplitter::new(20);
        for _ in 0..100 {
            splitter
                .push(b": heartbeat\n")
                .expect("comments are dropped");
        }
        splitter.push(b"data: a\n\n").expect("small");
        assert_eq!(
            splitter.push(b"data: 0123456789\ndata: 0123456789\n"),
            Err(BlockTooLarge { bytes_max: 20 })
        );
        assert!(splitter.next_item().is_some());
    }

    #[test]
    fn comments_are_returned_in_order_if_they_are_on() {
        let mut splitter = BlockSplitter::new(100).with_comments();
        splitter.push(b": a\ndata: b\n:c\n\n:\xFF").unwrap();
        let comment = |text: &str| Some(Item::Comment(text.to_owned()));
        assert_eq!(
            [splitter.next_item(), splitter.next_item()],
            [comment("a"), comment("c")]
        );
        assert!(
            matches!(splitter.next_item(), Some(Item::Block(block)) if block.text == "data: b\n")
        );
        assert_eq!(splitter.next_item(), None);
        splitter.push(b"\n").unwrap();
        assert_eq!(splitter.next_item(), comment("\u{fffd}"));
    }

    #[test]
    fn a_block_has_its_end_and_an_incomplete_block_is_not_settled() {
        let mut splitter = BlockSplitter::new(100);
        for (bytes, ends, settled) in [
            (": a\nfoo: b\n", &[][..], 11),
            ("data: a\r\n", &[], 11),
            (":\n\r", &[23], 23),
            ("\ndata: b\n\nid: 1\n\nevent: x\n", &[33, 40], 40),
        ] {
            splitter.push(bytes.as_bytes()).unwrap();
            let found: Vec<u64> = std::iter::from_fn(|| splitter.next_item())
                .filter_map(|item| Some(into_block(item)?.end))
                .collect();
            assert_eq!(
                (found.as_slice(), splitter.settled()),
                (ends, settled),
                "{bytes:?}"
            );
        }
    }
}
