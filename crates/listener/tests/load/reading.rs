//! Heads and chunks are read wherever the network splits them.

use crate::{
    raw::{RawServer, STREAM, chunked},
    run::{Bench, event, events},
    support::Server,
};

const BODIES: [(&str, &str); 3] = [
    ("Transfer-Encoding: chunked", "chunked"),
    ("Content-Length: 100000", "plain"),
    ("X-Until: close", "plain"),
];

fn head(framing: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n\r\n")
}

#[test]
fn a_response_is_read_byte_by_byte_with_every_framing() {
    for (framing, form) in BODIES {
        let server = RawServer::start();
        let bench = Bench::at(&[&server.url()], &["--count", "3"]);
        let mut request = server.next_request();
        let body = format!(": hello\n\n{}", events(0..3));
        let response = head(framing)
            + &if form == "chunked" {
                chunked(&body, 7)
            } else {
                body
            };
        for byte in response.bytes() {
            request.send([byte]);
        }
        let done = bench.wait_for_end();
        done.assert_code(0);
        assert_eq!(
            done.numbers([
                "/events/total",
                "/events/by_type/tick",
                "/comments",
                "/connects/opened"
            ]),
            [3, 3, 1, 1],
            "{framing}"
        );
        // The connection is done after the last event, and may close before the end of the body.
        let (wire, all) = (done.number("/bytes/wire"), response.len() as u64);
        assert!((all - 8..=all).contains(&wire), "{wire} of {all}");
    }
}

#[test]
fn a_response_is_read_wherever_it_is_cut() {
    let response = STREAM.to_owned() + &chunked(&events(0..2), 40);
    let server = RawServer::start();
    let connections = response.len() - 1;
    let bench = Bench::at(
        &[&server.url()],
        &["--count", "2", "--connections", &connections.to_string()],
    );
    let mut all: Vec<_> = (0..connections).map(|_| server.next_request()).collect();
    for (at, request) in all.iter_mut().enumerate() {
        request.send(&response.as_bytes()[..=at]);
    }
    for (at, request) in all.iter_mut().enumerate() {
        request.send(&response.as_bytes()[at + 1..]);
    }
    let done = bench.wait_for_end();
    done.assert_code(0);
    let connections = connections as u64;
    assert_eq!(
        done.numbers(["/connections/opened", "/events/total"]),
        [connections, 2 * connections]
    );
    assert_eq!(
        done.numbers(["/loss/lost/total", "/loss/publishers/0/clean_connections"]),
        [0, connections]
    );
}

#[test]
fn another_protocol_is_reported() {
    let server = Server::start();
    let bench = Bench::start(&server, &[]);
    server.request().send_as_they_are("SSH-2.0-OpenSSH_9.2\r\n");
    let done = bench.wait_for_end();
    done.assert_code(1);
    assert_eq!(
        done.number("/connects/failed/the response is not HTTP~11.1"),
        1
    );
}

#[test]
fn an_endless_head_and_an_endless_event_close_the_connection() {
    let server = RawServer::start();
    let bench = Bench::at(&[&server.url()], &[]);
    let mut request = server.next_request();
    request.send("HTTP/1.1 200 OK\r\nX: ");
    request
        .send_until_closed("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    let done = bench.wait_for_end();
    done.assert_code(1);
    assert_eq!(
        done.number("/connects/failed/the head of the response is too large"),
        1
    );

    let server = Server::start();
    let bench = Bench::start(&server, &["--max-event-size", "1KiB", "--count", "2"]);
    server
        .stream(format!("retry: 0\n\n{}", event(0)))
        .send_until_closed("data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n");
    let _stream = server.stream(event(1));
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(
        done.numbers([
            "/ends/broken/an event is larger than --max-event-size",
            "/events/total"
        ]),
        [1, 2]
    );
}
