//! Parsers for moments: times, and durations before now.
//!
//! All programs share this grammar. A number without a unit can mean several things, so only those
//! are accepted whose number of digits leaves no doubt:
//!
//! ```text
//! digits  1 ......... 8   9 10   11   12 13 14   15 16 17   18 19 20
//! means   a missing unit  s      ?    ms         µs         ns
//!         error           1973+  err. 1973+      error      error
//! ```

use std::time::Duration;

use chrono::DateTime;

use crate::units::shorten;

/// A moment in the past, relative or absolute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This duration before now, by the log's clock.
    Ago(Duration),
    /// Milliseconds since the Unix epoch.
    At(u64),
}

/// Parses a moment: a duration before now (`90s`, `10m`, `2h`, `1d`), or a time as in
/// [`parse_time_ms`].
///
/// # Errors
///
/// The text has neither form. The error is the message for the user.
pub fn parse_moment(text: &str) -> Result<Moment, String> {
    if let Some(number) = Number::parse(text) {
        return number.to_ms(text, Accepts::Moments).map(Moment::At);
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Moment::Ago(ago));
    }
    parse_rfc3339(text).map(Moment::At).ok_or_else(|| {
        format!(
            "{:?} is neither a duration ago, like 90s, 10m, 2h or 1d, nor {TIME_FORMS}",
            shorten(text)
        )
    })
}

/// Whether the text is the number 0, which is neither a moment nor a time. Users write it for the
/// beginning of everything, which each program has a way of its own to name.
#[must_use]
pub fn is_zero(text: &str) -> bool {
    let number = Number::parse(text);
    number.is_some_and(|number| {
        number.whole.len() < 9 && number.whole.bytes().all(|digit| digit == b'0')
    })
}

const TIME_FORMS: &str =
    "a time, like 2026-11-24T12:06:36Z or its seconds or milliseconds since 1970";

/// Parses a time: RFC 3339, seconds since the Unix epoch with 9 or 10 digits and perhaps a
/// fraction, or milliseconds with 12 to 14 digits.
///
/// Returns milliseconds since the Unix epoch, and 0 for an earlier time. The `+` of an offset may
/// be a space, because the query of a URL decodes `+` to a space.
///
/// # Errors
///
/// The text has none of these forms. The error is the message for the user.
pub fn parse_time_ms(text: &str) -> Result<u64, String> {
    if let Some(number) = Number::parse(text) {
        return number.to_ms(text, Accepts::Times);
    }
    parse_rfc3339(text).ok_or_else(|| format!("{:?} is not {TIME_FORMS}", shorten(text)))
}

fn parse_rfc3339(text: &str) -> Option<u64> {
    let time = DateTime::parse_from_rfc3339(&restore_plus(text)).ok()?;
    Some(u64::try_from(time.timestamp_millis()).unwrap_or(0))
}

/// Replaces the space before the offset of an RFC 3339 time by `+`.
///
/// A space at byte 10, after the date, is the separator of date and time and stays.
fn restore_plus(text: &str) -> String {
    match text.rfind(' ') {
        Some(at) if at > 10 => [&text[..at], "+", &text[at + 1..]].concat(),
        _ => text.to_owned(),
    }
}

/// What a number that is no time may be replaced by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepts {
    /// Times only.
    Times,
    /// Times and durations ago.
    Moments,
}

/// A number without a unit: its digits, and those of its fraction.
struct Number<'a> {
    whole: &'a str,
    fraction: Option<&'a str>,
}

impl<'a> Number<'a> {
    /// Returns `None` if the text has anything but digits and one point between them.
    fn parse(text: &'a str) -> Option<Self> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_whole = is_number(whole) && fraction.is_none_or(is_number);
        is_whole.then_some(Self { whole, fraction })
    }

    /// Returns the milliseconds since the Unix epoch.
    fn to_ms(&self, text: &str, accepts: Accepts) -> Result<u64, String> {
        let invalid = |why: &str| format!("{:?} {why}", shorten(text));
        let digits = self.whole.len();
        match (digits, self.fraction) {
            (9 | 10, fraction) => {
                let whole = format!("{}{:0<3.3}", self.whole, fraction.unwrap_or_default());
                whole.parse().map_err(|_| invalid("is not a time"))
            }
            (12..=14, None) => self.whole.parse().map_err(|_| invalid("is not a time")),
            (1..=8, _) if accepts == Accepts::Moments => Err(invalid(
                "has no unit: write 10s, 10m, 10h or 10d, or a time",
            )),
            (1..=8, _) => Err(format!("{:?} is not {TIME_FORMS}", shorten(text))),
            (12..=14, Some(_)) => Err(invalid(
                "looks like milliseconds since 1970, which have no fraction",
            )),
            (15..=17, None) => Err(invalid(
                "looks like microseconds since 1970: write milliseconds, 13 digits",
            )),
            (18..=20, None) => Err(invalid(
                "looks like nanoseconds since 1970: write milliseconds, 13 digits",
            )),
            _ => Err(invalid(
                "is neither seconds since 1970 (9 or 10 digits) nor milliseconds (12 to 14 digits)",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_duration_ago_or_a_time() {
        for (text, seconds) in [
            ("10m", 600),
            ("90s", 90),
            ("2h", 7200),
            ("1d", 86_400),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_moment(text),
                Ok(Moment::Ago(Duration::from_secs(seconds)))
            );
        }
        let ms = 1_795_521_996_855;
        for text in [
            "1795521996855",
            "1795521996.855",
            "1795521996.855999",
            "2026-11-24T12:06:36.855Z",
            "2026-11-24 12:06:36.855Z",
            "2026-11-24t12:06:36.855999z",
            "2026-11-24T13:06:36.855+01:00",
            "2026-11-24T13:06:36.855 01:00",
            "2026-11-24 13:06:36.855 01:00",
            "2026-11-24T05:06:36.855-07:00",
        ] {
            assert_eq!(parse_moment(text), Ok(Moment::At(ms)), "{text}");
            assert_eq!(parse_time_ms(text), Ok(ms), "{text}");
        }
        assert_eq!(parse_time_ms("1960-01-01T00:00:00Z"), Ok(0));
        for bad in [
            "",
            " ",
            "x",
            "-5",
            "10x",
            "2026-11-24",
            "12:06",
            "2026-13-01T00:00:00Z",
            "é 1",
            "          é ",
        ] {
            assert!(
                parse_moment(bad).is_err() && parse_time_ms(bad).is_err(),
                "{bad:?}"
            );
        }
        assert!(parse_time_ms("10m").is_err());
    }

    #[test]
    fn the_digits_of_a_number_tell_its_unit() {
        for (text, ms) in [
            ("100000000", 100_000_000_000),
            ("1795521996", 1_795_521_996_000),
            ("1795521996.5", 1_795_521_996_500),
            ("100000000000", 100_000_000_000),
            ("99999999999999", 99_999_999_999_999),
        ] {
            assert_eq!(parse_time_ms(text), Ok(ms), "{text}");
            assert_eq!(parse_moment(text), Ok(Moment::At(ms)), "{text}");
        }
        for text in ["0", "000", "10", "1.5", "99999999"] {
            let error = parse_moment(text).unwrap_err();
            assert!(error.contains("has no unit: write 10s, 10m"), "{error}");
            // A duration ago is no time.
            let error = parse_time_ms(text).unwrap_err();
            assert_eq!(error, format!("{text:?} is not {TIME_FORMS}"));
        }
        for (text, hint) in [
            ("17955219968", "9 or 10 digits"),
            (
                "1795521996855.5",
                "milliseconds since 1970, which have no fraction",
            ),
            ("1795521996855000", "microseconds"),
            ("1795521996855000000", "nanoseconds"),
            ("18446744073709551616", "nanoseconds"),
            ("184467440737095516160", "9 or 10 digits"),
        ] {
            for error in [
                parse_time_ms(text).unwrap_err(),
                parse_moment(text).unwrap_err(),
            ] {
                assert!(error.contains(hint), "{text}: {error}");
            }
        }
    }

    #[test]
    fn zero_is_recognised() {
        for (text, expected) in [
            ("0", true),
            ("000", true),
            ("0.5", true),
            ("10", false),
            ("0s", false),
            ("", false),
        ] {
            assert_eq!(is_zero(text), expected, "{text}");
        }
    }

    #[test]
    fn an_error_quotes_only_the_start_of_a_long_input() {
        for long in ["x".repeat(100_000), "7".repeat(100_000)] {
            for message in [
                parse_moment(&long).unwrap_err(),
                parse_time_ms(&long).unwrap_err(),
            ] {
                assert!(
                    message.contains(&long[..40]) && message.len() < 250,
                    "{message}"
                );
            }
        }
    }
}
