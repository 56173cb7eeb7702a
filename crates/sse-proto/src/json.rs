//! JSON as event data: validated, and compacted to one line.
//!
//! Only white space between tokens is removed. Digits, escapes, the order of keys and duplicate
//! keys stay byte for byte. Parsing and serialising the value would change some of them: `1e400`,
//! `1.0`, `{"a":1,"a":2}`.

use bytestring::ByteString;
use serde::de::IgnoredAny;

/// Returns a JSON text (RFC 8259) without line breaks, so that it is one `data:` line.
///
/// # Errors
///
/// The text is not exactly one JSON value. The error states the line and the column.
pub fn compact(text: &ByteString) -> Result<ByteString, serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(text)?;
    Ok(without_white_space(text))
}

/// Removes the white space between the tokens of a text that is known to be valid JSON.
#[must_use]
pub fn without_white_space(json: &ByteString) -> ByteString {
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
    if !json.contains(is_space) {
        return json.clone();
    }
    let mut out = String::with_capacity(json.len());
    let mut rest: &str = json;
    // Each turn copies the tokens before the next string, and then the string with its quotes.
    while let Some(quote) = rest.find('"') {
        out.extend(rest[..quote].chars().filter(|c| !is_space(*c)));
        let string = &rest[quote..];
        let length = string_length(string);
        out.push_str(&string[..length]);
        rest = &string[length..];
    }
    out.extend(rest.chars().filter(|c| !is_space(*c)));
    out.into()
}

/// Returns the length in bytes of the JSON string at the start of `text`, including its quotes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(text: &str) -> Option<String> {
        compact(&text.into())
            .ok()
            .map(|compact| compact.to_string())
    }

    #[test]
    fn only_white_space_between_tokens_is_removed() {
        for (written, kept) in [
            (" { \"a b\" : [ 1 , 2 ] }\r\n", r#"{"a b":[1,2]}"#),
            (r#"{"b": 1, "a": 2, "b": 3}"#, r#"{"b":1,"a":2,"b":3}"#),
            ("1.000", "1.000"),
            ("1e999", "1e999"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            (
                r#"["\u00e9\/", "é \" x", "\\"]"#,
                r#"["\u00e9\/","é \" x","\\"]"#,
            ),
            (r#""""#, r#""""#),
            (" null ", "null"),
            ("[ \"\u{2028} \u{a0}\" ]", "[\"\u{2028} \u{a0}\"]"),
        ] {
            assert_eq!(compacted(written).as_deref(), Some(kept), "{written:?}");
        }
    }

    #[test]
    fn text_that_is_not_one_json_value_is_rejected() {
        for bad in [
            "",
            " ",
            "{",
            "1 2",
            "nul",
            "'a'",
            "\"a\nb\"",
            "[1,]",
            "\u{feff}1",
            "01",
            "NaN",
            &"[".repeat(200),
        ] {
            assert_eq!(compacted(bad), None, "{bad:?}");
        }
    }
}
