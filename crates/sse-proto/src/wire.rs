//! Writes `text/event-stream` (WHATWG HTML §9.2.5): events, id-only blocks, `retry` and comments.
//!
//! The field order is `id`, `event`, `data`. A space follows each colon, lines end with LF, and a
//! blank line ends each block. The content of an event cannot add a field: control characters of
//! the type are left out, and every line of the data starts with `data: `.

use std::{fmt::Display, time::Duration};

use bytes::{BufMut, BytesMut};

use crate::notice::Notice;

/// Writes one event: `id`, `event`, and one `data` line per line of `data`.
///
/// CR, LF and CR LF each end a line and arrive as LF. Empty data becomes one empty line, because a
/// parser does not dispatch an event without data.
pub fn event(out: &mut BytesMut, id: impl Display, kind: &str, data: &str) {
    write_field(out, "id", id);
    // Exactly the rest, so that a buffer of the length of the block never grows.
    out.reserve(kind.len() + data_capacity(data) + REST_OVERHEAD);
    write_type(out, kind);
    for line in split_lines(data) {
        out.put_slice(b"data: ");
        out.put_slice(line.as_bytes());
        out.put_u8(b'\n');
    }
    out.put_u8(b'\n');
}

/// Writes an event without a type, for clients that parse the data of every event themselves.
pub fn data(out: &mut BytesMut, id: impl Display, data: &str) {
    write_field(out, "id", id);
    for line in split_lines(data) {
        write_field(out, "data", line);
    }
    out.put_u8(b'\n');
}

/// Writes a block with only an id, which moves the position of the client.
pub fn position(out: &mut BytesMut, id: impl Display) {
    write_field(out, "id", id);
    out.put_u8(b'\n');
}

/// Returns the length of the block that [`event`] writes; `id_length` is that of the id. Control
/// characters of the type count, although they are not written.
#[must_use]
pub fn event_len(id_length: usize, kind: &str, data: &str) -> usize {
    id_length + ID_OVERHEAD + kind.len() + encoded_len(data) + REST_OVERHEAD
}

/// Bytes of an `id` line besides the id.
const ID_OVERHEAD: usize = "id: \n".len();
/// Bytes of the other lines of a block besides the type and the encoded data.
const REST_OVERHEAD: usize = "event: \ndata: \n\n".len();

/// Returns the bytes to reserve for `data`. Counting line ends pays only for large data, of which a
/// buffer that grows takes up to twice the length.
fn data_capacity(data: &str) -> usize {
    if data.len() < LARGE_DATA {
        data.len()
    } else {
        encoded_len(data)
    }
}

/// Returns how many bytes `data` takes in a block, without the `data: ` of its first line and the end
/// of its last one.
///
/// Data of one line take their own length. A line end of the data becomes 7 bytes, a line end and
/// `data: `, so no data take less than their length.
#[must_use]
pub fn encoded_len(data: &str) -> usize {
    let length = split_lines(data)
        .map(|line| line.len() + LINE_OVERHEAD)
        .sum::<usize>();
    length - LINE_OVERHEAD
}

const LARGE_DATA: usize = 16 << 10;

/// Bytes of a `data` line besides its text: `data: ` and the line end.
pub const LINE_OVERHEAD: usize = 7;

/// Writes the first block of a stream: the reconnection time, the position if known, and a comment.
///
/// A parser dispatches nothing, because the block has no data. The block starts the stream at once,
/// and a subscriber that disconnects before its first event already has an `id` to resume from.
pub fn opening(out: &mut BytesMut, retry: Duration, position: Option<impl Display>, comment: &str) {
    write_field(out, "retry", retry.as_millis());
    if let Some(position) = position {
        write_field(out, "id", position);
    }
    write_comment(out, comment);
    out.put_u8(b'\n');
}

/// Writes a block with only a reconnection time, which replaces that of the opening.
pub fn retry(out: &mut BytesMut, retry: Duration) {
    write_field(out, "retry", retry.as_millis());
    out.put_u8(b'\n');
}

/// Writes a notice: an event of the type `notice` without an id.
pub fn notice(out: &mut BytesMut, notice: &Notice) {
    // A notice has only numbers and words, so this cannot fail.
    let data = serde_json::to_string(notice).unwrap_or_default();
    write_field(out, "event", "notice");
    write_field(out, "data", data);
    out.put_u8(b'\n');
}

/// Writes a heartbeat, which is an empty comment. It must follow a complete block.
///
/// `moved_to` is the new position if events have passed that the subscriber's filter excludes. Only
/// then does a blank line follow, at which a parser stores the position. Some parsers dispatch an
/// empty event for every blank line, so there is none without need.
pub fn heartbeat(out: &mut BytesMut, moved_to: Option<impl Display>) {
    match moved_to {
        None => out.put_slice(b":\n"),
        Some(position) => {
            write_field(out, "id", position);
            out.put_slice(b":\n\n");
        }
    }
}

/// Writes the `id` line at the start of a block.
pub fn id(out: &mut BytesMut, id: impl Display) {
    write_field(out, "id", id);
}

/// Writes the type without its control characters: a valid type has none, and a line end would add
/// a field.
fn write_type(out: &mut BytesMut, kind: &str) {
    out.put_slice(b"event: ");
    for part in kind.split(char::is_control) {
        out.put_slice(part.as_bytes());
    }
    out.put_u8(b'\n');
}

fn write_field(out: &mut BytesMut, name: &str, value: impl Display) {
    use std::fmt::Write as _;
    // A write to a buffer that grows cannot fail.
    let _ = writeln!(out, "{name}: {value}");
}

fn write_comment(out: &mut BytesMut, comment: &str) {
    for line in split_lines(comment) {
        out.put_slice(b": ");
        out.put_slice(line.as_bytes());
        out.put_u8(b'\n');
    }
}

/// Splits a text at CR, LF and CR LF. A text without line ends is one line, even if it is empty.
fn split_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memchr::memchr2(b'\r', b'\n', text.as_bytes()) else {
            return rest.take();
        };
        let after = if text[end..].starts_with("\r\n") {
            end + 2
        } else {
            end + 1
        };
        rest = Some(&text[after..]);
        Some(&text[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cr_lf_and_cr_lf_together_end_a_line() {
        let split = |text| split_lines(text).collect::<Vec<_>>();
        assert_eq!(split(""), [""]);
        assert_eq!(split("a"), ["a"]);
        assert_eq!(split("a\nb\rc\r\nd"), ["a", "b", "c", "d"]);
        assert_eq!(split("\n\r\r\n"), ["", "", "", ""]);
        assert_eq!(split("a\u{2028}b\u{b}"), ["a\u{2028}b\u{b}"]);
    }

    #[test]
    fn the_encoded_length_is_that_of_the_data_lines() {
        for data in ["", "x", "a\nb", "\n\n", "a\r\nb\rc\n", "data: \n"] {
            let mut out = BytesMut::new();
            event(&mut out, "1-0", "a", data);
            let fixed = "id: 1-0\nevent: a\ndata: \n\n".len();
            assert_eq!(encoded_len(data), out.len() - fixed, "{data:?}");
            assert!(encoded_len(data) >= data.len());
            assert_eq!(event_len(3, "a", data), out.len());
        }
    }

    #[test]
    fn a_type_cannot_add_a_line() {
        let mut out = BytesMut::new();
        event(&mut out, "1-0", "a\r\nid: 7-7\u{85}\n\nb", "x");
        assert_eq!(out, "id: 1-0\nevent: aid: 7-7b\ndata: x\n\n");
    }

    #[test]
    fn the_opening_has_the_position_and_no_data() {
        let mut out = BytesMut::new();
        opening(
            &mut out,
            Duration::from_secs(3),
            Some("0-0"),
            "hello\nworld",
        );
        assert_eq!(out, "retry: 3000\nid: 0-0\n: hello\n: world\n\n");
    }

    #[test]
    fn a_notice_has_no_id() {
        let mut out = BytesMut::new();
        notice(&mut out, &Notice::Live);
        retry(&mut out, Duration::from_secs(2));
        assert_eq!(
            out,
            "event: notice\ndata: {\"kind\":\"live\"}\n\nretry: 2000\n\n"
        );
    }

    #[test]
    fn a_heartbeat_has_the_position_only_if_it_moved() {
        let mut out = BytesMut::new();
        heartbeat(&mut out, None::<&str>);
        heartbeat(&mut out, Some("5-1"));
        assert_eq!(out, ":\nid: 5-1\n:\n\n");
    }
}
