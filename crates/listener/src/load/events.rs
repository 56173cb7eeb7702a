//! `text/event-stream` bytes to events, for very many of them: the listener's rules ([`crate::stream`]) without its
//! strings.
//!
//! Lines come from [`sse_proto::lines`], as for every reader of ours. An event that came whole in one read costs no
//! allocation: it is put together in a [`Scratch`] that all connections share. A connection keeps only what it needs
//! to go on: the part of a block that has not ended, the last event id and the `retry` (WHATWG HTML §9.2.6).

use std::borrow::Cow;

use sse_proto::lines::{Field, LineSink, LineSplitter, LineTooLong};

/// A block that waits for its rest moves there with its memory when it is larger than this, and is copied otherwise.
const COPIED_BYTES_MAX: usize = 4 << 10;
/// The scratch gives memory beyond this back.
const SCRATCH_BYTES_MAX: usize = 256 << 10;

/// What a stream says, in its order.
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
    /// The last event id after it: its own, or the one that was set before it; may be empty.
    pub id: &'a [u8],
    /// Its type; `message` if it named none.
    pub kind: &'a [u8],
    /// Its data, lines joined by LF.
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

/// An event is larger than the reader may hold; the stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {bytes_max} bytes")]
pub struct EventTooLarge {
    /// The limit.
    pub bytes_max: usize,
}

/// Takes the bytes of a connection and of those that follow it, gives events.
#[derive(Debug)]
pub struct EventReader {
    lines: LineSplitter,
    /// The block that has not ended, between two pushes.
    unfinished: Option<Box<Block>>,
    position: Position,
    event_bytes_max: usize,
}

/// What outlives a connection.
#[derive(Debug, Default)]
struct Position {
    last_event_id: Vec<u8>,
    retry_ms: Option<u64>,
}

/// Memory in which blocks are put together; one for any number of readers.
#[derive(Debug, Default)]
pub struct Scratch(Block);

/// A block so far.
#[derive(Debug, Default, Clone)]
struct Block {
    has_data: bool,
    has_id: bool,
    data: Vec<u8>,
    kind: Vec<u8>,
    id: Vec<u8>,
    retry_ms: Option<u64>,
    /// Its bytes as `name: value` lines, which are what is limited.
    bytes: usize,
}

impl EventReader {
    /// At the start of a stream whose events have at most so many bytes.
    #[must_use]
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            lines: LineSplitter::default(),
            unfinished: None,
            position: Position::default(),
            event_bytes_max,
        }
    }

    /// With a last event id that is known already.
    #[must_use]
    pub fn after(mut self, last_event_id: &str) -> Self {
        self.position.last_event_id = last_event_id.as_bytes().to_vec();
        self
    }

    /// Takes the next bytes of the stream, and gives what is whole now.
    ///
    /// # Errors
    /// [`EventTooLarge`]: what came before it was given.
    pub fn push(
        &mut self,
        scratch: &mut Scratch,
        bytes: &[u8],
        take: impl FnMut(Item<'_>),
    ) -> Result<(), EventTooLarge> {
        let block = &mut scratch.0;
        if let Some(unfinished) = self.unfinished.take() {
            block.load(unfinished);
        }
        let mut assembler = Assembler {
            block,
            position: &mut self.position,
            event_bytes_max: self.event_bytes_max,
            take,
        };
        let pushed = self.lines.push(bytes, &mut assembler);
        self.unfinished = block.unload();
        pushed.map_err(|LineTooLong| EventTooLarge {
            bytes_max: self.event_bytes_max,
        })
    }

    /// The connection is over: what is unfinished is never an event, and another stream begins.
    pub fn disconnected(&mut self) {
        self.lines = LineSplitter::default();
        self.unfinished = None;
    }

    /// The id to come back with; empty for none.
    #[must_use]
    pub fn last_event_id(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.position.last_event_id)
    }

    /// How long the server wants a broken connection to wait, in milliseconds, if it said so.
    #[must_use]
    pub const fn retry_ms(&self) -> Option<u64> {
        self.position.retry_ms
    }
}

/// Makes events of lines.
struct Assembler<'a, F> {
    block: &'a mut Block,
    position: &'a mut Position,
    event_bytes_max: usize,
    take: F,
}

impl<F: FnMut(Item<'_>)> LineSink for Assembler<'_, F> {
    fn room(&self) -> usize {
        self.event_bytes_max.saturating_sub(self.block.bytes)
    }

    fn line(&mut self, line: &[u8], _end: usize) {
        let block = &mut *self.block;
        match Field::of(line) {
            Field::Blank => self.end_block(),
            Field::Comment(text) => (self.take)(Item::Comment(text)),
            Field::Data(value) => {
                block.bytes += "data: \n".len() + value.len();
                if block.has_data {
                    block.data.push(b'\n');
                }
                block.has_data = true;
                block.data.extend_from_slice(value);
            }
            Field::Event(value) => {
                block.bytes += "event: \n".len() + value.len();
                replace(&mut block.kind, value);
            }
            Field::Id(value) => {
                block.bytes += "id: \n".len() + value.len();
                block.has_id = true;
                replace(&mut block.id, value);
            }
            Field::Retry(retry_ms) => {
                block.bytes += "retry: \n".len() + value_digits(retry_ms);
                block.retry_ms = Some(retry_ms);
            }
            Field::Ignored => {}
        }
    }
}

impl<F: FnMut(Item<'_>)> Assembler<'_, F> {
    fn end_block(&mut self) {
        let (block, position) = (&mut *self.block, &mut *self.position);
        if block.has_id {
            replace(&mut position.last_event_id, &block.id);
        }
        if block.retry_ms.is_some() {
            position.retry_ms = block.retry_ms;
        }
        if block.has_data {
            let kind = if block.kind.is_empty() {
                b"message".as_slice()
            } else {
                &block.kind
            };
            (self.take)(Item::Event(EventRef {
                id: &position.last_event_id,
                kind,
                data: &block.data,
            }));
        }
        block.clear();
    }
}

impl Block {
    const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Becomes a block that was unfinished, and was kept. A large one is not copied: it would be at every read.
    fn load(&mut self, unfinished: Box<Self>) {
        if unfinished.data.len() > COPIED_BYTES_MAX {
            *self = *unfinished;
        } else {
            self.clone_from_kept(&unfinished);
        }
    }

    /// What has not ended, to be kept; leaves the scratch empty.
    fn unload(&mut self) -> Option<Box<Self>> {
        let rest = match self {
            _ if self.is_empty() => None,
            _ if self.data.len() > COPIED_BYTES_MAX => Some(std::mem::take(self)),
            _ => Some(self.clone()),
        };
        self.clear();
        if self.data.capacity() > SCRATCH_BYTES_MAX {
            self.data = Vec::new();
        }
        rest.map(Box::new)
    }

    fn clone_from_kept(&mut self, kept: &Self) {
        let Self {
            has_data,
            has_id,
            data,
            kind,
            id,
            retry_ms,
            bytes,
        } = kept;
        (self.has_data, self.has_id, self.retry_ms, self.bytes) =
            (*has_data, *has_id, *retry_ms, *bytes);
        replace(&mut self.data, data);
        replace(&mut self.kind, kind);
        replace(&mut self.id, id);
    }

    fn clear(&mut self) {
        (self.has_data, self.has_id, self.retry_ms, self.bytes) = (false, false, None, 0);
        self.data.clear();
        self.kind.clear();
        self.id.clear();
    }
}

fn replace(kept: &mut Vec<u8>, value: &[u8]) {
    kept.clear();
    kept.extend_from_slice(value);
}

fn value_digits(number: u64) -> usize {
    number
        .checked_ilog10()
        .map_or(1, |digits| digits as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Said = (String, String, String);

    fn read(chunks: &[&[u8]], reader: &mut EventReader) -> Vec<Said> {
        let (mut scratch, mut said) = (Scratch::default(), Vec::new());
        for chunk in chunks {
            reader
                .push(&mut scratch, chunk, |item| {
                    let Item::Event(event) = item else { return };
                    said.push((
                        event.id_text().into(),
                        event.kind_text().into(),
                        event.data_text().into(),
                    ));
                })
                .expect("within the limit");
        }
        said
    }

    #[test]
    fn streams_are_read_by_the_standard_however_they_are_cut() {
        type Case = (
            &'static [u8],
            &'static [(&'static str, &'static str, &'static str)],
            &'static str,
        );
        let cases: &[Case] = &[
            (b"data: a\n\n", &[("0-0", "message", "a")], "0-0"),
            (
                b"\xEF\xBB\xBFid: 1\nevent: click\ndata: a\n\n",
                &[("1", "click", "a")],
                "1",
            ),
            (
                b"event:click\rdata:a\rdata: b\r\rdata\r\r",
                &[("0-0", "click", "a\nb"), ("0-0", "message", "")],
                "0-0",
            ),
            (
                b"data: a\r\n\r\ndata:  b\r\n\r\n",
                &[("0-0", "message", "a"), ("0-0", "message", " b")],
                "0-0",
            ),
            (
                b"id: 1\n\ndata: a\n\nid\ndata: b\n\n",
                &[("1", "message", "a"), ("", "message", "b")],
                "",
            ),
            (
                b"data: a\xFFb\xE2\x82\ndata: c\n\n",
                &[("0-0", "message", "a\u{fffd}b\u{fffd}\nc")],
                "0-0",
            ),
            (b"id: 1\n\nid: 2\ndata: unfinished\n", &[], "1"),
            (
                b"id: a\0b\nevent: x\nevent:\ndata: a\n\n",
                &[("0-0", "message", "a")],
                "0-0",
            ),
            (
                b"event: x\n\ndata:\ndata:\n\n: c\n\n",
                &[("0-0", "message", "\n")],
                "0-0",
            ),
        ];
        for (bytes, expected, last_event_id) in cases {
            for size in [1, 2, 3, 7, bytes.len()] {
                let mut reader = EventReader::new(1 << 20).after("0-0");
                let said = read(&bytes.chunks(size).collect::<Vec<_>>(), &mut reader);
                let said: Vec<_> = said
                    .iter()
                    .map(|(id, kind, data)| (&**id, &**kind, &**data))
                    .collect();
                assert_eq!(
                    said,
                    *expected,
                    "{:?} by {size}",
                    bytes.escape_ascii().to_string()
                );
                assert_eq!(
                    reader.last_event_id(),
                    *last_event_id,
                    "{:?}",
                    bytes.escape_ascii().to_string()
                );
            }
        }
    }

    #[test]
    fn readers_that_share_a_scratch_keep_their_blocks_apart() {
        let mut scratch = Scratch::default();
        let (mut one, mut other) = (EventReader::new(1 << 20), EventReader::new(1 << 20));
        let large = "x".repeat(3 * COPIED_BYTES_MAX);
        let mut said = Vec::new();
        let mut push = |reader: &mut EventReader, bytes: &str| {
            let take = |item: Item<'_>| {
                if let Item::Event(event) = item {
                    said.push(format!(
                        "{} {} {}",
                        event.id_text(),
                        event.kind_text(),
                        event.data_text()
                    ));
                }
            };
            reader
                .push(&mut scratch, bytes.as_bytes(), take)
                .expect("small");
        };
        push(&mut one, "id: 1\nevent: a\nda");
        push(&mut other, &format!("id: 2\nevent: b\ndata: {large}\nda"));
        push(&mut one, "ta: x\n");
        push(&mut other, "ta: y\n\n");
        push(&mut one, "\n");
        assert_eq!(said, [format!("2 b {large}\ny"), "1 a x".to_owned()]);
    }

    #[test]
    fn what_is_unfinished_dies_with_its_connection_but_the_id_does_not() {
        let mut reader = EventReader::new(1 << 20);
        assert!(read(&[b"id: 1\nretry: 20\n\nid: 2\ndata: a\nda"], &mut reader).is_empty());
        reader.disconnected();
        assert_eq!(
            (reader.last_event_id().as_ref(), reader.retry_ms()),
            ("1", Some(20))
        );
        assert_eq!(read(&[b"\xEF\xBB\xBFdata: b\n\n"], &mut reader)[0].2, "b");
    }

    #[test]
    fn an_event_beyond_the_limit_is_an_error_after_the_events_before_it() {
        let (mut reader, mut scratch, mut events) = (EventReader::new(20), Scratch::default(), 0);
        let bytes = b": 0123456789\n: 0123456789\ndata: a\n\ndata: 012345678901234567890\n\n";
        let pushed = reader.push(&mut scratch, bytes, |item| {
            events += usize::from(matches!(item, Item::Event(_)))
        });
        assert_eq!((pushed, events), (Err(EventTooLarge { bytes_max: 20 }), 1));
    }

    #[test]
    fn memory_of_a_large_event_is_given_back() {
        let (mut reader, mut scratch) = (EventReader::new(4 << 20), Scratch::default());
        let line = format!("data: {}\n", "x".repeat(100 << 10));
        for _ in 0..20 {
            reader
                .push(&mut scratch, line.as_bytes(), |_| {})
                .expect("within the limit");
        }
        assert_eq!(scratch.0.data.capacity(), 0, "moved to the connection");
        reader
            .push(&mut scratch, b"\n", |_| {})
            .expect("within the limit");
        assert!(reader.unfinished.is_none() && scratch.0.data.capacity() <= SCRATCH_BYTES_MAX);
    }
}
