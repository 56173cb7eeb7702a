//! A flag that is on or off. The flag alone means on; an environment variable needs a value.

/// Parses the value of a switch: `1` or `true`, `0` or `false`.
///
/// # Errors
///
/// The text is none of these values. The error states the allowed values.
pub fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err("write 1 or true, 0 or false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_or_off_and_nothing_else() {
        for (text, expected) in [("1", true), ("true", true), ("0", false), ("false", false)] {
            assert_eq!(parse_switch(text), Ok(expected));
        }
        for bad in ["", "yes", "TRUE", "2", " 1"] {
            assert!(parse_switch(bad).is_err(), "{bad:?}");
        }
    }
}
