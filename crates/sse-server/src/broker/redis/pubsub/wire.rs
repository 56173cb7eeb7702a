//! Reads what Redis sends to a subscriber (RESP2), without the client library.
//!
//! The library counts each confirmation as the reply to a command. In a Redis Cluster, the end of a
//! subscription also comes by itself, and all later replies would be those to other commands. Here a
//! confirmation belongs to the channel that it names.

use bytes::{Buf as _, Bytes, BytesMut};
use redis::{ServerError, Value, parse_redis_value};

/// A frame that is longer than this number of bytes ends the connection. Notifications are empty.
const FRAME_MAX: usize = 64 << 10;
/// Elements of an array. The longest that matters has three.
const ELEMENTS_MAX: usize = 8;

/// What Redis sent.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// Texts and numbers; what is nil is empty.
    Array(Vec<Bytes>),
    Error(ServerError),
    Status(String),
}

/// Takes the next frame out of `buffer`; returns `None` if it needs more bytes.
///
/// # Errors
///
/// In words: Redis sent something that no subscriber gets. The connection must be closed.
pub(super) fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, String> {
    let mut reader = Reader {
        bytes: buffer,
        position: 0,
    };
    let frame = reader.frame()?;
    let position = reader.position;
    match frame {
        Some(frame) => {
            buffer.advance(position);
            Ok(Some(frame))
        }
        None if buffer.len() > FRAME_MAX => {
            Err("Redis sent a message that is too large".to_owned())
        }
        None => Ok(None),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn frame(&mut self) -> Result<Option<Frame>, String> {
        let Some(line) = self.line() else {
            return Ok(None);
        };
        let (kind, rest) = split(line)?;
        match kind {
            b'*' | b'>' => self.array(rest),
            b'-' => Ok(Some(Frame::Error(parse_error(line)?))),
            b'+' | b':' => Ok(Some(Frame::Status(rest.to_owned()))),
            _ => Err(unexpected()),
        }
    }

    fn array(&mut self, length: &str) -> Result<Option<Frame>, String> {
        let length: usize = length.parse().map_err(|_| unexpected())?;
        if length > ELEMENTS_MAX {
            return Err(unexpected());
        }
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            let Some(line) = self.line() else {
                return Ok(None);
            };
            let (kind, rest) = split(line)?;
            match (kind, rest) {
                (b'$', "-1") => items.push(Bytes::new()),
                (b'$', length) => {
                    let length = length.parse().map_err(|_| unexpected())?;
                    let Some(text) = self.text(length) else {
                        return Ok(None);
                    };
                    items.push(Bytes::copy_from_slice(text));
                }
                (b':' | b'+', text) => items.push(Bytes::copy_from_slice(text.as_bytes())),
                _ => return Err(unexpected()),
            }
        }
        Ok(Some(Frame::Array(items)))
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.position..)?;
        let length = memchr::memmem::find(rest, b"\r\n")?;
        self.position += length + 2;
        rest.get(..length)
    }

    fn text(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.position.checked_add(length)?;
        let text = self.bytes.get(self.position..end)?;
        // The line end after the text.
        self.bytes.get(end..end + 2)?;
        self.position = end + 2;
        Some(text)
    }
}

fn split(line: &[u8]) -> Result<(u8, &str), String> {
    let (kind, rest) = line.split_first().ok_or_else(unexpected)?;
    let rest = std::str::from_utf8(rest).map_err(|_| unexpected())?;
    Ok((*kind, rest))
}

fn parse_error(line: &[u8]) -> Result<ServerError, String> {
    let reply = [line, b"\r\n"].concat();
    match parse_redis_value(&reply) {
        Ok(Value::ServerError(error)) => Ok(error),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> String {
    "Redis sent something that no subscriber gets".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "+OK\r\n+PONG\r\n*3\r\n$10\r\nssubscribe\r\n$5\r\nsse:a\r\n:1\r\n\
        *3\r\n$8\r\nsmessage\r\n$5\r\nsse:a\r\n$0\r\n\r\n*3\r\n$12\r\nsunsubscribe\r\n\
        $5\r\nsse:a\r\n:0\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n*1\r\n$-1\r\n";

    fn array(items: &[&'static str]) -> Frame {
        Frame::Array(items.iter().map(|item| Bytes::from(*item)).collect())
    }

    #[test]
    fn frames_are_found_however_the_bytes_arrive() {
        let status = |text: &str| Frame::Status(text.to_owned());
        for size in [1, 3, 4096] {
            let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
            for part in SENT.as_bytes().chunks(size) {
                buffer.extend_from_slice(part);
                while let Some(frame) = decode(&mut buffer).unwrap() {
                    frames.push(frame);
                }
            }
            let expected = [
                status("OK"),
                status("PONG"),
                array(&["ssubscribe", "sse:a", "1"]),
                array(&["smessage", "sse:a", ""]),
                array(&["sunsubscribe", "sse:a", "0"]),
                array(&["pong", ""]),
                array(&[""]),
            ];
            assert_eq!(frames, expected);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn an_error_has_its_code() {
        let mut buffer = BytesMut::from("-MOVED 3 10.0.0.1:7\r\n");
        match decode(&mut buffer).unwrap().unwrap() {
            Frame::Error(error) => assert_eq!(error.code(), "MOVED"),
            frame => panic!("{frame:?}"),
        }
    }

    #[test]
    fn what_no_subscriber_gets_ends_the_connection() {
        for bad in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            "$1\r\n",
            "*9\r\n",
            "*-1\r\n",
            "*1\r\n*1\r\n",
            "*1\r\n$x\r\n",
            &format!("*3\r\n$99999999\r\n{}", "x".repeat(FRAME_MAX)),
        ] {
            let mut buffer = BytesMut::from(bad);
            assert!(decode(&mut buffer).is_err(), "{bad:.30}");
        }
    }
}
