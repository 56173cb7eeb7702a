//! Whole numbers on command lines.
//!
//! The parsers of the standard library describe the types of the program ("number would be zero for
//! non-zero type"). These describe what to write.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

/// Parses a whole number in `range`.
///
/// # Errors
///
/// The text is not such a number. The error is the message for the user.
pub fn parse_number<T: FromStr + PartialOrd + Display>(
    text: &str,
    range: &RangeInclusive<T>,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        format!(
            "write a whole number from {} to {}",
            range.start(),
            range.end()
        )
    })
}

/// Parses a whole number that is not zero, such as `NonZeroU64`.
///
/// # Errors
///
/// The text is not such a number. The error is the message for the user.
pub fn parse_positive_number<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "write a whole number from 1 on")
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroUsize};

    use super::*;

    #[test]
    fn an_error_states_the_range() {
        assert_eq!(parse_number("3", &(1..=3_u32)), Ok(3));
        for bad in ["0", "4", "-1", "x", "", "1.5", "99999999999"] {
            let error = parse_number(bad, &(1..=3_u32)).unwrap_err();
            assert_eq!(error, "write a whole number from 1 to 3", "{bad}");
        }
    }

    #[test]
    fn zero_is_not_positive() {
        assert_eq!(
            parse_positive_number("7"),
            Ok(NonZeroU64::MIN.saturating_add(6))
        );
        for bad in ["0", "-1", "x", "", "99999999999999999999999"] {
            assert!(parse_positive_number::<NonZeroUsize>(bad).is_err(), "{bad}");
        }
    }
}
