//! stdout contains exactly the events, as they arrive.

use crate::support::{Listener, Reading, Server};

#[test]
fn text_is_the_output_of_the_tutorial_byte_for_byte() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--count", "3"]);
    let _stream = server.stream(
        "id: 1-0\nevent: click\ndata: \"user_id: 662509bb, timestamp: 08-Mar-2022 (12:30:56.760261)\"\n\n\
         : heartbeat\n\ndata: one\ndata: two\n\nevent: view\ndata\n\n",
    );
    let ended = listener.wait_for_end();
    assert_eq!(
        ended.stdout,
        "event: click \ndata: \"user_id: 662509bb, timestamp: 08-Mar-2022 (12:30:56.760261)\"\n\
         event: message \ndata: one\ntwo\nevent: view \ndata: \n"
    );
    assert_eq!(ended.code, Some(0));
}

#[test]
fn json_is_one_object_per_line() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--format", "json", "--count", "2"]);
    let _stream = server.stream("event: a\ndata: {\"b\": 1}\n\nid: 1-0\ndata: é\ndata: \"\n\n");
    let ended = listener.wait_for_end();
    assert_eq!(
        ended.stdout,
        "{\"id\":\"\",\"event\":\"a\",\"data\":\"{\\\"b\\\": 1}\"}\n\
         {\"id\":\"1-0\",\"event\":\"message\",\"data\":\"é\\n\\\"\"}\n"
    );
}

#[test]
fn count_ends_the_listener_after_exactly_that_many_events() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--count", "2"]);
    let _stream = server.stream("data: a\n\ndata: b\n\ndata: c\n\n");
    let ended = listener.wait_for_end();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (
            Some(0),
            "event: message \ndata: a\nevent: message \ndata: b\n"
        )
    );
}

#[test]
fn an_event_is_printed_before_the_next_one_arrives() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url()]);
    let mut stream = server.stream("data: a\n\n");
    assert_eq!(
        [listener.line(), listener.line()].concat(),
        "event: message \ndata: a\n"
    );
    stream.send("data: b\n\n");
    assert_eq!(
        [listener.line(), listener.line()].concat(),
        "event: message \ndata: b\n"
    );
}

#[test]
fn a_pipe_receives_control_characters_unchanged() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--count", "1"]);
    let _stream = server.stream("data: \x1b[31mred\x1b[0m\n\n");
    assert_eq!(
        listener.wait_for_end().stdout,
        "event: message \ndata: \x1b[31mred\x1b[0m\n"
    );
}

#[test]
fn a_closed_pipe_ends_the_listener_quietly() {
    let server = Server::start();
    let listener = Listener::spawn(
        &mut Listener::command(&["--url", &server.url()]),
        Reading::Lines(2),
    );
    let stream = server.stream("data: a\n\n");
    assert_eq!(
        [listener.line(), listener.line()].concat(),
        "event: message \ndata: a\n"
    );
    listener.stdout_closed();
    let sending = std::thread::spawn(move || stream.send_until_closed("data: b\n\n"));
    let ended = listener.wait_for_end();
    sending.join().unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        ended.stderr.lines().count(),
        1,
        "only that it is connected: {ended:?}"
    );
}

#[test]
fn a_closed_stderr_is_ignored() {
    let server = Server::start();
    let mut command = Listener::command(&["--url", &server.url(), "--count", "1"]);
    let listener = Listener::spawn_without_stderr(&mut command);
    let _stream = server.stream("data: a\n\n");
    let ended = listener.wait_for_end();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "event: message \ndata: a\n")
    );
}

#[test]
fn data_format_prints_only_data() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--format", "data", "--count", "2"]);
    let _stream = server.stream("event: a\ndata: one\ndata: two\n\n: c\n\nid: 1\ndata\n\n");
    assert_eq!(listener.wait_for_end().stdout, "one\ntwo\n\n");
}

#[test]
fn raw_format_prints_the_bytes_without_an_unfinished_block() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--format", "raw", "--count", "2"]);
    let mut stream = server.stream("\u{feff}retry: 1\r\n\r\n: hello\nfoo: bar\n");
    // Comments and unknown fields belong to no event, so they are not held.
    let lines: Vec<_> = (0..4).map(|_| listener.line()).collect();
    assert_eq!(
        lines.concat(),
        "\u{feff}retry: 1\r\n\r\n: hello\nfoo: bar\n"
    );
    stream.send("data: a\n\nid: 7\nda");
    assert_eq!([listener.line(), listener.line()].concat(), "data: a\n\n");
    stream.send("ta: torn\n");
    drop(stream);
    let _stream = server.stream("\u{feff}event: b\ndata: b\n\ndata: c\n\n");
    let ended = listener.wait_for_end();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "event: b\ndata: b\n\n")
    );
}

#[test]
fn raw_format_holds_no_more_bytes_than_the_size_limit_of_an_event() {
    let server = Server::start();
    let listener = Listener::start(&[
        "--url",
        &server.url(),
        "--format",
        "raw",
        "--max-event-size",
        "1KiB",
    ]);
    server
        .stream("data: a\n\ndata: b\n")
        .send_until_closed(": within an event, for ever\n");
    let ended = listener.wait_for_end();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(1), "data: a\n\n")
    );
    assert!(
        ended
            .stderr
            .contains("larger than 1024 bytes; --max-event-size"),
        "{ended:?}"
    );
}

#[test]
fn comments_are_printed_in_their_place() {
    let server = Server::start();
    let listener = Listener::start(&["--url", &server.url(), "--show-comments", "--count", "1"]);
    let mut stream = server.stream(":one\n");
    assert_eq!(listener.line(), ": one\n");
    stream.send("\ndata: a\n: two\n\n");
    assert_eq!(
        listener.wait_for_end().stdout,
        ": two\nevent: message \ndata: a\n"
    );
}

#[test]
fn a_closed_pipe_ends_the_listener_even_without_events() {
    let server = Server::start();
    let mut command = Listener::command(&["--url", &server.url()]);
    let listener = Listener::spawn(&mut command, Reading::Lines(2));
    let _stream = server.stream("data: a\n\n");
    assert_eq!(
        [listener.line(), listener.line()].concat(),
        "event: message \ndata: a\n"
    );
    assert_eq!(listener.wait_for_end().code, Some(0));
}
