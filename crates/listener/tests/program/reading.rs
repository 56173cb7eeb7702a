//! Bytes are read by the standard, through the real client and however the reads cut them.

use crate::support::{Listener, Server};

/// What is printed for a stream that comes in pieces of so many bytes, up to an event that marks the end.
fn printed(stream: &[u8], piece_bytes: usize) -> String {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--format", "json"]);
    let mut exchange = server.stream("");
    for piece in stream.chunks(piece_bytes) {
        exchange.send(piece);
    }
    exchange.send("\n\nevent: end\ndata\n\n");
    let mut printed = String::new();
    loop {
        let line = listener.line();
        if line.contains("\"event\":\"end\"") {
            return printed;
        }
        printed.push_str(&line);
    }
}

fn message(id: &str, data: &str) -> String {
    format!("{{\"id\":\"{id}\",\"event\":\"message\",\"data\":\"{data}\"}}\n")
}

fn assert_printed(stream: &[u8], expected: &[String]) {
    for piece_bytes in [stream.len(), 1] {
        let printed = printed(stream, piece_bytes);
        assert_eq!(printed, expected.concat(), "{} by {piece_bytes}", stream.escape_ascii());
    }
}

#[test]
fn every_line_end_ends_a_line() {
    let expected = [message("7", "a\\nb"), message("7", "c")];
    assert_printed(b"id: 7\ndata: a\ndata: b\n\ndata: c\n\n", &expected);
    assert_printed(b"id: 7\rdata: a\rdata: b\r\rdata: c\r\r", &expected);
    assert_printed(b"id: 7\r\ndata: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", &expected);
    assert_printed(b"id: 7\rdata: a\r\ndata: b\n\r\ndata: c\n\r", &expected);
}

#[test]
fn a_byte_order_mark_is_stripped_once() {
    assert_printed(b"\xEF\xBB\xBFdata: a\n\n", &[message("", "a")]);
    assert_printed(b"data: a\n\n\xEF\xBB\xBFdata: b\n\ndata: c\n\n", &[message("", "a"), message("", "c")]);
}

#[test]
fn invalid_utf8_is_replaced_and_does_not_stall() {
    assert_printed(b"data: a\xFFb\n\ndata: \xE2\x82\xAC\n\n", &[message("", "a\u{fffd}b"), message("", "\u{20ac}")]);
}

#[test]
fn what_a_parser_ignores_is_ignored() {
    let stream = b": comment\n\nevent: no data\n\nfoo: bar\nid: 1\0\ndata:a\n\nretry: soon\ndata:  b\n\n";
    assert_printed(stream, &[message("", "a"), message("", " b")]);
}

#[test]
fn an_event_that_is_not_finished_is_not_printed() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--count", "1"]);
    server.stream("retry: 1\n\nevent: torn\ndata: torn\n").end();
    let _stream = server.stream("event: whole\ndata: whole\n\n");
    assert_eq!(listener.ended().stdout, "event: whole \ndata: whole\n");
}

#[test]
fn an_event_beyond_the_limit_is_an_error() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url()]);
    let mut stream = server.stream("data: a\n\n");
    let limit = 16 << 20;
    let largest = format!("data: {}", "x".repeat(limit - "data: ".len()));
    for piece in largest.as_bytes().chunks(1 << 20) {
        stream.send(piece);
    }
    // So far it is just as large as it may be.
    stream.send("x");
    let ended = listener.ended();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), "event: message \ndata: a\n"));
    assert!(ended.stderr.contains("an event is larger than 16777216 bytes; --max-event-size"), "{ended:?}");
}

#[test]
fn the_limit_can_be_set() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--max-event-size", "1KiB"]);
    let whole = format!("data: {}\n", "x".repeat(1024 - "data: \n".len()));
    let mut stream = server.stream(format!("{whole}\n"));
    assert_eq!([listener.line(), listener.line()].concat(), format!("event: message \n{whole}"));
    stream.send(format!("data: {}", "x".repeat(1024)));
    let ended = listener.ended();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("an event is larger than 1024 bytes; --max-event-size"), "{ended:?}");
}
