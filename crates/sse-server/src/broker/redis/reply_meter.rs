//! Counts what each reply of Redis costs, while it arrives.
//!
//! The meter follows the structure of the replies:
//!
//! ```text
//! *2\r\n  $3\r\n abc\r\n  $900000000\r\n     the announced length exceeds the limit: fail
//! *2\r\n  $3\r\n abc\r\n  $2\r\n de\r\n      the reply is complete: count from zero
//! ```
//!
//! An element counts as [`ELEMENT_COST`] bytes in addition to its own, because it takes that much
//! memory once it is parsed. Lengths count as soon as they are announced. Everything that the
//! meter cannot follow is an error, so it can never miss the beginning of a reply.

/// What an element of a reply costs in addition to its bytes.
const ELEMENT_COST: u64 = 64;
/// Longest text that is a line, such as the message of an error.
const LINE_MAX: u32 = 64 << 10;
/// Longest first line of a value that announces a length. Redis writes at most 22 bytes.
const LENGTH_LINE_MAX: usize = 32;

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyError {
    #[error("a reply is larger than {0} bytes")]
    TooLarge(u64),
    #[error("a reply is malformed")]
    Malformed,
}

/// Counts what each reply costs, in the protocols RESP2 and RESP3.
#[derive(Debug)]
pub(super) struct ReplyMeter {
    cost_max: u64,
    /// What the present reply has cost so far.
    cost: u64,
    /// Values of the present reply that have not begun.
    values_left: u64,
    expected: Expected,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum Expected {
    /// The first byte of a value.
    Kind,
    /// The rest of a line, of which `length` bytes have arrived. `is_ending` is set after a carriage
    /// return.
    Text { length: u32, is_ending: bool },
    /// The rest of a line that announces a length.
    Length { kind: u8, line: Vec<u8> },
    /// The data of a string and its line end.
    Data { left: u64 },
}

impl ReplyMeter {
    pub(super) const fn new(cost_max: u64) -> Self {
        Self {
            cost_max,
            cost: 0,
            values_left: 1,
            expected: Expected::Kind,
        }
    }

    /// Counts bytes as they arrive.
    pub(super) fn count(&mut self, mut bytes: &[u8]) -> Result<(), ReplyError> {
        while let [first, rest @ ..] = bytes {
            bytes = if let Expected::Data { left } = &mut self.expected {
                let length = usize::try_from(*left).unwrap_or(usize::MAX);
                let (data, rest) = bytes.split_at(length.min(bytes.len()));
                *left -= data.len() as u64;
                if *left == 0 {
                    self.end_value();
                }
                rest
            } else {
                self.count_byte(*first)?;
                rest
            };
        }
        Ok(())
    }

    /// Counts a byte that is not data.
    fn count_byte(&mut self, byte: u8) -> Result<(), ReplyError> {
        self.add_cost(1)?;
        match &mut self.expected {
            Expected::Kind => self.begin_value(byte)?,
            Expected::Text { length, .. } if *length >= LINE_MAX => {
                return Err(ReplyError::TooLarge(LINE_MAX.into()));
            }
            Expected::Text {
                is_ending: true, ..
            } if byte == b'\n' => self.end_value(),
            Expected::Text { length, is_ending } => {
                *length += 1;
                *is_ending = byte == b'\r';
            }
            Expected::Length { line, .. } if line.len() >= LENGTH_LINE_MAX => {
                return Err(ReplyError::Malformed);
            }
            Expected::Length { kind, line } => {
                line.push(byte);
                if let [number @ .., b'\r', b'\n'] = &line[..] {
                    let (kind, length) = (*kind, parse_length(number)?);
                    self.begin_content(kind, length)?;
                }
            }
            // `count` handles data.
            Expected::Data { .. } => {}
        }
        Ok(())
    }

    fn begin_value(&mut self, kind: u8) -> Result<(), ReplyError> {
        self.values_left -= 1;
        self.expected = match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Expected::Text {
                length: 0,
                is_ending: false,
            },
            b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => Expected::Length {
                kind,
                line: Vec::new(),
            },
            _ => return Err(ReplyError::Malformed),
        };
        Ok(())
    }

    /// Begins the content of a value with the announced length; `None` is a null.
    fn begin_content(&mut self, kind: u8, length: Option<u64>) -> Result<(), ReplyError> {
        let length = match (kind, length) {
            (_, Some(length)) => length,
            (b'$' | b'*' | b'~', None) => {
                self.end_value();
                return Ok(());
            }
            (_, None) => return Err(ReplyError::Malformed),
        };
        match kind {
            b'$' | b'=' | b'!' => {
                let left = length.saturating_add(2);
                self.add_cost(left)?;
                self.expected = Expected::Data { left };
            }
            b'%' => self.begin_elements(length.saturating_mul(2))?,
            // The value to which the attributes belong follows them.
            b'|' => self.begin_elements(length.saturating_mul(2).saturating_add(1))?,
            _ => self.begin_elements(length)?,
        }
        Ok(())
    }

    fn begin_elements(&mut self, count: u64) -> Result<(), ReplyError> {
        self.add_cost(count.saturating_mul(ELEMENT_COST))?;
        self.values_left = self.values_left.saturating_add(count);
        self.end_value();
        Ok(())
    }

    /// Expects the next value, of the next reply if this one is complete.
    fn end_value(&mut self) {
        self.expected = Expected::Kind;
        if self.values_left == 0 {
            self.values_left = 1;
            self.cost = 0;
        }
    }

    const fn add_cost(&mut self, cost: u64) -> Result<(), ReplyError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.cost_max {
            return Err(ReplyError::TooLarge(self.cost_max));
        }
        Ok(())
    }
}

/// Parses a length; returns `None` if it is negative.
fn parse_length(number: &[u8]) -> Result<Option<u64>, ReplyError> {
    let number: Option<i64> = str::from_utf8(number)
        .ok()
        .and_then(|number| number.parse().ok());
    let number = number.ok_or(ReplyError::Malformed)?;
    Ok(u64::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = 1000;

    /// Counts `bytes` in pieces of this size.
    fn count(meter: &mut ReplyMeter, bytes: &[u8], piece: usize) -> Result<(), ReplyError> {
        bytes.chunks(piece).try_for_each(|piece| meter.count(piece))
    }

    #[test]
    fn each_complete_reply_counts_from_zero_however_it_is_cut() {
        let replies = [
            "+OK\r\n",
            "-ERR a\rb\nc\r\n",
            ":1\r\n",
            "$5\r\na\r\nbc\r\n",
            "$0\r\n\r\n",
            "$-1\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
            "%1\r\n+a\r\n*1\r\n:1\r\n",
            "|1\r\n+a\r\n:1\r\n$1\r\nb\r\n",
            ">2\r\n+a\r\n~1\r\n#t\r\n",
            "=5\r\ntxt:a\r\n",
            "!5\r\nERR a\r\n",
            "_\r\n",
            ",1.5\r\n",
            "(1234\r\n",
        ];
        for piece in [1, 2, 3, 7, 1000] {
            let mut meter = ReplyMeter::new(MAX);
            for _ in 0..100 {
                for reply in replies {
                    assert_eq!(count(&mut meter, reply.as_bytes(), piece), Ok(()));
                    assert_eq!((meter.cost, meter.values_left), (0, 1), "{reply:?}");
                }
            }
        }
    }

    #[test]
    fn a_reply_beyond_the_limit_fails_as_soon_as_its_length_is_known() {
        let endless_line = format!("+{}", "a".repeat(1000));
        let endless_list = format!("*15\r\n{}", "*15\r\n".repeat(2));
        for reply in [
            "$999\r\n",
            "*1\r\n$950\r\n",
            "*16\r\n",
            "%8\r\n",
            "|8\r\n",
            "*9223372036854775807\r\n",
            "$9223372036854775807\r\n",
            &endless_line,
            &endless_list,
        ] {
            let mut meter = ReplyMeter::new(MAX);
            let result = meter.count(reply.as_bytes());
            assert_eq!(result, Err(ReplyError::TooLarge(MAX)), "{reply:?}");
        }
    }

    #[test]
    fn what_cannot_be_followed_fails() {
        let long = format!("${}5\r\n", "0".repeat(40));
        for reply in ["x", "$a\r\n", "%-1\r\n", "=-1\r\n", "$\r\n", "$1\n", &long] {
            let mut meter = ReplyMeter::new(MAX);
            let result = count(
                &mut meter,
                format!("{reply}{}", "0".repeat(64)).as_bytes(),
                3,
            );
            assert_eq!(result, Err(ReplyError::Malformed), "{reply:?}");
        }
    }

    /// Returns the length of the first reply, as the client library finds it.
    fn reply_length(bytes: &[u8]) -> Option<usize> {
        (1..=bytes.len()).find(|length| redis::parse_redis_value(&bytes[..*length]).is_ok())
    }

    proptest! {
        /// A meter that ends a reply before the client library does would miss an endless reply.
        #[test]
        fn a_reply_ends_where_the_client_library_ends_it(
            values in prop::collection::vec(
                r"[+:$*~](-1|[0-3]|a)?(\r\n|\r|\n)([a+:$*1]{0,3}\r?\n)?",
                1..20,
            ),
        ) {
            let replies = values.concat();
            let mut rest = replies.as_bytes();
            let mut meter = ReplyMeter::new(u64::MAX);
            while let Some(length) = reply_length(rest) {
                let (reply, others) = rest.split_at(length);
                rest = others;
                if meter.count(reply).is_err() {
                    break;
                }
                prop_assert_eq!((meter.cost, meter.values_left), (0, 1), "{:?}", reply);
            }
        }
    }
}
