//! Byte sequences, and the events in them by the standard (WHATWG HTML §9.2.5 "Parsing" and §9.2.6
//! "Interpreting").
//!
//! Each sequence begins like a new connection: without a last event id, a type and data.

/// A stream that ends after these bytes.
pub(crate) struct Case {
    /// The rule that the case tests.
    pub(crate) rule: &'static str,
    pub(crate) bytes: &'static [u8],
    /// The dispatched events: last event id, type, data.
    pub(crate) events: &'static [(&'static str, &'static str, &'static str)],
    /// The last event id at the end.
    pub(crate) last_event_id: &'static str,
    /// The reconnection time at the end, in milliseconds.
    pub(crate) retry_ms: Option<u64>,
}

const fn case(
    rule: &'static str,
    bytes: &'static [u8],
    events: &'static [(&'static str, &'static str, &'static str)],
) -> Case {
    Case {
        rule,
        bytes,
        events,
        last_event_id: "",
        retry_ms: None,
    }
}

impl Case {
    const fn id(self, last_event_id: &'static str) -> Self {
        Self {
            last_event_id,
            ..self
        }
    }

    const fn retry(self, retry_ms: u64) -> Self {
        Self {
            retry_ms: Some(retry_ms),
            ..self
        }
    }
}

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    // Line ends.
    case("LF ends a line", b"data: a\ndata: b\n\n", &[("", "message", "a\nb")]),
    case("CR ends a line", b"data: a\rdata: b\r\r", &[("", "message", "a\nb")]),
    case("CR LF ends a line", b"data: a\r\ndata: b\r\n\r\n", &[("", "message", "a\nb")]),
    case("line ends may be mixed", b"data: a\rdata: b\r\ndata: c\n\r", &[("", "message", "a\nb\nc")]),
    case("CR and CR LF end a line and a block", b"data: a\r\r\ndata: b\n\n", &[("", "message", "a"), ("", "message", "b")]),
    case("LF and CR end a line and a block", b"data: a\n\rdata: b\n\n", &[("", "message", "a"), ("", "message", "b")]),
    case("a CR as the last byte ends the block at once", b"data: a\n\r", &[("", "message", "a")]),
    case("the LF of a CR LF is not a blank line", b"data: a\r\ndata: b\r\n\r\n", &[("", "message", "a\nb")]),
    case("LF LF after CR LF are two line ends", b"data: a\r\n\n\ndata: b\n\n", &[("", "message", "a"), ("", "message", "b")]),
    case("form feed and vertical tab end nothing", b"data: a\x0bb\x0cc\n\n", &[("", "message", "a\x0bb\x0cc")]),
    case("next line and line separator end nothing", "data: a\u{85}b\u{2028}c\u{2029}d\n\n".as_bytes(), &[("", "message", "a\u{85}b\u{2028}c\u{2029}d")]),
    case("blank lines before and between events are nothing", b"\n\n\r\n\rdata: a\n\n\n\n\r\rdata: b\n\n", &[("", "message", "a"), ("", "message", "b")]),
    // Byte order mark.
    case("a byte order mark at the start is stripped", b"\xEF\xBB\xBFdata: a\n\n", &[("", "message", "a")]),
    case("only one byte order mark is stripped", b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\ndata: b\n\n", &[("", "message", "b")]),
    case("a byte order mark before a comment", b"\xEF\xBB\xBF: a\ndata: b\n\n", &[("", "message", "b")]),
    case("a byte order mark before a blank line", b"\xEF\xBB\xBF\ndata: a\n\n", &[("", "message", "a")]),
    case("a byte order mark later is part of the name", b"data: a\n\n\xEF\xBB\xBFdata: b\n\n", &[("", "message", "a")]),
    case("a byte order mark in data is data", b"data: \xEF\xBB\xBFa\n\n", &[("", "message", "\u{feff}a")]),
    case("half a byte order mark is no mark", b"\xEF\xBBdata: a\n\ndata: b\n\n", &[("", "message", "b")]),
    // The colon and the space.
    case("one space after the colon is stripped", b"data: a\n\n", &[("", "message", "a")]),
    case("no space is needed", b"data:a\n\n", &[("", "message", "a")]),
    case("only one space is stripped", b"data:  a\n\n", &[("", "message", " a")]),
    case("a tab is not a space", b"data:\ta\n\n", &[("", "message", "\ta")]),
    case("space at the end stays", b"data: a \n\n", &[("", "message", "a ")]),
    case("later colons are part of the value", b"data: a: b:c\n\n", &[("", "message", "a: b:c")]),
    case("a value may begin with a colon", b"data::a\n\n", &[("", "message", ":a")]),
    case("a field without a colon has an empty value", b"data\ndata\n\n", &[("", "message", "\n")]),
    case("names are case-sensitive", b"Data: a\nDATA: b\ndata: c\n\n", &[("", "message", "c")]),
    case("space before the name makes another name", b" data: a\ndata: b\n\n", &[("", "message", "b")]),
    case("space before the colon makes another name", b"data : a\ndata: b\n\n", &[("", "message", "b")]),
    case("unknown fields are ignored", b"foo: bar\nfoo\ndatax: a\ndat: a\ndata: b\n\n", &[("", "message", "b")]),
    // Comments.
    case("a comment is ignored", b": a\n:b\n:\ndata: c\n\n", &[("", "message", "c")]),
    case("a comment within an event is ignored", b"data: a\n: b\ndata: c\n\n", &[("", "message", "a\nc")]),
    case("a comment may hold a field", b": data: a\n\n", &[]),
    case("a block of comments dispatches nothing", b":\n\n: a\n\n", &[]),
    // Data.
    case("lines of data are joined by LF", b"data: a\ndata: b\ndata:\ndata: c\n\n", &[("", "message", "a\nb\n\nc")]),
    case("one empty line of data is an event with empty data", b"data\n\ndata:\n\ndata: \n\n", &[("", "message", ""), ("", "message", ""), ("", "message", "")]),
    case("without data nothing is dispatched", b"event: a\nid: 1\n\n", &[]).id("1"),
    case("NUL in data is data", b"data: a\0b\n\n", &[("", "message", "a\0b")]),
    case("control characters in data are data", b"data: \x01\x1b[2J\x7f\n\n", &[("", "message", "\x01\x1b[2J\x7f")]),
    case("JSON over several lines", b"data: {\ndata: \"a\": 1\ndata: }\n\n", &[("", "message", "{\n\"a\": 1\n}")]),
    // Type.
    case("a type", b"event: click\ndata: a\n\n", &[("", "click", "a")]),
    case("the type may follow the data", b"data: a\nevent: click\n\n", &[("", "click", "a")]),
    case("the last type counts", b"event: a\nevent: b\ndata: c\n\n", &[("", "b", "c")]),
    case("an empty type is message", b"event: a\nevent:\ndata: b\n\n", &[("", "message", "b")]),
    case("a type without a colon is message", b"event\ndata: a\n\n", &[("", "message", "a")]),
    case("a type is for one block", b"event: a\ndata: b\n\ndata: c\n\n", &[("", "a", "b"), ("", "message", "c")]),
    case("a type without data is forgotten", b"event: a\n\ndata: b\n\n", &[("", "message", "b")]),
    case("a type keeps its spaces", b"event:  a b \ndata: c\n\n", &[("", " a b ", "c")]),
    case("a type has any characters", "event: é €😀\ndata: a\n\n".as_bytes(), &[("", "é €😀", "a")]),
    // Last event id.
    case("an id", b"id: 1\ndata: a\n\n", &[("1", "message", "a")]).id("1"),
    case("an id after the data counts for the block", b"data: a\nid: 1\n\n", &[("1", "message", "a")]).id("1"),
    case("an id stays for later events", b"id: 1\ndata: a\n\ndata: b\n\n", &[("1", "message", "a"), ("1", "message", "b")]).id("1"),
    case("the last id counts", b"id: 1\nid: 2\ndata: a\n\n", &[("2", "message", "a")]).id("2"),
    case("an id alone moves the position", b"id: 1\n\ndata: a\n\n", &[("1", "message", "a")]).id("1"),
    case("an empty id resets", b"id: 1\ndata: a\n\nid:\ndata: b\n\n", &[("1", "message", "a"), ("", "message", "b")]),
    case("an id without a colon resets", b"id: 1\ndata: a\n\nid\n\ndata: b\n\n", &[("1", "message", "a"), ("", "message", "b")]),
    case("an id with NUL is ignored", b"id: 1\n\nid: a\0b\ndata: a\n\n", &[("1", "message", "a")]).id("1"),
    case("NUL alone is no id", b"id: 1\n\nid: \0\ndata: a\n\n", &[("1", "message", "a")]).id("1"),
    case("an id with NUL does not undo the one before it", b"id: 1\nid: \0\ndata: a\n\n", &[("1", "message", "a")]).id("1"),
    case("an id keeps all but one space", b"id:  1 \ndata: a\n\n", &[(" 1 ", "message", "a")]).id(" 1 "),
    case("an id has any characters", "id: é,x=@1\ndata: a\n\n".as_bytes(), &[("é,x=@1", "message", "a")]).id("é,x=@1"),
    case("an id whose line has ended counts only at the blank line", b"id: 1\n", &[]),
    case("the id of an unfinished event does not count", b"id: 1\n\nid: 2\ndata: a\n", &[]).id("1"),
    // Retry.
    case("a reconnection time", b"retry: 1000\n\n", &[]).retry(1000),
    case("a reconnection time with an event", b"retry: 1000\ndata: a\n\n", &[("", "message", "a")]).retry(1000),
    case("the last reconnection time counts", b"retry: 1\nretry: 2\n\nretry: 3\n\n", &[]).retry(3),
    case("zero is a reconnection time", b"retry:0\n\n", &[]).retry(0),
    case("leading zeros are digits", b"retry: 0010\n\n", &[]).retry(10),
    case("only digits are a reconnection time", b"retry: +5\nretry: -5\nretry: 5.0\nretry: 5s\nretry: 0x5\nretry: 5 \nretry:  5\n\n", &[]),
    case("other digits are no digits", "retry: \u{665}\u{ff15}\n\n".as_bytes(), &[]),
    case("an empty reconnection time is ignored", b"retry: 7\n\nretry:\nretry\n\n", &[]).retry(7),
    case("a wrong reconnection time does not spoil the event", b"retry: soon\ndata: a\n\n", &[("", "message", "a")]),
    case("a huge reconnection time is as long as can be", b"retry: 99999999999999999999999\n\n", &[]).retry(u64::MAX),
    case("a reconnection time counts at the end of its line", b"retry: 200\n", &[]).retry(200),
    case("CR ends the line of a reconnection time", b"retry: 200\r", &[]).retry(200),
    case("CR LF ends the line of a reconnection time", b"retry: 200\r\n", &[]).retry(200),
    case("a reconnection time in a block that is cut off counts", b"id: 1\n\nretry: 200\nid: 2\ndata: a\n", &[]).id("1").retry(200),
    case("a reconnection time counts before the rest of its block", b"data: a\nretry: 200\ndata: b", &[]).retry(200),
    case("the last complete line with a reconnection time counts", b"retry: 1\n\nretry: 2\nretry: 3\nretry: 4", &[]).retry(3),
    case("a reconnection time without its line end does not count", b"retry: 7\n\nretry: 200", &[]).retry(7),
    case("an unfinished line alone sets no reconnection time", b"retry: 200", &[]),
    // The end of the stream.
    case("nothing at all", b"", &[]),
    case("an event without its blank line is not dispatched", b"data: a\n\ndata: b\n", &[("", "message", "a")]),
    case("a line without its end is no line", b"data: a\n\ndata: b", &[("", "message", "a")]),
    case("a torn line end", b"data: a\n\ndata: b\r", &[("", "message", "a")]),
    case("a blank line that is torn after CR is one", b"data: a\r\n\r", &[("", "message", "a")]),
    // UTF-8.
    case("characters of two, three and four bytes", "data: é€😀\n\n".as_bytes(), &[("", "message", "é€😀")]),
    case("a byte that is not UTF-8 is replaced", b"data: a\xFFb\n\n", &[("", "message", "a\u{fffd}b")]),
    case("a character that breaks off is replaced once", b"data: \xE2\x82\n\ndata: \xF0\x9F\x98b\n\n", &[("", "message", "\u{fffd}"), ("", "message", "\u{fffd}b")]),
    case("overlong and surrogate bytes are replaced one by one", b"data: \xC0\xAF\n\ndata: \xED\xA0\x80\n\n", &[("", "message", "\u{fffd}\u{fffd}"), ("", "message", "\u{fffd}\u{fffd}\u{fffd}")]),
    case("a continuation byte alone is replaced", b"data: \x80\xBFa\n\n", &[("", "message", "\u{fffd}\u{fffd}a")]),
    case("bytes that are not UTF-8 in a name make it unknown", b"dat\xFFa: a\ndata: b\n\n", &[("", "message", "b")]),
    case("bytes that are not UTF-8 in type and id are replaced", b"event: a\xFF\nid: b\xFE\ndata: c\n\n", &[("b\u{fffd}", "a\u{fffd}", "c")]).id("b\u{fffd}"),
    case("what follows bytes that are not UTF-8 is read on", b"data: \xFF\xFE\n\ndata: a\n\n", &[("", "message", "\u{fffd}\u{fffd}"), ("", "message", "a")]),
    // The examples of the standard, and servers of the field.
    case("the standard's stocks", b"data: YHOO\ndata: +2\ndata: 10\n\n", &[("", "message", "YHOO\n+2\n10")]),
    case("the standard's four blocks", b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n", &[("1", "message", "first event"), ("", "message", "second event"), ("", "message", " third event")]),
    case("the standard's empty events", b"data\n\ndata\ndata\n\ndata:", &[("", "message", ""), ("", "message", "\n")]),
    case("Flask-SSE", b"event:click\ndata:{\"a\": \"\\u00e9\"}\nid:7\nretry:3000\n\n", &[("7", "click", "{\"a\": \"\\u00e9\"}")]).id("7").retry(3000),
    case("sse-server", b"retry: 3000\nid: 0-0\n: channel sse\n\nid: 1-0\nevent: click\ndata: a\n\n:\n\nid: 2-0\n\n", &[("1-0", "click", "a")]).id("2-0").retry(3000),
    case("django-eventstream", b"event: stream-open\ndata:\n\nevent: keep-alive\ndata:\n\n", &[("", "stream-open", ""), ("", "keep-alive", "")]),
];
