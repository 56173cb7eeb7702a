//! Bytes of one connection to events.
//!
//! [`BlockSplitter`] finds the blocks. `eventsource-stream` parses each block with data, in a
//! parser of its own, because version 0.2.3 handles the state between events wrongly: it loses ids,
//! copies its buffer per line, and panics on a byte order mark. A block without data is no event;
//! its id only updates the [`ResumeState`]. `retry` updates it at the end of its line.
//!
//! ```text
//! id: 1⏎data: a⏎⏎ : comment⏎ id: 2⏎⏎
//! └── event 1 ──┘            └no event┘
//! ```

use std::convert::Infallible;

use eventsource_stream::EventStream;
use futures::{FutureExt, StreamExt, stream};
use serde::Serialize;
use sse_proto::blocks::{self, Block, BlockSplitter, BlockTooLarge};

use crate::decode::resume::ResumeState;

/// What a stream contains, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Event(Event),
    /// A comment.
    Comment(String),
}

/// An event as it was received. Its JSON is what `--format json` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The last event id after this event; may be empty.
    pub id: String,
    /// The type; `message` if the event names none.
    #[serde(rename = "event")]
    pub kind: String,
    /// The data, lines joined by LF.
    pub data: String,
    /// The end of the event, in bytes from the start of the connection.
    #[serde(skip)]
    pub end: u64,
}

/// Decodes the bytes of one connection.
#[derive(Debug)]
pub struct Decoder {
    splitter: BlockSplitter,
}

/// The bytes cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// An event is larger than the limit.
    // Not the source, which would be printed twice.
    #[error("{0}; --max-event-size sets how large it may be")]
    TooLarge(BlockTooLarge),
    /// The parser and the splitter disagree, which is a defect of the listener.
    #[error("the parser found no event in a block with data")]
    Unparsable,
}

impl Decoder {
    /// A decoder at the start of a stream whose events have at most `event_bytes_max` bytes.
    #[must_use]
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            splitter: BlockSplitter::new(event_bytes_max),
        }
    }

    /// Returns comments too.
    #[must_use]
    pub fn with_comments(self) -> Self {
        Self {
            splitter: self.splitter.with_comments(),
        }
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// An event is too large, and the stream cannot be read further. The items before it are still
    /// returned.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.splitter.push(bytes).map_err(DecodeError::TooLarge)
    }

    /// The next complete item. Applies its block, and what was before it, to `resume`.
    ///
    /// # Errors
    /// [`DecodeError::Unparsable`].
    pub fn next_item(&mut self, resume: &mut ResumeState) -> Result<Option<Item>, DecodeError> {
        while let Some(item) = self.splitter.next_item() {
            let block = match item {
                blocks::Item::Block(block) => block,
                blocks::Item::Retry(retry_ms) => {
                    resume.apply_retry(retry_ms);
                    continue;
                }
                blocks::Item::Comment(text) => return Ok(Some(Item::Comment(text))),
            };
            resume.apply_block(&block);
            if block.has_data {
                let parsed = parse_block(&block).ok_or(DecodeError::Unparsable)?;
                let id = resume.last_event_id().to_owned();
                return Ok(Some(Item::Event(Event {
                    id,
                    kind: parsed.event,
                    data: parsed.data,
                    end: block.end,
                })));
            }
        }
        Ok(None)
    }

    /// The end of the complete blocks, in bytes from the start of the connection.
    #[must_use]
    pub fn complete_up_to(&self) -> u64 {
        self.splitter.settled()
    }
}

/// Parses a block with data.
///
/// The parser receives the block line by line. It would copy the rest of a whole block for every
/// line.
fn parse_block(block: &Block) -> Option<eventsource_stream::Event> {
    let lines = block.text.split_inclusive('\n').chain(["\n"]);
    let mut events = EventStream::new(stream::iter(lines.map(Ok::<_, Infallible>)));
    // The input is complete, so the parser never waits.
    events.next().now_or_never()??.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<'a>(
        chunks: impl IntoIterator<Item = &'a [u8]>,
        resume: &mut ResumeState,
    ) -> Vec<(String, String, String)> {
        let mut decoder = Decoder::new(16 << 20);
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.push(chunk).unwrap();
            while let Some(item) = decoder.next_item(resume).unwrap() {
                let Item::Event(event) = item else {
                    panic!("{item:?}")
                };
                events.push((event.id, event.kind, event.data));
            }
        }
        events
    }

    #[test]
    fn a_retry_applies_with_and_without_data() {
        let mut resume = ResumeState::default();
        decode([b"retry: 10\n\n".as_slice()], &mut resume);
        assert_eq!(resume.retry().map(|retry| retry.as_millis()), Some(10));
        decode(
            [b"retry: 20\ndata: a\n\nretry: +30\n\n".as_slice()],
            &mut resume,
        );
        assert_eq!(resume.retry().map(|retry| retry.as_millis()), Some(20));
    }

    #[test]
    fn the_cost_of_an_event_is_linear_in_its_lines() {
        let lines = 500_000;
        let stream = "data:x\n".repeat(lines) + "\n";
        let read = decode([stream.as_bytes()], &mut ResumeState::default());
        assert_eq!(read[0].2.len(), 2 * lines - 1);
    }

    #[test]
    fn an_event_beyond_the_limit_is_an_error_after_the_events_before_it() {
        let mut decoder = Decoder::new(20);
        let error = decoder
            .push(b"data: a\n\ndata: 012345678901234567890\n\n")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "an event is larger than 20 bytes; --max-event-size sets how large it may be"
        );
        let before = decoder.next_item(&mut ResumeState::default()).unwrap();
        assert!(matches!(before, Some(Item::Event(event)) if event.data == "a"));
    }
}
