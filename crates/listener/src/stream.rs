//! Bytes of one connection to events.
//!
//! [`BlockSplitter`] finds the blocks; `eventsource-stream` parses those that are events, one at a time, each in a
//! parser of its own. So nothing that 0.2.3 keeps between events can go wrong (ids that are lost, a buffer that
//! is copied for each line, a byte order mark that makes it panic), and order is kept by itself. A block without data is
//! no event: its id and `retry` go to [`Resume`] alone, as an event's do before it is given out.

use std::convert::Infallible;

use eventsource_stream::EventStream;
use futures::{FutureExt, StreamExt, stream};
use serde::Serialize;
use sse_proto::blocks::{Block, BlockSplitter, BlockTooLarge, Item};

use crate::resume::Resume;

/// An event as it was received. Its JSON is what `--format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The last event id after it: its own, or the one that was set before it; may be empty.
    pub id: String,
    /// Its type; `message` if it named none.
    #[serde(rename = "event")]
    pub kind: String,
    /// Its data, lines joined by LF.
    pub data: String,
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
        Self { splitter: BlockSplitter::new(event_bytes_max) }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// An event is too large: the stream cannot be read on. The events before it are still given out.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.splitter.push(bytes).map_err(DecodeError::TooLarge)
    }

    /// The next event that is whole, and keeps in `resume` what it and the blocks before it say.
    ///
    /// # Errors
    /// See [`DecodeError::Unparsable`].
    pub fn next_event(&mut self, resume: &mut Resume) -> Result<Option<Event>, DecodeError> {
        while let Some(item) = self.splitter.next_item() {
            let Item::Block(block) = item else { continue };
            resume.take(&block);
            if block.has_data {
                let parsed = parse(&block).ok_or(DecodeError::Unparsable)?;
                let id = resume.last_event_id().to_owned();
                return Ok(Some(Event { id, kind: parsed.event, data: parsed.data }));
            }
        }
        Ok(None)
    }
}

/// The event of a block with data.
///
/// The parser gets it line by line: whole, it would copy the rest of the block for every line of it.
fn parse(block: &Block) -> Option<eventsource_stream::Event> {
    let lines = block.text.split_inclusive('\n').chain(["\n"]);
    let mut events = EventStream::new(stream::iter(lines.map(Ok::<_, Infallible>)));
    // All of its input is there, so it never has to wait.
    events.next().now_or_never()??.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, resume: &mut Resume) -> Vec<(String, String, String)> {
        let mut decoder = Decoder::new(16 << 20);
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.push(chunk).unwrap();
            while let Some(event) = decoder.next_event(resume).unwrap() {
                events.push((event.id, event.kind, event.data));
            }
        }
        events
    }

    #[test]
    fn streams_are_read_by_the_standard_however_they_are_cut() {
        type Case = (&'static [u8], &'static [(&'static str, &'static str, &'static str)], &'static str);
        let cases: &[Case] = &[
            (b"data: a\n\n", &[("0-0", "message", "a")], "0-0"),
            (b"\xEF\xBB\xBFid: 1\nevent: click\ndata: a\n\n", &[("1", "click", "a")], "1"),
            (b"event:click\rdata:a\rdata: b\r\rdata\r\r", &[("0-0", "click", "a\nb"), ("0-0", "message", "")], "0-0"),
            (b"data: a\r\n\r\ndata:  b\r\n\r\n", &[("0-0", "message", "a"), ("0-0", "message", " b")], "0-0"),
            (b"id: 1\n\ndata: a\n\nid\ndata: b\n\n", &[("1", "message", "a"), ("", "message", "b")], ""),
            (
                b"data: a\xFFb\n\ndata: \xE2\x82\xAC\n\n",
                &[("0-0", "message", "a\u{fffd}b"), ("0-0", "message", "\u{20ac}")],
                "0-0",
            ),
            (b"id: 1\n\nid: 2\ndata: unfinished\n", &[], "1"),
            (b"id: a\0b\nevent: x\nevent:\ndata: a\n\n", &[("0-0", "message", "a")], "0-0"),
            (
                b"data: \xEF\xBB\xBFa\n\n:comment\nevent: x\n\ndata:\ndata:\n\n",
                &[("0-0", "message", "\u{feff}a"), ("0-0", "message", "\n")],
                "0-0",
            ),
        ];
        for (bytes, expected, last_event_id) in cases {
            for size in [1, 2, 3, 7, bytes.len()] {
                let mut resume = Resume::after("0-0");
                let read = decode(bytes.chunks(size), &mut resume);
                let read: Vec<_> =
                    read.iter().map(|(id, kind, data)| (id.as_str(), kind.as_str(), data.as_str())).collect();
                assert_eq!(read, *expected, "{:?} by {size}", bytes.escape_ascii().to_string());
                assert_eq!(resume.last_event_id(), *last_event_id, "{:?}", bytes.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn a_retry_counts_with_and_without_data() {
        let mut resume = Resume::default();
        decode([b"retry: 10\n\n".as_slice()], &mut resume);
        assert_eq!(resume.retry().map(|retry| retry.as_millis()), Some(10));
        decode([b"retry: 20\ndata: a\n\nretry: +30\n\n".as_slice()], &mut resume);
        assert_eq!(resume.retry().map(|retry| retry.as_millis()), Some(20));
    }

    #[test]
    fn an_event_of_very_many_lines_does_not_take_their_square() {
        let lines = 500_000;
        let stream = "data:x\n".repeat(lines) + "\n";
        let read = decode([stream.as_bytes()], &mut Resume::default());
        assert_eq!(read[0].2.len(), 2 * lines - 1);
    }

    #[test]
    fn an_event_beyond_the_limit_is_an_error_after_the_events_before_it() {
        let mut decoder = Decoder::new(20);
        let error = decoder.push(b"data: a\n\ndata: 012345678901234567890\n\n").unwrap_err();
        assert_eq!(error.to_string(), "an event is larger than 20 bytes; --max-event-size sets how large it may be");
        let event = decoder.next_event(&mut Resume::default()).unwrap().expect("the event before");
        assert_eq!(event.data, "a");
    }
}
