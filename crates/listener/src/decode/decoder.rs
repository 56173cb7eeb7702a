//! Bytes of one connection to events.
//!
//! [`BlockSplitter`] finds the blocks; `eventsource-stream` parses those that are events, one at a time, each in a
//! parser of its own. So nothing that 0.2.3 keeps between events can go wrong (ids that are lost, a buffer that
//! is copied for each line, a byte order mark that makes it panic), and order is kept by itself. A block without data is
//! no event: its id and `retry` go to [`ResumeState`] alone, as an event's do before it is given out.

use std::convert::Infallible;

use eventsource_stream::EventStream;
use futures::{FutureExt, StreamExt, stream};
use serde::Serialize;
use sse_proto::blocks::{self, Block, BlockSplitter, BlockTooLarge};

use crate::decode::resume::ResumeState;

/// What a stream says to its reader.
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
    /// The last event id after it: its own, or the one that was set before it; may be empty.
    pub id: String,
    /// Its type; `message` if it named none.
    #[serde(rename = "event")]
    pub kind: String,
    /// Its data, lines joined by LF.
    pub data: String,
    /// Where it ends: bytes since the start of the connection's stream.
    #[serde(skip)]
    pub end: u64,
}

/// Takes the bytes of one connection, gives its events in order.
#[derive(Debug)]
pub struct Decoder {
    splitter: BlockSplitter,
}

/// The bytes cannot be read as events.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Too much for one event.
    // Not its source: it would be said twice.
    #[error("{0}; --max-event-size sets how large it may be")]
    TooLarge(BlockTooLarge),
    /// The parser and the splitter see different things: a defect of ours.
    #[error("the parser found no event in a block with data")]
    Unparsable,
}

impl Decoder {
    /// At the start of a stream whose events have at most so many bytes.
    #[must_use]
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            splitter: BlockSplitter::new(event_bytes_max),
        }
    }

    /// Gives comments as well.
    #[must_use]
    pub fn with_comments(self) -> Self {
        Self {
            splitter: self.splitter.with_comments(),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// An event is too large: the stream cannot be read on. What came before it is still given out.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.splitter.push(bytes).map_err(DecodeError::TooLarge)
    }

    /// What comes next and is whole. `resume` keeps what it and the blocks before it say.
    ///
    /// # Errors
    /// See [`DecodeError::Unparsable`].
    pub fn next_item(&mut self, resume: &mut ResumeState) -> Result<Option<Item>, DecodeError> {
        while let Some(item) = self.splitter.next_item() {
            let block = match item {
                blocks::Item::Block(block) => block,
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

    /// Up to here, in bytes since the start, nothing belongs to an event that is not whole.
    #[must_use]
    pub fn complete_up_to(&self) -> u64 {
        self.splitter.settled()
    }
}

/// The event of a block with data.
///
/// The parser gets it line by line: whole, it would copy the rest of the block for every line of it.
fn parse_block(block: &Block) -> Option<eventsource_stream::Event> {
    let lines = block.text.split_inclusive('\n').chain(["\n"]);
    let mut events = EventStream::new(stream::iter(lines.map(Ok::<_, Infallible>)));
    // All of its input is there, so it never has to wait.
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
    fn a_retry_counts_with_and_without_data() {
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
    fn an_event_of_very_many_lines_does_not_take_their_square() {
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
