//! Durations and sizes as people write them on a command line, in an environment variable or in a URL.

use std::time::Duration;

use bytesize::ByteSize;

/// A duration: a number and a unit, `5ms 15s 10m 24h 1d`.
///
/// # Errors
/// The text to show to whoever wrote it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is not a duration: write a number and a unit, like 5ms, 15s, 10m, 24h or 1d"))
}

/// A duration that is not zero.
///
/// # Errors
/// The text to show to whoever wrote it.
pub fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() { Err("must be more than zero".to_owned()) } else { Ok(duration) }
}

/// A number of bytes: a number and a unit, `512KiB 1MiB 1GiB` (or plain bytes).
///
/// # Errors
/// The text to show to whoever wrote it.
pub fn parse_size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not a size: write a number and a unit, like 512KiB, 1MiB or 1GiB, or a number of bytes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in [("5ms", 5), ("15s", 15_000), ("10m", 600_000), ("24h", 86_400_000), ("1d", 86_400_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)));
        }
        for bad in ["", "15", "-1s", "s", "1.5.s", "99999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        assert!(parse_positive_duration("0s").is_err());
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, bytes) in [("1048576", 1 << 20), ("1MiB", 1 << 20), ("1GiB", 1 << 30), ("1KB", 1000)] {
            assert_eq!(parse_size(text), Ok(ByteSize(bytes)));
        }
        for bad in ["", "x", "1XB", "-1"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }
}
