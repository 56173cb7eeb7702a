//! The body of a response, decoded as it arrives: in chunks (RFC 9112 §7.1), of a known length, or
//! until the connection ends.
//!
//! The decoder keeps only its position in the body, wherever the reads split it:
//!
//! ```text
//! 1A;ext CRLF <26 bytes> CRLF 0 CRLF Name: value CRLF CRLF
//! Size Extension  Data   DataCr …    Trailer          Ended
//! ```

/// Limit of hexadecimal digits in the size of a chunk.
const SIZE_DIGITS_MAX: u8 = 15;
/// Limit of bytes in an extension, and in the trailers.
const SKIPPED_BYTES_MAX: u16 = 16 << 10;

/// The position in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyDecoder {
    /// `Transfer-Encoding: chunked`.
    Chunked(ChunkedState),
    /// `Content-Length`: this many bytes are still to come.
    Length(u64),
    /// The body ends with the connection.
    UntilClose,
}

/// The position in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkedState {
    /// In the size of a chunk.
    Size { size: u64, digits: u8 },
    /// After the size, before the end of its line.
    Extension { size: u64, skipped: u16 },
    /// In the data, with this many bytes still to come.
    Data { rest: u64 },
    /// At the CR after the data.
    DataCr,
    /// At the LF after the data.
    DataLf,
    /// In the trailers.
    Trailer { skipped: u16, line_is_empty: bool },
    /// After the last trailer.
    Ended,
}

/// The next part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyPart<'a> {
    /// Some of the body's data, and the bytes after that data.
    Data(&'a [u8], &'a [u8]),
    /// All bytes are consumed, and the body continues.
    NeedsMore,
    /// The body has ended.
    Ended,
}

/// The bytes are not a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not chunked as HTTP requires")]
pub(crate) struct NotChunked;

impl BodyDecoder {
    /// At the start of a chunked body.
    pub(crate) const CHUNKED: Self = Self::Chunked(ChunkedState::START);

    /// Splits the next part of the body off `bytes`.
    ///
    /// # Errors
    /// [`NotChunked`]: the rest of the connection is unreadable.
    pub(crate) fn next_part<'a>(&mut self, bytes: &'a [u8]) -> Result<BodyPart<'a>, NotChunked> {
        match self {
            Self::Chunked(chunked) => chunked.next_part(bytes),
            Self::Length(0) => Ok(BodyPart::Ended),
            Self::Length(_) | Self::UntilClose if bytes.is_empty() => Ok(BodyPart::NeedsMore),
            Self::Length(rest) => Ok(split_data(bytes, rest)),
            Self::UntilClose => Ok(BodyPart::Data(bytes, &[])),
        }
    }

    /// Returns `true` if the body is complete when the connection ends here.
    pub(crate) const fn may_end(&self) -> bool {
        matches!(
            self,
            Self::UntilClose | Self::Length(0) | Self::Chunked(ChunkedState::Ended)
        )
    }
}

/// Splits off the data of which `rest` bytes are still to come.
fn split_data<'a>(bytes: &'a [u8], rest: &mut u64) -> BodyPart<'a> {
    let available = usize::try_from(*rest)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *rest -= available as u64;
    let (data, left) = bytes.split_at(available);
    BodyPart::Data(data, left)
}

impl ChunkedState {
    const START: Self = Self::Size { size: 0, digits: 0 };

    fn next_part<'a>(&mut self, mut bytes: &'a [u8]) -> Result<BodyPart<'a>, NotChunked> {
        loop {
            if let Self::Data { rest } = self
                && !bytes.is_empty()
            {
                let part = split_data(bytes, rest);
                if *rest == 0 {
                    *self = Self::DataCr;
                }
                return Ok(part);
            }
            if *self == Self::Ended {
                return Ok(BodyPart::Ended);
            }
            let [byte, left @ ..] = bytes else {
                return Ok(BodyPart::NeedsMore);
            };
            *self = self.after_byte(*byte)?;
            bytes = left;
        }
    }

    /// The state after a byte that is not data. A line may end with LF alone.
    fn after_byte(self, byte: u8) -> Result<Self, NotChunked> {
        match self {
            Self::Size { size, digits } => Self::after_size_byte(size, digits, byte),
            Self::Extension { size, .. } if byte == b'\n' => Ok(Self::after_size_line(size)),
            Self::Extension { size, skipped } if skipped < SKIPPED_BYTES_MAX => {
                Ok(Self::Extension {
                    size,
                    skipped: skipped + 1,
                })
            }
            Self::DataCr if byte == b'\r' => Ok(Self::DataLf),
            Self::DataCr | Self::DataLf if byte == b'\n' => Ok(Self::START),
            Self::Trailer {
                skipped,
                line_is_empty,
            } => Self::after_trailer_byte(skipped, line_is_empty, byte),
            _ => Err(NotChunked),
        }
    }

    fn after_size_byte(size: u64, digits: u8, byte: u8) -> Result<Self, NotChunked> {
        match byte {
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' if digits < SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Ok(Self::Size {
                    size: size << 4 | digit,
                    digits: digits + 1,
                })
            }
            b'\r' | b';' | b' ' | b'\t' if digits > 0 => Ok(Self::Extension { size, skipped: 0 }),
            b'\n' if digits > 0 => Ok(Self::after_size_line(size)),
            _ => Err(NotChunked),
        }
    }

    const fn after_size_line(size: u64) -> Self {
        if size == 0 {
            Self::Trailer {
                skipped: 0,
                line_is_empty: true,
            }
        } else {
            Self::Data { rest: size }
        }
    }

    fn after_trailer_byte(skipped: u16, line_is_empty: bool, byte: u8) -> Result<Self, NotChunked> {
        match byte {
            b'\n' if line_is_empty => Ok(Self::Ended),
            _ if skipped < SKIPPED_BYTES_MAX => Ok(Self::Trailer {
                skipped: skipped + 1,
                line_is_empty: byte == b'\n' || (byte == b'\r' && line_is_empty),
            }),
            _ => Err(NotChunked),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data of these reads, and whether the body has ended.
    fn read<'a>(
        mut body: BodyDecoder,
        pushes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, bool), NotChunked> {
        let mut data = Vec::new();
        for mut bytes in pushes {
            loop {
                match body.next_part(bytes)? {
                    BodyPart::Data(here, left) => {
                        data.extend_from_slice(here);
                        bytes = left;
                    }
                    BodyPart::NeedsMore => break,
                    BodyPart::Ended => return Ok((data, true)),
                }
            }
        }
        Ok((data, false))
    }

    fn read_split_everywhere(
        body: BodyDecoder,
        bytes: &[u8],
    ) -> Result<(Vec<u8>, bool), NotChunked> {
        let whole = read(body, [bytes]);
        for size in [1, 2, 3, 5] {
            assert_eq!(
                read(body, bytes.chunks(size)),
                whole,
                "{:?} by {size}",
                bytes.escape_ascii().to_string()
            );
        }
        whole
    }

    #[test]
    fn chunks_are_joined_and_end_with_their_trailers() {
        for (bytes, data, ended) in [
            (
                &b"3\r\nabc\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n"[..],
                "abcabcdefghijklmnopqrstuvwxyz",
                false,
            ),
            (b"1;a=\"b\"\r\nx\r\n0\r\n\r\nrest", "x", true),
            (b"00002\nab\n0\n\n", "ab", true),
            (b"2 \r\nab\r\n0\r\nA: b\r\nC: d\r\n\r\n", "ab", true),
            (b"0\r\n", "", false),
            (b"0\r\nA: b\r\n", "", false),
            (b"5\r\nab", "ab", false),
        ] {
            assert_eq!(
                read_split_everywhere(BodyDecoder::CHUNKED, bytes),
                Ok((data.as_bytes().to_vec(), ended)),
                "{data:?}"
            );
        }
    }

    #[test]
    fn other_bytes_are_an_error() {
        let long = [b"1;".as_slice(), &vec![b'x'; 20 << 10]].concat();
        let trailers = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(4000)].concat();
        for bad in [
            &b"\r\n"[..],
            b"x",
            b"-1\r\n",
            b"1\r\nabc",
            b"1234567890123456\r\n",
            b"data: a\n\n",
            &long,
            &trailers,
        ] {
            assert_eq!(
                read_split_everywhere(BodyDecoder::CHUNKED, bad),
                Err(NotChunked),
                "{:?}",
                bad.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn a_body_ends_after_its_length_or_with_the_connection() {
        assert_eq!(
            read_split_everywhere(BodyDecoder::Length(3), b"abcd"),
            Ok((b"abc".to_vec(), true))
        );
        assert_eq!(
            read_split_everywhere(BodyDecoder::Length(5), b"abcd"),
            Ok((b"abcd".to_vec(), false))
        );
        assert_eq!(
            read(BodyDecoder::Length(0), [b"".as_slice()]),
            Ok((vec![], true))
        );
        assert_eq!(
            read_split_everywhere(BodyDecoder::UntilClose, b"abcd"),
            Ok((b"abcd".to_vec(), false))
        );
        assert!(
            BodyDecoder::UntilClose.may_end()
                && !BodyDecoder::Length(1).may_end()
                && !BodyDecoder::CHUNKED.may_end()
        );
    }

    proptest! {
        #[test]
        fn chunks_are_read_wherever_they_are_split(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cuts in prop::collection::vec(1_usize..20, 1..50),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
            }
            wire.extend(b"0\r\n\r\n");
            let (mut rest, mut pushes) = (wire.as_slice(), Vec::new());
            for cut in cuts.iter().cycle() {
                let (push, left) = rest.split_at((*cut).min(rest.len()));
                pushes.push(push);
                rest = left;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(read(BodyDecoder::CHUNKED, pushes), Ok((chunks.concat(), true)));
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(BodyDecoder::CHUNKED, [bytes.as_slice()]);
        }
    }
}
