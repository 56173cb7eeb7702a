//! Parsers for durations and sizes on command lines, in environment variables and in URLs.
//!
//! All programs share this grammar. An error text quotes at most 40 characters of the input and
//! names the expected form; the caller adds the name of the flag or parameter.

use std::time::Duration;

use bytesize::ByteSize;
use chrono::{DateTime, SecondsFormat};

/// The longest duration. Clocks can add it to the present time without an overflow.
const DURATION_MAX: Duration = Duration::from_hours(100 * 366 * 24);

/// Parses a duration, which is a number and a unit: `5ms`, `15s`, `10m`, `24h`, `1d`. It is at most
/// a hundred years.
///
/// # Errors
///
/// The text is not a duration, or it is too long. The error is the message for the user.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_any_duration(text)?;
    if duration > DURATION_MAX {
        return Err(format!(
            "{:?} is more than a hundred years: write a shorter duration",
            shorten(text)
        ));
    }
    Ok(duration)
}

fn parse_any_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        format!(
            "{:?} is not a duration: write a number and a unit, like 5ms, 15s, 10m, 24h or 1d",
            shorten(text)
        )
    })
}

/// Parses a duration that is not zero.
///
/// # Errors
///
/// The text is not a duration, or the duration is zero. The error is the message for the user.
pub fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() {
        Err("must be more than zero".to_owned())
    } else {
        Ok(duration)
    }
}

/// Returns the first 40 characters of `text`. The text can come from a URL and be long.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Formats milliseconds since the Unix epoch as RFC 3339 in UTC.
///
/// Returns an empty text if the year has more than the digits that RFC 3339 allows.
#[must_use]
pub fn time_text(ms: u64) -> String {
    let time = i64::try_from(ms)
        .ok()
        .and_then(DateTime::from_timestamp_millis);
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
        .unwrap_or_default()
}

/// Formats a duration in the form that [`parse_duration`] reads, without spaces: `1h30m`.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let text = humantime::format_duration(duration).to_string();
    text.replace(' ', "")
}

/// Parses a size, which is a number and a unit (`512KiB`, `1MiB`, `1GiB`) or a number of bytes.
///
/// # Errors
///
/// The text is not a size. The error is the message for the user.
pub fn parse_size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| {
        format!(
            "{:?} is not a size: write a number and a unit, like 512KiB, 1MiB or 1GiB, \
             or a number of bytes",
            shorten(text)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in [
            ("5ms", 5),
            ("15s", 15_000),
            ("10m", 600_000),
            ("24h", 86_400_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)));
        }
        for bad in ["", "15", "-1s", "s", "1.5.s", "99999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        assert!(parse_positive_duration("0s").is_err());
        assert!(parse_duration("100y").is_ok());
        let long = parse_duration("500000000000y").unwrap_err();
        assert!(long.contains("hundred years"), "{long}");
    }

    #[test]
    fn an_error_quotes_only_the_start_of_a_long_input() {
        let long = "x".repeat(100_000);
        let messages = [
            parse_duration(&long).unwrap_err(),
            parse_size(&long).unwrap_err(),
        ];
        assert!(
            messages
                .iter()
                .all(|message| message.contains("xxx") && message.len() < 250),
            "{messages:?}"
        );
    }

    #[test]
    fn a_time_is_formatted_as_rfc_3339_with_milliseconds() {
        assert_eq!(time_text(1_795_521_996_855), "2026-11-24T12:06:36.855Z");
        assert_eq!(time_text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_text(u64::MAX), "");
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("1MiB", 1 << 20),
            ("1GiB", 1 << 30),
            ("1KB", 1000),
        ] {
            assert_eq!(parse_size(text), Ok(ByteSize(bytes)));
        }
        for bad in ["", "x", "1XB", "-1"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }
}
