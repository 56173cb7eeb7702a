//! Switches: flags that are on or off.

/// `true`, `false`, `1` or `0`.
pub(super) fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err("write 1 or true, 0 or false"),
    }
}
