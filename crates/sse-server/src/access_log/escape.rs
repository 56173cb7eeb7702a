//! Text inside quotes: no text of a request can end its quotes or its line.

use std::io::Write as _;

/// Appends `text` for a line of text. Every byte that is not a printable ASCII character becomes
/// `\xNN`, as in the logs of nginx.
pub(super) fn append_escaped(out: &mut Vec<u8>, text: &str) {
    for part in text.as_bytes().split_inclusive(|byte| !is_plain(*byte)) {
        let (last, plain) = match part.split_last() {
            Some((last, plain)) if !is_plain(*last) => (Some(*last), plain),
            _ => (None, part),
        };
        out.extend_from_slice(plain);
        match last {
            Some(byte @ (b'"' | b'\\')) => out.extend_from_slice(&[b'\\', byte]),
            Some(byte) => append_hex(out, format_args!("\\x{byte:02X}")),
            None => {}
        }
    }
}

/// Appends `text` as a JSON string. Every character that is not printable ASCII becomes `\uNNNN`,
/// because some programs also end a line at characters beyond ASCII.
pub(super) fn append_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for part in text.split_inclusive(|char| !is_plain_char(char)) {
        let last = part
            .chars()
            .next_back()
            .filter(|char| !is_plain_char(*char));
        let plain = part.len() - last.map_or(0, char::len_utf8);
        out.extend_from_slice(&part.as_bytes()[..plain]);
        match last {
            Some('"') => out.extend_from_slice(br#"\""#),
            Some('\\') => out.extend_from_slice(br"\\"),
            Some(char) => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    append_hex(out, format_args!("\\u{unit:04x}"));
                }
            }
            None => {}
        }
    }
    out.push(b'"');
}

/// Whether a byte can stand for itself inside quotes.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

const fn is_plain_char(char: char) -> bool {
    char.is_ascii() && is_plain(char as u8)
}

fn append_hex(out: &mut Vec<u8>, hex: std::fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(hex);
}
