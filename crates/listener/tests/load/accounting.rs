//! Numbered events: the lost, repeated and late ones are found exactly, on each connection.

use serde_json::json;

use crate::{
    run::{Bench, Done, event, events},
    support::{Exchange, Server},
};

/// Runs a connection that receives events with these numbers.
fn got(numbers: &[u64], arguments: &[&str]) -> Done {
    let server = Server::start();
    let count = numbers.len().to_string();
    let bench = Bench::start(&server, &[&["--count", &count], arguments].concat());
    let _stream = server.stream(events(numbers.iter().copied()));
    bench.wait_for_end()
}

#[test]
fn lost_repeated_and_late_events_are_found() {
    let done = got(&[5, 6, 9, 8, 8, 12, 3], &["--expect-no-loss"]);
    done.assert_code(1);
    assert!(done.ended.stderr.contains("--expect-no-loss"), "{done:?}");
    let loss = &done.report["loss"];
    assert_eq!(
        loss["lost"],
        json!({"total": 3, "announced": 0, "across_reconnect": 0, "while_open": 3}),
        "{loss:#}"
    );
    assert_eq!(done.numbers(["/loss/twice", "/loss/out_of_order"]), [1, 2]);
    let trouble = &loss["connections"][0];
    assert_eq!(
        (&trouble["connection"], &trouble["publisher"]),
        (&json!(0), &json!("p"))
    );
    assert_eq!(
        trouble["lost_ranges"],
        json!([
            {"first": 7, "last": 7, "circumstance": "while_open"},
            {"first": 10, "last": 11, "circumstance": "while_open"},
        ])
    );
    assert_eq!(trouble["twice_ranges"], json!([{"first": 8, "last": 8}]));
    let text = &done.ended.stdout;
    assert!(
        text.contains("connection 0 of p: lost 3 (7, 10-11) twice 1 (8) out of order 2"),
        "{text}"
    );
}

#[test]
fn a_run_without_loss_succeeds() {
    let done = got(&[5, 6, 7], &["--expect-no-loss"]);
    done.assert_code(0);
    assert!(
        done.ended
            .stdout
            .contains("whole, once and in order on 1 of 1 connections"),
        "{done:?}"
    );
    assert_eq!(done.report["loss"]["connections"], json!([]));
}

#[test]
fn a_run_without_numbered_events_proves_nothing() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "1", "--expect-no-loss"]);
    let _stream = server.stream("data: a\n\n");
    let done = bench.wait_for_end();
    done.assert_code(1);
    assert!(done.ended.stderr.contains("no numbered events"), "{done:?}");
}

#[test]
fn loss_in_an_announced_gap_is_counted_separately() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "3"]);
    let gap = "event: gap\ndata: {\"channel\":\"sse\",\"after\":\"1-0\",\"oldest\":\"5-0\",\"reason\":\"trimmed\"}\n\n";
    let _stream = server.stream([&events([0]), gap, &events([4, 6])].concat());
    let done = bench.wait_for_end();
    assert_eq!(done.numbers(["/gaps/trimmed", "/events/total"]), [1, 3]);
    assert_eq!(
        done.numbers(["/loss/lost/announced", "/loss/lost/while_open"]),
        [3, 1]
    );
}

#[test]
#[cfg(unix)]
fn every_connection_must_receive_what_any_connection_received_until_the_end() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--connections", "3", "--settle", "200ms"]);
    let mut streams: Vec<_> = (0..3).map(|_| server.request()).collect();
    // All streams are open before the first event.
    for stream in &mut streams {
        stream.open_stream();
        stream.send("retry: 0\n\n");
    }
    let come_back = |stream: Exchange| {
        stream.end();
        let mut stream = server.request();
        stream.open_stream();
        stream
    };
    let mut streams: Vec<_> = streams.into_iter().map(come_back).collect();
    // The events have no time, so an event may have been sent before a stream opened.
    let unstamped = |numbers| events(numbers).replace(",\"sent_us\":1", "");
    streams[0].send(unstamped(0..5));
    streams[1].send(unstamped(0..3));
    // A connection that comes back has read everything that was sent before its stream ended.
    let _streams: Vec<_> = streams.into_iter().map(come_back).collect();
    bench.interrupt();
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(done.report["ended_by"], "signal");
    assert_eq!(
        done.numbers([
            "/loss/publishers/0/target",
            "/loss/publishers/0/connections"
        ]),
        [4, 3]
    );
    assert_eq!(
        done.numbers(["/loss/lost/total", "/loss/connections_unlisted"]),
        [7, 0]
    );
    let mut lost = [0, 1].map(|nth| done.number(&format!("/loss/connections/{nth}/lost/total")));
    lost.sort_unstable();
    assert_eq!(lost, [2, 5]);
}

#[test]
#[cfg(unix)]
fn the_grace_period_lasts_until_all_connections_have_caught_up() {
    let server = Server::start();
    let bench = Bench::start(
        &server,
        &["--connections", "2", "--settle", "1h", "--expect-no-loss"],
    );
    let streams = [server.stream("retry: 0\n\n"), server.stream("retry: 0\n\n")];
    let [mut ahead, mut behind] = streams;
    ahead.send(events(0..3));
    behind.send(events(0..1));
    ahead.end();
    let _ahead = server.stream("");
    behind.end();
    let mut behind = server.stream("");
    bench.interrupt();
    // Nothing shows that the grace period has begun; the missing events arrive before or during it.
    behind.send(events(1..3));
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(done.numbers(["/events/total", "/loss/lost/total"]), [6, 0]);
}

/// Opens streams, of which the load test has read the heads before anything else is sent.
#[cfg(unix)]
fn open_streams(server: &Server, count: usize) -> Vec<Exchange> {
    let first: Vec<_> = (0..count).map(|_| server.stream("retry: 0\n\n")).collect();
    // A connection that comes back has read the head of its first response.
    first.into_iter().for_each(Exchange::end);
    (0..count).map(|_| server.stream(": open\n\n")).collect()
}

/// Numbered events of a publisher that are sent now.
#[cfg(unix)]
fn sent_now(publisher: &str, numbers: std::ops::Range<u64>) -> String {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock after 1970");
    let event = |number| {
        let sent_us = since.as_micros();
        format!(
            "data: {{\"publisher\":\"{publisher}\",\"sequence\":{number},\"sent_us\":{sent_us}}}\n\n"
        )
    };
    numbers.map(event).collect()
}

/// Ends the streams and waits until they come back, which proves that everything was read.
#[cfg(unix)]
fn come_back(server: &Server, streams: Vec<Exchange>) -> Vec<Exchange> {
    streams
        .into_iter()
        .map(|stream| {
            stream.end();
            server.stream(": back\n\n")
        })
        .collect()
}

#[test]
#[cfg(unix)]
fn an_open_stream_that_receives_nothing_has_lost_everything() {
    let server = Server::start();
    let bench = Bench::start(
        &server,
        &["--connections", "5", "--settle", "50ms", "--expect-no-loss"],
    );
    let mut streams = open_streams(&server, 5);
    streams[1..]
        .iter_mut()
        .for_each(|stream| stream.send(sent_now("p", 0..100)));
    let _streams = come_back(&server, streams);
    bench.interrupt();
    let done = bench.wait_for_end();
    done.assert_code(1);
    assert_eq!(
        done.numbers(["/loss/lost/total", "/loss/publishers/0/connections"]),
        [100, 5]
    );
    assert_eq!(
        done.numbers([
            "/loss/publishers/0/clean_connections",
            "/loss/connections/0/lost/total"
        ]),
        [4, 100]
    );
    assert_eq!(
        done.numbers([
            "/loss/connections/0/lost_ranges/0/first",
            "/loss/connections/0/lost_ranges/0/last"
        ]),
        [0, 99]
    );
    assert!(
        done.ended.stdout.contains("of p: lost 100 (0-99)"),
        "{done:?}"
    );
}

#[test]
#[cfg(unix)]
fn what_is_missing_at_the_head_of_an_open_stream_is_lost() {
    let server = Server::start();
    let bench = Bench::start(
        &server,
        &["--connections", "5", "--settle", "50ms", "--expect-no-loss"],
    );
    let mut streams = open_streams(&server, 5);
    let all = sent_now("p", 0..100);
    streams[1..]
        .iter_mut()
        .for_each(|stream| stream.send(&*all));
    streams[0].send(sent_now("p", 5..100));
    let _streams = come_back(&server, streams);
    bench.interrupt();
    let done = bench.wait_for_end();
    done.assert_code(1);
    assert!(done.ended.stdout.contains("of p: lost 5 (0-4)"), "{done:?}");
    assert_eq!(
        done.numbers(["/loss/lost/total", "/loss/publishers/0/clean_connections"]),
        [5, 4]
    );
}

#[test]
#[cfg(unix)]
fn the_grace_period_includes_connections_without_any_event_of_a_publisher() {
    let server = Server::start();
    let bench = Bench::start(
        &server,
        &["--connections", "5", "--settle", "1h", "--expect-no-loss"],
    );
    let mut streams = open_streams(&server, 5);
    let event = sent_now("p2", 0..1);
    let mut first = streams.remove(0);
    first.send(&*event);
    let _first = come_back(&server, vec![first]);
    bench.interrupt();
    for stream in &mut streams {
        stream.send(&*event);
    }
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(
        done.numbers([
            "/events/total",
            "/loss/lost/total",
            "/loss/publishers/0/clean_connections"
        ]),
        [5, 0, 5]
    );
}

#[test]
#[cfg(unix)]
fn a_stream_that_opens_with_its_first_event_has_not_lost_earlier_ones() {
    let server = Server::start();
    let bench = Bench::start(
        &server,
        &["--connections", "2", "--settle", "1h", "--expect-no-loss"],
    );
    let requests = [server.request(), server.request()];
    // The events are sent before the heads, as by Flask-SSE.
    let (all, rest) = (sent_now("p", 0..10), sent_now("p", 4..10));
    let streams = requests
        .into_iter()
        .zip([all, rest])
        .map(|(mut stream, events)| {
            stream.open_stream();
            stream.send("retry: 0\n\n".to_owned() + &events);
            stream
        });
    let _streams = come_back(&server, streams.collect());
    bench.interrupt();
    let done = bench.wait_for_end();
    done.assert_code(0);
    assert_eq!(
        done.numbers(["/loss/lost/total", "/loss/publishers/0/clean_connections"]),
        [0, 2]
    );
}

#[test]
fn behind_a_filter_loss_is_not_judged() {
    let done = got(&[1, 9], &["--event", "tick"]);
    done.assert_code(0);
    assert_eq!(done.report["loss"]["judged"], false);
    assert!(
        done.ended
            .stdout
            .contains("not judged: the server leaves out events"),
        "{done:?}"
    );
}

#[test]
fn behind_a_filter_that_passes_all_loss_is_judged() {
    let done = got(
        &[1, 2, 9],
        &["--event", "tick", "--filter-passes-all", "--expect-no-loss"],
    );
    done.assert_code(1);
    assert_eq!(done.number("/loss/lost/while_open"), 6, "{done:?}");
}

#[test]
fn stamps_are_found_when_the_data_is_encoded_twice() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "2"]);
    let twice = |number: u64| {
        let inner =
            format!(r#"{{"publisher":"p","sequence":{number},"sent_us":1700000000000000}}"#);
        format!("data: {}\n\n", serde_json::to_string(&inner).expect("JSON"))
    };
    let _stream = server.stream(twice(0) + &twice(2));
    let done = bench.wait_for_end();
    assert_eq!(done.numbers(["/loss/lost/total", "/latency/count"]), [1, 2]);
}

#[test]
fn any_key_may_hold_the_time() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "3", "--time-field", "at"]);
    let _stream = server.stream(
        "data: {\"at\":\"2023-11-14T22:13:20Z\"}\n\ndata: {\"at\":1700000000.5}\n\ndata: {\"at\":99999999999999}\n\n",
    );
    let done = bench.wait_for_end();
    assert_eq!(
        done.numbers(["/latency/count", "/events_from_the_future"]),
        [2, 1]
    );
}

#[test]
fn an_event_counts_once_per_connection() {
    let server = Server::start();
    let bench = Bench::start(&server, &["--count", "2", "--connections", "2"]);
    let _streams = [
        server.stream(event(0) + &event(1)),
        server.stream(event(0) + &event(1)),
    ];
    assert_eq!(
        bench
            .wait_for_end()
            .numbers(["/events/total", "/loss/publishers/0/clean_connections"]),
        [4, 2]
    );
}
