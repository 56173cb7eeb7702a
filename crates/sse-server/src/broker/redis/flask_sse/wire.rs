//! Reads what Redis sends to a subscriber (RESP2), without the client library.
//!
//! The library keeps a message in memory whatever its size, or fails the connection at a limit. A
//! program that publishes large messages could then keep the bridge disconnected. This decoder
//! skips a text that is too large while it arrives.
//!
//! Everything that Redis sends is taken as a flat sequence of texts, numbers and array headers.
//! Only `message` arrays matter, wherever they are: Redis sends confirmations of subscriptions and
//! messages also inside and after the reply to `EXEC`.

use bytes::{Buf as _, Bytes, BytesMut};

/// Longest line: the header of a value, a status, or an error.
const LINE_MAX: usize = 4096;

/// A message of a pub/sub channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PubSubMessage {
    /// Name of the pub/sub channel.
    pub(super) channel: Bytes,
    pub(super) payload: Payload,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Payload {
    /// The text, which may have any bytes.
    Text(Bytes),
    /// The text was larger than the limit, and was skipped.
    TooLarge,
}

/// An element of the array that arrives.
#[derive(Debug)]
enum Element {
    Text(Bytes),
    TooLarge,
    Other,
}

/// What could be read from the buffer.
enum Step {
    Read(Element),
    ArrayBegan,
    Incomplete,
}

/// The state between two reads of the socket.
#[derive(Debug)]
pub(super) struct PubSubDecoder {
    text_max: usize,
    /// Bytes to skip before the next value.
    skip: u64,
    /// The elements of the last array that began, at most three.
    elements: Vec<Element>,
}

impl PubSubDecoder {
    /// Skips texts of more than `text_max` bytes.
    pub(super) const fn new(text_max: usize) -> Self {
        Self {
            text_max,
            skip: 0,
            elements: Vec::new(),
        }
    }

    /// Takes the next message out of `buffer`; returns `None` if it needs more bytes.
    ///
    /// # Errors
    ///
    /// Redis sent an error or something that is not RESP2. The connection must be closed.
    pub(super) fn decode(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Option<PubSubMessage>, String> {
        loop {
            match self.step(buffer)? {
                Step::Incomplete => return Ok(None),
                Step::ArrayBegan => self.elements.clear(),
                Step::Read(element) => {
                    if let Some(message) = self.add(element) {
                        return Ok(Some(message));
                    }
                }
            }
        }
    }

    fn add(&mut self, element: Element) -> Option<PubSubMessage> {
        // No array with more elements matters.
        self.elements.truncate(3);
        self.elements.push(element);
        match self.elements.as_slice() {
            [
                Element::Text(kind),
                Element::Text(_),
                Element::Text(_) | Element::TooLarge,
            ] if kind.as_ref() == b"message" => to_message(std::mem::take(&mut self.elements)),
            _ => None,
        }
    }

    fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, String> {
        self.skip(buffer);
        if self.skip > 0 {
            return Ok(Step::Incomplete);
        }
        let Some(line_end) = find_line_end(buffer)? else {
            return Ok(Step::Incomplete);
        };
        let (kind, line) = split_line(&buffer[..line_end])?;
        match kind {
            b'$' => {
                let length = parse_length(line)?;
                Ok(self.read_text(buffer, line_end + 2, length))
            }
            b'-' => Err(line.to_owned()),
            b'*' | b'>' => {
                buffer.advance(line_end + 2);
                Ok(Step::ArrayBegan)
            }
            b'+' | b':' => {
                buffer.advance(line_end + 2);
                Ok(Step::Read(Element::Other))
            }
            _ => Err("Redis sent something that is not its protocol".to_owned()),
        }
    }

    /// Reads a text whose header has `header` bytes; `None` is the text that Redis calls nil.
    fn read_text(&mut self, buffer: &mut BytesMut, header: usize, length: Option<usize>) -> Step {
        let Some(length) = length else {
            buffer.advance(header);
            return Step::Read(Element::Other);
        };
        if length > self.text_max {
            buffer.advance(header);
            self.skip = (length as u64).saturating_add(2);
            self.skip(buffer);
            return Step::Read(Element::TooLarge);
        }
        let end = header + length;
        if buffer.len() < end + 2 {
            buffer.reserve(end + 2 - buffer.len());
            return Step::Incomplete;
        }
        // A copy, because a part of the buffer would keep all of the buffer in memory.
        let text = Bytes::copy_from_slice(&buffer[header..end]);
        buffer.advance(end + 2);
        Step::Read(Element::Text(text))
    }

    fn skip(&mut self, buffer: &mut BytesMut) {
        let now = usize::try_from(self.skip).map_or(buffer.len(), |skip| skip.min(buffer.len()));
        buffer.advance(now);
        self.skip -= now as u64;
    }
}

fn to_message(elements: Vec<Element>) -> Option<PubSubMessage> {
    let [_, channel, payload]: [Element; 3] = elements.try_into().ok()?;
    let Element::Text(channel) = channel else {
        return None;
    };
    let payload = match payload {
        Element::Text(text) => Payload::Text(text),
        Element::TooLarge => Payload::TooLarge,
        Element::Other => return None,
    };
    Some(PubSubMessage { channel, payload })
}

fn find_line_end(buffer: &[u8]) -> Result<Option<usize>, String> {
    let searched = &buffer[..buffer.len().min(LINE_MAX)];
    match memchr::memmem::find(searched, b"\r\n") {
        None if searched.len() == LINE_MAX => Err("Redis sent a line without an end".to_owned()),
        end => Ok(end),
    }
}

fn split_line(line: &[u8]) -> Result<(u8, &str), String> {
    let (kind, rest) = line.split_first().ok_or("Redis sent an empty line")?;
    let rest = std::str::from_utf8(rest).map_err(|_| "Redis sent a line that is not text")?;
    Ok((*kind, rest))
}

/// Parses the length of a text; `None` is `-1`.
fn parse_length(text: &str) -> Result<Option<usize>, String> {
    if text == "-1" {
        return Ok(None);
    }
    let length = text
        .parse()
        .map_err(|_| "Redis sent a length that is not a number")?;
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_all(decoder: &mut PubSubDecoder, buffer: &mut BytesMut) -> Vec<(String, Payload)> {
        let mut messages = Vec::new();
        while let Some(message) = decoder.decode(buffer).unwrap() {
            let channel = String::from_utf8(message.channel.to_vec()).unwrap();
            messages.push((channel, message.payload));
        }
        messages
    }

    fn text(text: &str) -> Payload {
        Payload::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// What Redis 7.0 sends after a transaction that subscribes and publishes.
    const JOINED: &str = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*3\r\n$9\r\nsubscribe\r\n$3\r\nsse\r\n\
        :1\r\n*3\r\n$9\r\nsubscribe\r\n$4\r\nmark\r\n:2\r\n*3\r\n$7\r\nmessage\r\n$4\r\nmark\r\n\
        $1\r\nX\r\n:1\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n*3\r\n$7\r\nmessage\r\n$3\r\nsse\r\n\
        $7\r\nmessage\r\n*3\r\n$7\r\nmessage\r\n$3\r\nsse\r\n$2\r\n\r\n\r\n";

    #[test]
    fn messages_are_found_wherever_they_are_and_however_the_bytes_arrive() {
        let expected = [
            ("mark".to_owned(), text("X")),
            ("sse".to_owned(), text("message")),
            ("sse".to_owned(), text("\r\n")),
        ];
        for size in [1, 2, 7, 4096] {
            let mut decoder = PubSubDecoder::new(100);
            let mut buffer = BytesMut::new();
            let mut messages = Vec::new();
            for part in JOINED.as_bytes().chunks(size) {
                buffer.extend_from_slice(part);
                messages.extend(decode_all(&mut decoder, &mut buffer));
            }
            assert_eq!(messages, expected, "{size}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_text_that_is_too_large_is_skipped_while_it_arrives() {
        let mut decoder = PubSubDecoder::new(10);
        let mut buffer = BytesMut::from("*3\r\n$7\r\nmessage\r\n$3\r\nsse\r\n$1000\r\n");
        assert_eq!(
            decode_all(&mut decoder, &mut buffer),
            [("sse".to_owned(), Payload::TooLarge)]
        );
        for _ in 0..1000 {
            buffer.extend_from_slice(b"$");
            assert!(decode_all(&mut decoder, &mut buffer).is_empty() && buffer.is_empty());
        }
        buffer.extend_from_slice(b"\r\n*3\r\n$7\r\nmessage\r\n$3\r\nsse\r\n$1\r\na\r\n");
        assert_eq!(
            decode_all(&mut decoder, &mut buffer),
            [("sse".to_owned(), text("a"))]
        );
    }

    #[test]
    fn a_text_of_any_length_is_skipped() {
        let header = format!("*3\r\n$7\r\nmessage\r\n$3\r\nsse\r\n${}\r\n", u64::MAX);
        let mut decoder = PubSubDecoder::new(10);
        let mut buffer = BytesMut::from(&*header);
        let found = decode_all(&mut decoder, &mut buffer);
        assert_eq!(found, [("sse".to_owned(), Payload::TooLarge)]);
        buffer.extend_from_slice(b"*3\r\n$7\r\nmessage\r\n$3\r\nsse\r\n$1\r\na\r\n");
        assert!(decode_all(&mut decoder, &mut buffer).is_empty());
    }

    #[test]
    fn what_is_not_the_protocol_ends_the_connection() {
        for bad in [
            "-NOAUTH Authentication required.\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
            "$x\r\n",
            "$-2\r\n",
            "\r\n",
            &"x".repeat(LINE_MAX),
        ] {
            let mut buffer = BytesMut::from(bad);
            assert!(PubSubDecoder::new(10).decode(&mut buffer).is_err(), "{bad}");
        }
    }
}
