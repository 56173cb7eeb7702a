//! Streams that end or are cut are resumed with their last event id, and counted.

use crate::{
    raw::{RawServer, STREAM, chunked},
    run::{Bench, event, events},
    support::Server,
};

#[test]
fn a_stream_that_the_server_ends_is_resumed_after_its_last_event() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "4", "--last-event-id", "start"]);
    let mut stream = server.request();
    assert_eq!(stream.header("last-event-id"), Some("start"));
    stream.open_stream();
    stream.send(format!("retry: 0\n\n{}", events(0..2)));
    stream.end();
    let mut stream = server.request();
    assert_eq!(stream.header("last-event-id"), Some("1"));
    stream.open_stream();
    stream.send("id: 77\n\nid: 88\ndata: unfinished\n");
    // Closed in the middle of the body.
    drop(stream);
    let mut stream = server.request();
    assert_eq!(stream.header("last-event-id"), Some("77"));
    stream.open_stream();
    stream.send(events(2..4));
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(
        done.numbers([
            "/ends/by_server",
            "/ends/broken_total",
            "/connects/resumed_with_id"
        ]),
        [1, 1, 2]
    );
    assert_eq!(
        done.numbers(["/events/total", "/loss/lost/total", "/back_after_end/count"]),
        [4, 0, 2]
    );
}

#[test]
fn without_an_id_a_reconnect_has_none_and_the_loss_is_found() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "2"]);
    let without_id = |number: u64| event(number).replace(&format!("id: {number}\n"), "retry: 0\n");
    server.stream(without_id(0)).end();
    let mut stream = server.request();
    assert_eq!(stream.header("last-event-id"), None);
    stream.open_stream();
    stream.send(without_id(5));
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(
        done.numbers(["/connects/resumed_with_id", "/connects/reopened_without_id"]),
        [0, 1]
    );
    assert_eq!(
        done.numbers(["/loss/lost/total", "/loss/lost/across_reconnect"]),
        [4, 4]
    );
    assert_eq!(
        done.report["loss"]["connections"][0]["lost_ranges"][0]["circumstance"],
        "across_reconnect"
    );
}

#[test]
fn a_storm_cuts_and_resumes_at_once() {
    let server = RawServer::start();
    let bench = Bench::at(
        &[&server.url()],
        &[
            "--connections",
            "4",
            "--cut-every",
            "50ms",
            "--cut-share",
            "50%",
            "--seed",
            "7",
            "--count",
            "4",
        ],
    );
    // One event per stream: a connection receives the next event only after a cut.
    let mut open = Vec::new();
    server.respond_to_all(move |mut request| {
        let next = request
            .last_event_id
            .as_ref()
            .map_or(0, |id| id.parse::<u64>().expect("ours") + 1);
        request.send(STREAM.to_owned() + &chunked(&event(next), 1000));
        open.push(request);
    });
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(
        done.numbers([
            "/events/total",
            "/loss/lost/total",
            "/loss/twice",
            "/loss/out_of_order"
        ]),
        [16, 0, 0, 0]
    );
    let [cut, back, with_id] = done.numbers([
        "/ends/cut_by_us",
        "/back_after_cut/count",
        "/connects/resumed_with_id",
    ]);
    assert!(cut >= 12 && (back, with_id) == (cut, cut), "{done:#?}");
    assert_eq!(
        done.numbers(["/ends/by_server", "/ends/broken_total", "/seed"]),
        [0, 0, 7]
    );
}

#[test]
fn a_silent_stream_counts_as_broken() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--idle-timeout", "200ms", "--count", "2"]);
    let _silent = server.stream(format!("retry: 0\n\n{}", event(0)));
    let mut stream = server.request();
    assert_eq!(stream.header("last-event-id"), Some("0"));
    stream.open_stream();
    stream.send(event(1));
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(done.number("/ends/broken/no bytes for --idle-timeout"), 1);
}
