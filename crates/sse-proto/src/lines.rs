//! Cuts `text/event-stream` bytes into lines, and tells what a line says (WHATWG HTML §9.2.5 and §9.2.6).
//!
//! Lines end with CR, LF or CR LF, wherever the reads split them; one byte order mark at the start is stripped. The work
//! is linear in the bytes, however they are cut, and a line that came in one read is not copied. What is made of the
//! lines is for a [`LineSink`]: [`blocks`](crate::blocks) makes whole blocks, a load tool only counts.

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Takes lines as they end.
pub trait LineSink {
    /// How many bytes the line that comes now may have; with more, the stream cannot be read on.
    fn room(&self) -> usize;

    /// Takes a line without its end. `end` is where the line and its end are over in the bytes that are being pushed
    /// (an LF that follows a CR in the next push belongs to that push).
    fn line(&mut self, line: &[u8], end: usize);
}

/// Takes bytes as they come, gives lines.
#[derive(Debug)]
pub struct LineSplitter {
    /// The line that has not ended yet.
    unfinished: Vec<u8>,
    /// The last byte was CR: an LF right after it belongs to the same line end.
    after_cr: bool,
    /// No line has ended yet, so a byte order mark may stand at the start of this one.
    at_start: bool,
}

/// The line that came was longer than its sink had room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than there is room for")]
pub struct LineTooLong;

impl Default for LineSplitter {
    fn default() -> Self {
        Self {
            unfinished: Vec::new(),
            after_cr: false,
            at_start: true,
        }
    }
}

impl LineSplitter {
    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// [`LineTooLong`]: the stream cannot be read on. The lines before it were given to the sink.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl LineSink) -> Result<(), LineTooLong> {
        let mut start = 0;
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            start = usize::from(bytes[0] == b'\n');
        }
        while let Some(length) = memchr::memchr2(b'\r', b'\n', &bytes[start..]) {
            let (line, mut end) = (&bytes[start..start + length], start + length + 1);
            if bytes[end - 1] == b'\r' {
                match bytes.get(end) {
                    Some(b'\n') => end += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.end_line(line, end, sink)?;
            start = end;
        }
        self.extend(&bytes[start..], sink)
    }

    fn extend(&mut self, bytes: &[u8], sink: &impl LineSink) -> Result<(), LineTooLong> {
        if self.unfinished.len() + bytes.len() > sink.room() {
            return Err(LineTooLong);
        }
        self.unfinished.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(
        &mut self,
        rest: &[u8],
        end: usize,
        sink: &mut impl LineSink,
    ) -> Result<(), LineTooLong> {
        let at_start = std::mem::take(&mut self.at_start);
        let content = |line| if at_start { without_mark(line) } else { line };
        if self.unfinished.is_empty() {
            if rest.len() > sink.room() {
                return Err(LineTooLong);
            }
            sink.line(content(rest), end);
        } else {
            self.extend(rest, sink)?;
            sink.line(content(&self.unfinished), end);
            // Keeps its memory for the next line.
            self.unfinished.clear();
        }
        Ok(())
    }
}

fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
}

/// What a line says. Values are as they came: not yet decoded, without the one space that may stand before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// The blank line that ends a block.
    Blank,
    /// A comment.
    Comment(&'a [u8]),
    /// A line of data.
    Data(&'a [u8]),
    /// The type.
    Event(&'a [u8]),
    /// The last event id; an empty one resets it. It has no NUL.
    Id(&'a [u8]),
    /// The reconnection time in milliseconds; one that is no 64-bit number is the largest that is.
    Retry(u64),
    /// An unknown field, an `id` with NUL, or a `retry` that is not digits.
    Ignored,
}

impl<'a> Field<'a> {
    /// Reads a line without its end.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Self {
        if line.is_empty() {
            return Self::Blank;
        }
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"" => Self::Comment(value),
            b"data" => Self::Data(value),
            b"event" => Self::Event(value),
            b"id" if memchr::memchr(0, value).is_none() => Self::Id(value),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                Self::Retry(number(value))
            }
            _ => Self::Ignored,
        }
    }
}

fn number(digits: &[u8]) -> u64 {
    let add =
        |number: u64, digit: &u8| number.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    digits.iter().try_fold(0, add).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lines {
        room: usize,
        seen: Vec<(Vec<u8>, usize)>,
    }

    impl LineSink for Lines {
        fn room(&self) -> usize {
            self.room
        }

        fn line(&mut self, line: &[u8], end: usize) {
            self.seen.push((line.to_vec(), end));
        }
    }

    fn lines(pushes: &[&str]) -> Vec<(String, usize)> {
        let (mut splitter, mut sink) = (
            LineSplitter::default(),
            Lines {
                room: 100,
                seen: Vec::new(),
            },
        );
        for bytes in pushes {
            splitter.push(bytes.as_bytes(), &mut sink).unwrap();
        }
        sink.seen
            .into_iter()
            .map(|(line, end)| (String::from_utf8(line).unwrap(), end))
            .collect()
    }

    #[test]
    fn a_line_says_where_it_is_over() {
        let seen = |pushes| {
            lines(pushes)
                .iter()
                .map(|(line, end)| format!("{line} {end}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(seen(&["a\nb\r\nc\rd"]), ["a 2", "b 5", "c 7"]);
        assert_eq!(seen(&["a\r", "\nb\n"]), ["a 2", "b 3"]);
        assert_eq!(seen(&["a", "b", "\r", "\r", "\n"]), ["ab 1", " 1"]);
        assert_eq!(seen(&["a\r", "", "\n", "\n"]), ["a 2", " 1"]);
    }

    #[test]
    fn a_line_has_only_so_much_room_whether_it_comes_at_once_or_not() {
        for pushes in [
            &["abcde\n"][..],
            &["abc", "de\n"],
            &["abcde"],
            &["abcd", "e"],
        ] {
            let (mut splitter, mut sink) = (
                LineSplitter::default(),
                Lines {
                    room: 4,
                    seen: Vec::new(),
                },
            );
            let mut pushed = Ok(());
            for bytes in pushes {
                pushed = pushed.and_then(|()| splitter.push(bytes.as_bytes(), &mut sink));
            }
            assert_eq!(pushed, Err(LineTooLong), "{pushes:?}");
        }
        assert_eq!(lines(&[&("x".repeat(100) + "\n")]).len(), 1);
    }

    #[test]
    fn fields_are_told_by_their_names() {
        for (line, field) in [
            ("", Field::Blank),
            (":", Field::Comment(b"")),
            (": a", Field::Comment(b"a")),
            (":a:b", Field::Comment(b"a:b")),
            ("data", Field::Data(b"")),
            ("data:", Field::Data(b"")),
            ("data:  a: b", Field::Data(b" a: b")),
            ("event:x", Field::Event(b"x")),
            ("id", Field::Id(b"")),
            ("id:1-0", Field::Id(b"1-0")),
            ("id: a\0b", Field::Ignored),
            ("retry: 0010", Field::Retry(10)),
            ("retry: 99999999999999999999", Field::Retry(u64::MAX)),
            ("retry", Field::Ignored),
            ("retry: +5", Field::Ignored),
            ("retry: 5 ", Field::Ignored),
            ("Data: a", Field::Ignored),
            (" data: a", Field::Ignored),
            ("data : a", Field::Ignored),
        ] {
            assert_eq!(Field::of(line.as_bytes()), field, "{line:?}");
        }
    }
}
