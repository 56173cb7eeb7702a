//! Times in event data: numbers of several units, or RFC 3339.

use chrono::DateTime;

/// Numbers below this are seconds (until the year 5138). Each factor of 1000 above it is the next
/// unit:
///
/// ```text
/// 0 ──seconds── 10¹¹ ──milliseconds── 10¹⁴ ──microseconds── 10¹⁷ ──nanoseconds──
/// ```
const SECONDS_BELOW: u64 = 100_000_000_000;

/// Converts a whole number to microseconds since the Unix epoch. Returns `None` for 0.
pub(super) fn integer_to_us(number: u64) -> Option<u64> {
    match number {
        0 => None,
        _ if number < SECONDS_BELOW => number.checked_mul(1_000_000),
        _ if number < SECONDS_BELOW * 1_000 => number.checked_mul(1_000),
        _ if number < SECONDS_BELOW * 1_000_000 => Some(number),
        _ => Some(number / 1_000),
    }
}

/// Converts a number with a fraction to microseconds since the Unix epoch.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "bounds are checked"
)]
pub(super) fn float_to_us(number: f64) -> Option<u64> {
    let seconds_below = SECONDS_BELOW as f64;
    match number {
        _ if !number.is_finite() || number <= 0.0 || number >= u64::MAX as f64 => None,
        _ if number < seconds_below => Some((number * 1e6).round() as u64),
        _ if number < seconds_below * 1e3 => Some((number * 1e3).round() as u64),
        _ => integer_to_us(number as u64),
    }
}

/// Converts an RFC 3339 time, or a number written as text, to microseconds since the Unix epoch.
pub(super) fn text_to_us(text: &str) -> Option<u64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return u64::try_from(time.timestamp_micros()).ok();
    }
    text.parse()
        .ok()
        .and_then(integer_to_us)
        .or_else(|| text.parse().ok().and_then(float_to_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_number_tells_its_unit() {
        let time_us = 1_700_000_000_123_456;
        for (number, us) in [
            (0, None),
            (1_700_000_000, Some(1_700_000_000_000_000)),
            (1_700_000_000_123, Some(1_700_000_000_123_000)),
            (time_us, Some(time_us)),
            (time_us * 1_000, Some(time_us)),
            (u64::MAX, Some(u64::MAX / 1_000)),
        ] {
            assert_eq!(integer_to_us(number), us, "{number}");
        }
    }

    #[test]
    fn a_float_out_of_range_is_no_time() {
        for number in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
            assert_eq!(float_to_us(number), None, "{number}");
        }
        assert_eq!(float_to_us(1.5), Some(1_500_000));
    }
}
