//! What may go to a terminal: a control character in an event could move its cursor, or worse.

use std::borrow::Cow;

/// The text with control characters (C0, DEL, C1) replaced by U+FFFD, but for tab and LF.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let acts = |c: char| c.is_control() && !matches!(c, '\t' | '\n');
    if text.contains(acts) {
        text.replace(acts, "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// JSON with its DEL and C1 characters escaped, which JSON itself leaves as they are. It means the same.
#[must_use]
pub fn visible_json(json: &str) -> Cow<'_, str> {
    // All others are escaped already; outside of strings JSON has none of these.
    let acts = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    if !json.contains(acts) {
        return json.into();
    }
    let escaped = |c: char| {
        if acts(c) {
            format!("\\u{:04x}", u32::from(c))
        } else {
            c.to_string()
        }
    };
    json.chars().map(escaped).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(
            visible("a\x1b[2Jb\0\r\x7f\u{9b}31m"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}\u{fffd}31m"
        );
        assert_eq!(visible("a\tb\né€😀"), "a\tb\né€😀");
    }

    #[test]
    fn json_stays_the_same_value() {
        let json = serde_json::to_string("a\x1b\x7f\u{9b}é").unwrap();
        let shown = visible_json(&json);
        assert_eq!(shown, r#""a\u001b\u007f\u009bé""#);
        assert_eq!(
            serde_json::from_str::<String>(&shown).unwrap(),
            "a\x1b\x7f\u{9b}é"
        );
    }
}
