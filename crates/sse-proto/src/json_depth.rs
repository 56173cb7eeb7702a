//! How deeply JSON may be nested.
//!
//! Many readers use their stack for each level: Python's `json` fails at about a thousand. One deep
//! event would make every subscriber fail, so it is rejected.

/// Levels of arrays and objects.
pub const DEPTH_MAX: usize = 128;

/// Whether valid JSON has more than [`DEPTH_MAX`] levels.
#[must_use]
pub fn is_too_deep(json: &str) -> bool {
    // Each level takes two brackets.
    json.len() > 2 * DEPTH_MAX && has_more_levels(json)
}

fn has_more_levels(json: &str) -> bool {
    let mut depth = 0_usize;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

/// Skips the rest of a string, whose opening quote has been read.
fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(open: &str, close: &str, depth: usize) -> String {
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    }

    #[test]
    fn at_most_128_levels_are_allowed() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"]":"#, "}]")] {
            let levels = open.matches(['[', '{']).count();
            assert!(!is_too_deep(&nested(open, close, 128 / levels)), "{open}");
            assert!(
                is_too_deep(&nested(open, close, 128 / levels + 1)),
                "{open}"
            );
        }
    }

    #[test]
    fn brackets_in_strings_are_no_levels() {
        let brackets = "[{".repeat(500);
        for json in [
            format!("\"{brackets}\""),
            format!("[\"\\\"{brackets}\",\"{brackets}\\\\\",1]"),
            format!("[{}1]", "[1],".repeat(500)),
        ] {
            assert!(!is_too_deep(&json), "{json}");
        }
    }
}
