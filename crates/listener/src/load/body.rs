//! The body of a response as it comes: in chunks (RFC 9112 §7.1), of a known length, or until the connection ends.
//!
//! Incremental and bounded: nothing is kept but a position, wherever the reads split it.

/// Hexadecimal digits that the size of a chunk may have.
const SIZE_DIGITS_MAX: u8 = 15;
/// Bytes of extensions and trailers that are put up with, each at one place.
const SKIPPED_BYTES_MAX: u16 = 16 << 10;

/// Where in a body we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// In chunks.
    Chunked(Chunked),
    /// So many bytes are still to come.
    Length(u64),
    /// Whatever comes belongs to it.
    UntilClose,
}

/// Where in a chunked body we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// In the size; so many digits have been read.
    Size { size: u64, digits: u8 },
    /// After the size, up to the end of its line.
    Extension { size: u64, skipped: u16 },
    /// In the data.
    Data { rest: u64 },
    /// At the CR after the data.
    DataCr,
    /// At the LF after that.
    DataLf,
    /// In the trailers; the line so far is empty or not.
    Trailer { skipped: u16, line_is_empty: bool },
    /// Over.
    Ended,
}

/// The next part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Some of its data; what is left follows.
    Data(&'a [u8], &'a [u8]),
    /// All bytes are used up, and more are to come.
    More,
    /// It has ended.
    Ended,
}

/// What came is not a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not chunked as HTTP says")]
pub(crate) struct NotChunked;

impl Body {
    /// At the start of a chunked body.
    pub(crate) const CHUNKED: Self = Self::Chunked(Chunked::START);

    /// Takes the next part off the bytes that came.
    ///
    /// # Errors
    /// [`NotChunked`]: nothing after it can be made sense of.
    pub(crate) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Part<'a>, NotChunked> {
        match self {
            Self::Chunked(chunked) => chunked.next(bytes),
            Self::Length(0) => Ok(Part::Ended),
            Self::Length(_) | Self::UntilClose if bytes.is_empty() => Ok(Part::More),
            Self::Length(rest) => Ok(split(bytes, rest)),
            Self::UntilClose => Ok(Part::Data(bytes, &[])),
        }
    }

    /// The connection may end here.
    pub(crate) const fn may_end(&self) -> bool {
        matches!(
            self,
            Self::UntilClose | Self::Length(0) | Self::Chunked(Chunked::Ended)
        )
    }
}

fn split<'a>(bytes: &'a [u8], rest: &mut u64) -> Part<'a> {
    let here = usize::try_from(*rest)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *rest -= here as u64;
    let (data, left) = bytes.split_at(here);
    Part::Data(data, left)
}

impl Chunked {
    const START: Self = Self::Size { size: 0, digits: 0 };

    fn next<'a>(&mut self, mut bytes: &'a [u8]) -> Result<Part<'a>, NotChunked> {
        loop {
            if let Self::Data { rest } = self
                && !bytes.is_empty()
            {
                let part = split(bytes, rest);
                if *rest == 0 {
                    *self = Self::DataCr;
                }
                return Ok(part);
            }
            if *self == Self::Ended {
                return Ok(Part::Ended);
            }
            let [byte, left @ ..] = bytes else {
                return Ok(Part::More);
            };
            *self = self.after(*byte)?;
            bytes = left;
        }
    }

    /// After a byte that is not data.
    fn after(self, byte: u8) -> Result<Self, NotChunked> {
        match (self, byte) {
            (Self::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                if digits < SIZE_DIGITS_MAX =>
            {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Ok(Self::Size {
                    size: size << 4 | digit,
                    digits: digits + 1,
                })
            }
            (Self::Size { size, digits: 1.. }, b'\r' | b';' | b' ' | b'\t') => {
                Ok(Self::Extension { size, skipped: 0 })
            }
            (Self::Size { size, digits: 1.. } | Self::Extension { size, .. }, b'\n') => {
                Ok(Self::sized(size))
            }
            (Self::Extension { size, skipped }, _) if skipped < SKIPPED_BYTES_MAX => {
                Ok(Self::Extension {
                    size,
                    skipped: skipped + 1,
                })
            }
            (Self::DataCr, b'\r') => Ok(Self::DataLf),
            (Self::DataCr | Self::DataLf, b'\n') => Ok(Self::START),
            (
                Self::Trailer {
                    line_is_empty: true,
                    ..
                },
                b'\n',
            ) => Ok(Self::Ended),
            (Self::Trailer { skipped, .. }, _) if skipped < SKIPPED_BYTES_MAX => {
                let line_is_empty = byte == b'\n' || (byte == b'\r' && self.at_line_start());
                Ok(Self::Trailer {
                    skipped: skipped + 1,
                    line_is_empty,
                })
            }
            _ => Err(NotChunked),
        }
    }

    const fn sized(size: u64) -> Self {
        if size == 0 {
            Self::Trailer {
                skipped: 0,
                line_is_empty: true,
            }
        } else {
            Self::Data { rest: size }
        }
    }

    const fn at_line_start(self) -> bool {
        matches!(
            self,
            Self::Trailer {
                line_is_empty: true,
                ..
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data, and whether it has ended, of pushes one after the other.
    fn read<'a>(
        mut body: Body,
        pushes: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, bool), NotChunked> {
        let mut data = Vec::new();
        for mut bytes in pushes {
            loop {
                match body.next(bytes)? {
                    Part::Data(here, left) => {
                        data.extend_from_slice(here);
                        bytes = left;
                    }
                    Part::More => break,
                    Part::Ended => return Ok((data, true)),
                }
            }
        }
        Ok((data, false))
    }

    fn in_every_way(body: Body, bytes: &[u8]) -> Result<(Vec<u8>, bool), NotChunked> {
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
                in_every_way(Body::CHUNKED, bytes),
                Ok((data.as_bytes().to_vec(), ended)),
                "{data:?}"
            );
        }
    }

    #[test]
    fn what_is_not_chunked_is_an_error() {
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
                in_every_way(Body::CHUNKED, bad),
                Err(NotChunked),
                "{:?}",
                bad.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn a_length_ends_and_without_one_it_never_does() {
        assert_eq!(
            in_every_way(Body::Length(3), b"abcd"),
            Ok((b"abc".to_vec(), true))
        );
        assert_eq!(
            in_every_way(Body::Length(5), b"abcd"),
            Ok((b"abcd".to_vec(), false))
        );
        assert_eq!(read(Body::Length(0), [b"".as_slice()]), Ok((vec![], true)));
        assert_eq!(
            in_every_way(Body::UntilClose, b"abcd"),
            Ok((b"abcd".to_vec(), false))
        );
        assert!(
            Body::UntilClose.may_end() && !Body::Length(1).may_end() && !Body::CHUNKED.may_end()
        );
    }

    proptest! {
        #[test]
        fn any_chunks_are_read_however_they_are_split(
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
            prop_assert_eq!(read(Body::CHUNKED, pushes), Ok((chunks.concat(), true)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(Body::CHUNKED, [bytes.as_slice()]);
        }
    }
}
