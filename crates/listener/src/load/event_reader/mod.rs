//! `text/event-stream` bytes to events, for many connections: the rules of
//! [`crate::decode::decoder`] without its strings.
//!
//! Lines are split by [`sse_proto::lines`]. An event that arrives whole in one read costs no
//! allocation, because it is assembled in a [`Scratch`] that all connections share:
//!
//! ```text
//! push(bytes):  unfinished block ──load──► Scratch ──events──► `handle`
//!                       ▲                     │
//!                       └──────unload─────────┘  what is unfinished after the last byte
//! ```
//!
//! A connection stores only what it needs to continue: the unfinished block, the last event id and
//! the `retry` (WHATWG HTML §9.2.6).

mod block;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use sse_proto::lines::{Field, LineSink, LineSplitter, LineTooLong};

use self::block::{Block, overwrite};

/// What a stream contains, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole event.
    Event(EventRef<'a>),
    /// A comment, as soon as its line has ended.
    Comment(&'a [u8]),
}

/// An event as it was received: bytes, not yet decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef<'a> {
    /// The last event id after this event; may be empty.
    pub id: &'a [u8],
    /// The type; `message` if the event names none.
    pub kind: &'a [u8],
    /// The data, lines joined by LF.
    pub data: &'a [u8],
}

impl<'a> EventRef<'a> {
    /// The last event id as text.
    #[must_use]
    pub fn id_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.id)
    }

    /// The type as text.
    #[must_use]
    pub fn kind_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.kind)
    }

    /// The data as text.
    #[must_use]
    pub fn data_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.data)
    }
}

/// An event is larger than the limit; the stream cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {bytes_max} bytes")]
pub struct EventTooLarge {
    /// The limit.
    pub bytes_max: usize,
}

/// Decodes the bytes of a connection, and of the connections that follow it.
#[derive(Debug)]
pub struct EventReader {
    lines: LineSplitter,
    /// The block that has not ended, between two pushes.
    unfinished: Option<Box<Block>>,
    resume: ResumePoint,
    event_bytes_max: usize,
}

/// State that outlives a connection.
#[derive(Debug, Default)]
struct ResumePoint {
    last_event_id: Vec<u8>,
    retry_ms: Option<u64>,
}

/// Memory in which blocks are assembled, shared by any number of readers.
#[derive(Debug, Default)]
pub struct Scratch(Block);

impl EventReader {
    /// A reader at the start of a stream whose events have at most `event_bytes_max` bytes.
    #[must_use]
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            lines: LineSplitter::default(),
            unfinished: None,
            resume: ResumePoint::default(),
            event_bytes_max,
        }
    }

    /// Sets the last event id to begin with.
    #[must_use]
    pub fn starting_after(mut self, last_event_id: &str) -> Self {
        self.resume.last_event_id = last_event_id.as_bytes().to_vec();
        self
    }

    /// Decodes the next bytes of the stream, and calls `handle` with each complete item.
    ///
    /// # Errors
    /// [`EventTooLarge`], after the items before that event were handled.
    pub fn push(
        &mut self,
        scratch: &mut Scratch,
        bytes: &[u8],
        handle: impl FnMut(Item<'_>),
    ) -> Result<(), EventTooLarge> {
        let block = &mut scratch.0;
        if let Some(unfinished) = self.unfinished.take() {
            block.load(unfinished);
        }
        let mut assembler = Assembler {
            block,
            resume: &mut self.resume,
            event_bytes_max: self.event_bytes_max,
            handle,
        };
        let pushed = self.lines.push(bytes, &mut assembler);
        self.unfinished = block.unload();
        pushed.map_err(|LineTooLong| EventTooLarge {
            bytes_max: self.event_bytes_max,
        })
    }

    /// Ends the connection: the unfinished block is dropped, and the next bytes begin a stream.
    pub fn disconnect(&mut self) {
        self.lines = LineSplitter::default();
        self.unfinished = None;
    }

    /// The id to resume after; empty if there is none.
    #[must_use]
    pub fn last_event_id(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.resume.last_event_id)
    }

    /// The reconnection time in milliseconds, if the server set one.
    #[must_use]
    pub const fn retry_ms(&self) -> Option<u64> {
        self.resume.retry_ms
    }
}

/// Assembles lines to events.
struct Assembler<'a, F> {
    block: &'a mut Block,
    resume: &'a mut ResumePoint,
    event_bytes_max: usize,
    handle: F,
}

impl<F: FnMut(Item<'_>)> LineSink for Assembler<'_, F> {
    fn room(&self) -> usize {
        self.event_bytes_max.saturating_sub(self.block.len())
    }

    fn line(&mut self, line: &[u8], _end: usize) {
        match Field::of(line) {
            Field::Blank => self.end_block(),
            Field::Comment(text) => (self.handle)(Item::Comment(text)),
            Field::Data(value) => self.block.add_data(value),
            Field::Event(value) => self.block.set_kind(value),
            Field::Id(value) => self.block.set_id(value),
            Field::Retry(retry_ms) => {
                // At the end of its line, also if the block is cut off later.
                self.resume.retry_ms = Some(retry_ms);
                self.block.count_retry(retry_ms);
            }
            Field::Ignored => {}
        }
    }
}

impl<F: FnMut(Item<'_>)> Assembler<'_, F> {
    /// Ends the block at a blank line. A block without data only updates the last event id.
    fn end_block(&mut self) {
        let (block, resume) = (&mut *self.block, &mut *self.resume);
        if block.has_id {
            overwrite(&mut resume.last_event_id, &block.id);
        }
        if block.has_data {
            let kind = match block.kind.as_slice() {
                [] => b"message".as_slice(),
                kind => kind,
            };
            (self.handle)(Item::Event(EventRef {
                id: &resume.last_event_id,
                kind,
                data: &block.data,
            }));
        }
        block.clear();
    }
}
