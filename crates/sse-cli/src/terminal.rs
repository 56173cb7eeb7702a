//! Text for a terminal, where a control character of an event could move the cursor or do worse.

use std::borrow::Cow;

/// Returns the text with control characters (C0, DEL, C1) replaced by U+FFFD, except tab and LF.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_unsafe = |c: char| c.is_control() && !matches!(c, '\t' | '\n');
    if text.contains(is_unsafe) {
        text.replace(is_unsafe, "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// Returns JSON with its DEL and C1 characters escaped, which JSON itself allows. The value stays
/// the same.
#[must_use]
pub fn visible_json(json: &str) -> Cow<'_, str> {
    if json.contains(is_unescaped) {
        json.chars().map(escape_char).collect::<String>().into()
    } else {
        json.into()
    }
}

/// Returns whether `c` is a control character that JSON allows within a string (RFC 8259 §7). All
/// others are escaped already.
fn is_unescaped(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}')
}

fn escape_char(c: char) -> String {
    if is_unescaped(c) {
        format!("\\u{:04x}", u32::from(c))
    } else {
        c.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_made_visible() {
        assert_eq!(
            visible("a\x1b[2Jb\0\r\x7f\u{9b}31m"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}\u{fffd}31m"
        );
        assert_eq!(visible("a\tb\né€😀"), "a\tb\né€😀");
    }

    #[test]
    fn json_keeps_its_value() {
        let json = serde_json::to_string("a\x1b\x7f\u{9b}é").unwrap();
        let shown = visible_json(&json);
        assert_eq!(shown, r#""a\u001b\u007f\u009bé""#);
        assert_eq!(
            serde_json::from_str::<String>(&shown).unwrap(),
            "a\x1b\x7f\u{9b}é"
        );
    }
}
