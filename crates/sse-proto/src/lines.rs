//! Splits `text/event-stream` bytes into lines, and parses a line (WHATWG HTML §9.2.5 and §9.2.6).
//!
//! A line ends with CR, LF or CR LF, also if a read ends between CR and LF. One byte order mark at
//! the start of the stream is removed. The work is linear in the number of bytes for any sizes of
//! the reads, and a line that arrives in one read is not copied.
//!
//! A [`LineSink`] processes the lines. [`blocks`](crate::blocks) assembles blocks; a load test only
//! counts events.

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Receiver of the lines of a [`LineSplitter`].
pub trait LineSink {
    /// Returns the maximum length of the current line, in bytes. A longer line is an error.
    fn room(&self) -> usize;

    /// Processes a line without its line end.
    ///
    /// `end` is the end of the line, with its line end, in the bytes of the current push. If a push
    /// ends between CR and LF, the LF belongs to the next push.
    fn line(&mut self, line: &[u8], end: usize);
}

/// Splits the bytes of a stream into lines, for any sizes of the reads.
#[derive(Debug)]
pub struct LineSplitter {
    /// Start of the line that has not ended yet.
    unfinished: Vec<u8>,
    /// Whether the last byte was CR. An LF after it belongs to the same line end.
    after_cr: bool,
    /// Whether the current line is the first, which may start with a byte order mark.
    at_start: bool,
}

/// A line is longer than [`LineSink::room`].
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
    /// Passes the lines in the next bytes of the stream to `sink`.
    ///
    /// # Errors
    ///
    /// [`LineTooLong`]: a line exceeds the limit, and the rest of the stream cannot be read. The
    /// sink has received the lines before it.
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
        self.keep_unfinished(&bytes[start..], sink)
    }

    fn keep_unfinished(&mut self, bytes: &[u8], sink: &impl LineSink) -> Result<(), LineTooLong> {
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
            self.keep_unfinished(rest, sink)?;
            sink.line(content(&self.unfinished), end);
            // Clear the buffer instead of dropping it, so that the next line reuses its memory.
            self.unfinished.clear();
        }
        Ok(())
    }
}

fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
}

/// A parsed line. Values are the raw bytes, without the optional space after the colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// The blank line that ends a block.
    Blank,
    /// A comment.
    Comment(&'a [u8]),
    /// One line of the event data.
    Data(&'a [u8]),
    /// The event type.
    Event(&'a [u8]),
    /// The last event id, without NUL. An empty value resets the last event id.
    Id(&'a [u8]),
    /// The reconnection time in milliseconds; `u64::MAX` if the number is greater.
    Retry(u64),
    /// An unknown field, an `id` with NUL, or a `retry` with other characters than digits.
    Ignored,
}

impl<'a> Field<'a> {
    /// Parses a line without its line end.
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
                Self::Retry(parse_digits(value))
            }
            _ => Self::Ignored,
        }
    }
}

/// Parses decimal digits; returns `u64::MAX` if the number is greater.
fn parse_digits(digits: &[u8]) -> u64 {
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
    fn a_line_is_passed_on_with_its_end() {
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
    fn a_line_above_the_limit_is_an_error_for_any_sizes_of_the_reads() {
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
    fn fields_are_recognised_by_their_names() {
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
