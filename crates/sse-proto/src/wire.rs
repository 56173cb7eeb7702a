//! Writes `text/event-stream` (WHATWG HTML §9.2.5): events, id-only blocks, `retry`, comments.
//!
//! Field order is `id`, `event`, `data`, one space after each colon, LF line ends, a blank line after each block.
//! Nothing of an event's content can start a line of its own: the type has no control characters, and every line
//! of the data gets its `data: `.

use std::{fmt::Display, time::Duration};

use bytes::{BufMut, BytesMut};

/// One event: `id`, `event` and a `data` line for each line of `data`.
///
/// CR, LF and CR LF all end a line, as every parser will see it; they arrive as LF. Empty data is one empty line,
/// so that the event is dispatched.
pub fn event(out: &mut BytesMut, id: impl Display, kind: &str, data: &str) {
    out.reserve(data.len() + kind.len() + 64);
    field(out, "id", id);
    field(out, "event", kind);
    for line in lines(data) {
        out.put_slice(b"data: ");
        out.put_slice(line.as_bytes());
        out.put_u8(b'\n');
    }
    out.put_u8(b'\n');
}

/// The first block of a stream: how long to wait before reconnecting, the position if it is known, and a comment.
///
/// It has no data, so nothing is dispatched; it opens the stream at once, and a subscriber cut before its first
/// event already holds the `id` to come back with.
pub fn opening(out: &mut BytesMut, retry: Duration, position: Option<impl Display>, comment: &str) {
    field(out, "retry", retry.as_millis());
    if let Some(position) = position {
        field(out, "id", position);
    }
    comment_line(out, comment);
    out.put_u8(b'\n');
}

/// A comment on an idle stream, with the position when it moved past events that the subscriber does not want.
pub fn heartbeat(out: &mut BytesMut, moved_to: Option<impl Display>) {
    if let Some(position) = moved_to {
        field(out, "id", position);
    }
    out.put_slice(b":\n\n");
}

/// The `id` line that a block begins with.
pub fn id(out: &mut BytesMut, id: impl Display) {
    field(out, "id", id);
}

fn field(out: &mut BytesMut, name: &str, value: impl Display) {
    use std::fmt::Write as _;
    // Writing into memory that grows cannot fail.
    let _ = writeln!(out, "{name}: {value}");
}

fn comment_line(out: &mut BytesMut, comment: &str) {
    for line in lines(comment) {
        out.put_slice(b": ");
        out.put_slice(line.as_bytes());
        out.put_u8(b'\n');
    }
}

/// The lines of a text whose lines end by CR, LF or CR LF. A text without line ends, even an empty one, is one line.
fn lines(text: &str) -> impl Iterator<Item = &str> {
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
    fn lines_end_by_cr_lf_or_both() {
        let split = |text| lines(text).collect::<Vec<_>>();
        assert_eq!(split(""), [""]);
        assert_eq!(split("a"), ["a"]);
        assert_eq!(split("a\nb\rc\r\nd"), ["a", "b", "c", "d"]);
        assert_eq!(split("\n\r\r\n"), ["", "", "", ""]);
        assert_eq!(split("a\u{2028}b\u{b}"), ["a\u{2028}b\u{b}"]);
    }

    #[test]
    fn the_opening_dispatches_nothing_and_carries_the_position() {
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
    fn a_heartbeat_tells_the_position_only_when_it_moved() {
        let mut out = BytesMut::new();
        heartbeat(&mut out, None::<&str>);
        heartbeat(&mut out, Some("5-1"));
        assert_eq!(out, ":\n\nid: 5-1\n:\n\n");
    }
}
